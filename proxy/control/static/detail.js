/**
 * One circuit by itself: why it is as it is, what that cost, and what may be done to it.
 *
 * It is built once for each key that is opened; an answer only changes what has become different.
 */

import { ACTIONS } from "./dialogs.js";
import { keep, make, setAttribute, setText } from "./dom.js";
import { probeWords, splitKey } from "./row.js";
import { makeBadge, showState } from "./shapes.js";
import { makeSparkline, showWindow } from "./sparkline.js";
import { showAges, showTransitions } from "./timeline.js";
import { ago, clockTime, duration, latency, waiting } from "./times.js";
import { STATE_MEANS, causeWords, count, counted, kindWords, percent, reasonWords, refusalWords, verdictWords } from "./words.js";

/**
 * @typedef {import("./api.js").Detail} Detail
 * @typedef {import("./api.js").Action} Action
 */

export class DetailView {
  /**
   * @param {HTMLElement} place
   * @param {object} on
   * @param {() => void} on.close
   * @param {(action: Action) => void} on.act
   */
  constructor(place, { close, act }) {
    this.place = place;
    this.onClose = close;
    this.onAct = act;
    /** @type {Record<string, any>} */
    this.parts = {};
    /** @type {Detail|null} */
    this.detail = null;
    this.answeredAt = 0;
  }

  /**
   * Begins to show a circuit of which nothing is known yet.
   * @param {string} key
   */
  open(key) {
    this.detail = null;
    this.parts = makeParts();
    const { title, host, rest, close } = this.parts;
    const split = splitKey(key);
    setText(host, split.host);
    setText(rest, split.rest);
    title.title = key;
    close.addEventListener("click", () => this.onClose());
    for (const [action, button] of Object.entries(this.parts.buttons)) {
      button.addEventListener("click", () => this.onAct(/** @type {Action} */ (action)));
    }
    this.place.setAttribute("aria-label", `Circuit ${key}`);
    this.place.replaceChildren(this.parts.whole);
    this.place.hidden = false;
    title.focus({ preventScroll: true });
  }

  close() {
    this.detail = null;
    this.place.hidden = true;
    this.place.replaceChildren();
  }

  /** It is not there any more. */
  showGone() {
    setText(this.parts.story, "There is no such circuit now: it was never called, or it has left the table since.");
    this.parts.known.hidden = true;
    this.detail = null;
  }

  /**
   * @param {Detail} detail
   * @param {number} answeredAt by performance.now().
   */
  show(detail, answeredAt) {
    const { parts } = this;
    this.detail = detail;
    this.answeredAt = answeredAt;
    parts.known.hidden = false;
    showState(parts.badge, detail.state);
    parts.buttons.auto.hidden = detail.override === null;
    for (const action of ["open", "close"]) parts.buttons[action].disabled = detail.mode === "disabled";
    setText(parts.token, [detail.reason, detail.cause].filter((each) => each !== null).join(" ← "));
    const cost = [
      ["Calls that failed", failedWords(detail)],
      ["Calls refused", refusedWords(detail)],
      ["Waiting spared", detail.spared_s > 0 ? `about ${waiting(detail.spared_s)}` : "none"],
      ["Time open", detail.open_s > 0 ? duration(detail.open_s) : "none"],
    ];
    if (detail.deferred !== null) cost.push(["Kept for later", keptWords(detail.deferred)]);
    showPairs(parts.cost, cost);
    showWindow(parts.window, detail.window);
    showPairs(parts.numbers, numbers(detail));
    showKinds(parts.kinds, detail.last_failures);
    parts.noKinds.hidden = detail.last_failures.length > 0;
    showPairs(parts.refusals, detail.rejections.map(({ reason, enforced, count: refused }) => [
      enforced ? refusalWords(reason) : `would have been, but only observed: ${refusalWords(reason)}`,
      count(refused),
      `${reason}${enforced ? "" : " enforced=false"}`,
    ]));
    parts.refused.hidden = detail.rejections.length === 0;
    showTransitions(parts.transitions, detail.transitions);
    parts.noTransitions.hidden = detail.transitions.length > 0;
    showSettings(parts.settings, detail.settings);
    this.tick();
  }

  /** Time goes on. */
  tick() {
    const { detail, parts } = this;
    if (detail === null) return;
    setText(parts.story, story(detail));
    setText(parts.probe, nextWords(detail, this.answeredAt));
    setText(parts.override, overrideWords(detail, this.answeredAt));
    showAges(parts.transitions);
    showAges(parts.kinds);
  }
}

/** @param {Detail} detail */
function story(detail) {
  const isOnlyObserved = detail.mode === "observe" && (detail.state === "open" || detail.state === "half_open");
  const means = isOnlyObserved
    ? "Calls would be refused, but circuit.mode is observe: they pass"
    : /** @type {Record<string, string>} */ (STATE_MEANS)[detail.state];
  if (detail.since === null || detail.reason === null) return `${means}. It has never changed its state.`;
  const cause = detail.cause === null ? "" : ` The upstream ${causeWords(detail.cause)}.`;
  // Whose wish it is was said already.
  const reason = detail.override === null ? ` ${reasonWords(detail.reason)}.` : "";
  return `${means}, since ${clockTime(detail.since)} (${ago(detail.since)}).${reason}${cause}`;
}

/**
 * @param {Detail} detail
 * @param {number} answeredAt
 */
function nextWords(detail, answeredAt) {
  if (detail.state === "open" || detail.state === "forced_open") {
    return `Next probe: ${probeWords(detail, answeredAt)}`;
  }
  if (detail.state === "half_open") return `${counted(detail.probes_in_flight, "probe")} under way`;
  return "";
}

/**
 * @param {Detail} detail
 * @param {number} answeredAt
 */
function overrideWords({ override }, answeredAt) {
  if (override === null) return "";
  const left = override.ttl_left_s === null ? null : override.ttl_left_s - (performance.now() - answeredAt) / 1000;
  const time = left === null ? "until somebody gives it back" : `for another ${duration(left)}`;
  const note = override.note === null ? "without a note" : `“${override.note}”`;
  return `Forced ${override.force} ${time}, ${note}.`;
}

/** @param {Detail} detail */
function failedWords({ outcomes }) {
  const all = Object.values(outcomes).reduce((sum, each) => sum + each, 0);
  const failed = (outcomes.failure ?? 0) + (outcomes.throttled ?? 0);
  return `${count(failed)} of ${count(all)}`;
}

/** @param {Detail} detail */
function refusedWords({ rejected, rejections }) {
  const shadow = rejections.filter(({ enforced }) => !enforced).reduce((sum, each) => sum + each.count, 0);
  return shadow === 0 ? count(rejected) : `${count(rejected)}, and ${count(shadow)} would have been`;
}

/** @param {{waiting: number, oldest_age_s: number}} kept */
function keptWords({ waiting: number, oldest_age_s }) {
  return `${counted(number, "request")}, the oldest for ${duration(oldest_age_s)}`;
}

/** @param {Detail} detail */
function numbers(detail) {
  const ratio = detail.failure_ratio === null ? "too few calls to say" : percent(detail.failure_ratio);
  const pairs = [
    ["Window", duration(detail.window_s)],
    ["Calls in it", `${count(detail.calls)}, ${count(detail.failed)} failed, ${count(detail.slow)} slow`],
    ["Failure ratio", ratio],
    ["Failures in a row", count(detail.failures_in_a_row)],
    ["In flight", count(detail.in_flight)],
    ["Level", detail.level === 0 ? "0" : `${detail.level} (each makes an opening longer)`],
  ];
  if (detail.latency_s !== null) pairs.splice(3, 0, ["Latency", `${latency(detail.latency_s)} on average`]);
  for (const [verdict, number] of Object.entries(detail.outcomes)) {
    if (number > 0) pairs.push([`Ever ${verdictWords(verdict)}`, count(number), verdict]);
  }
  return pairs;
}

/**
 * @param {HTMLElement} list a `dl`.
 * @param {string[][]} pairs what, how much, and the token that it has in metrics and documents.
 */
function showPairs(list, pairs) {
  keep(
    list,
    pairs,
    ([what]) => what,
    ([what, , token]) => make("div", token === undefined ? {} : { title: token }, make("dt", {}, what), make("dd")),
    (item, [, much]) => setText(item.lastElementChild, much),
  );
}

/**
 * @param {HTMLElement} list
 * @param {Detail["last_failures"]} failures latest first.
 */
function showKinds(list, failures) {
  keep(
    list,
    failures,
    ({ kind }) => kind,
    ({ kind }) => {
      const age = make("time", { class: "dim" }, make("span"), " ", make("small"));
      return make("li", {}, make("b"), make("span", {}, `It ${kindWords(kind)} `, make("code", {}, kind)), age);
    },
    (item, failure) => {
      const [number, , age] = item.children;
      setText(number, `${count(failure.count)}×`);
      setAttribute(age, "datetime", failure.last_at);
      setText(age.firstElementChild, `last ${clockTime(failure.last_at)}`);
    },
  );
}

/**
 * @param {HTMLElement} body of a table.
 * @param {Detail["settings"]} settings
 */
function showSettings(body, settings) {
  keep(
    body,
    Object.entries(settings),
    ([name]) => name,
    ([name]) => make("tr", {}, make("th", { scope: "row" }, name), make("td"), make("td")),
    (row, [, { value, origin }]) => {
      setText(row.cells[1], Array.isArray(value) ? value.join(", ") || "none" : String(value ?? "none"));
      setText(row.cells[2], origin);
      setAttribute(row, "data-default", origin === "default" ? "" : null);
    },
  );
}

/** All that is to be seen of a circuit, still empty. */
function makeParts() {
  const parts = /** @type {Record<string, any>} */ ({
    host: make("span", { class: "host" }),
    rest: make("span", { class: "rest" }),
    close: make("button", { type: "button", class: "quiet", "aria-label": "Close", title: "Close (Esc)" }, "✕"),
    badge: makeBadge(),
    story: make("p", { class: "story" }, "…"),
    token: make("code"),
    probe: make("span", { class: "next" }),
    override: make("p", { class: "override" }),
    cost: make("dl", { class: "pairs" }),
    window: makeSparkline(),
    numbers: make("dl", { class: "pairs" }),
    kinds: make("ol", { class: "kinds", "aria-label": "Failures by kind" }),
    noKinds: make("p", { class: "dim" }, "None so far."),
    refusals: make("dl", { class: "pairs" }),
    transitions: make("ol", { class: "transitions", "aria-label": "Transitions" }),
    noTransitions: make("p", { class: "dim" }, "None so far."),
    settings: make("tbody"),
    buttons: {},
  });
  for (const [action, name] of Object.entries(ACTIONS)) {
    parts.buttons[action] = make("button", { type: "button", "data-action": action }, name);
  }
  parts.buttons.auto.hidden = true;
  parts.buttons.auto.className = "first";
  parts.title = make("h2", { tabindex: "-1", class: "key" }, parts.host, parts.rest);
  parts.refused = block("Refused, because", parts.refusals);
  parts.known = make(
    "div",
    { class: "known" },
    block("What it cost", parts.cost),
    block("Now", parts.window, parts.numbers),
    block("Failures by kind", parts.noKinds, parts.kinds),
    parts.refused,
    block("Transitions", parts.noTransitions, parts.transitions),
    make(
      "details",
      {},
      make("summary", {}, "Settings in force"),
      make(
        "table",
        { class: "settings", "aria-label": "Settings in force" },
        make("thead", {}, make("tr", {}, ...["Setting", "Value", "From"].map((name) => make("th", { scope: "col" }, name)))),
        parts.settings,
      ),
    ),
  );
  parts.known.hidden = true;
  parts.whole = make(
    "div",
    { class: "whole" },
    make("div", { class: "title" }, parts.title, parts.close),
    make("div", { class: "now" }, parts.badge, parts.probe),
    make("div", { class: "told" }, parts.story, make("p", { class: "dim" }, parts.token)),
    parts.override,
    make("div", { class: "acts" }, ...Object.values(parts.buttons)),
    parts.known,
  );
  return parts;
}

/**
 * @param {string} name
 * @param {...Element} children
 */
function block(name, ...children) {
  return make("div", { class: "block" }, make("h3", {}, name), ...children);
}
