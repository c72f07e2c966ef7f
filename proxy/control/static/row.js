/**
 * One circuit as a row of the table.
 */

import { make, setAttribute, setText } from "./dom.js";
import { makeBadge, showState } from "./shapes.js";
import { makeSparkline, showWindow } from "./sparkline.js";
import { ago, clockTime, dueAt, duration, latency, secondsLeft } from "./times.js";
import { causeWords, count, percent, reasonWords, shortCount } from "./words.js";

/**
 * What a row has that changes.
 * @typedef {object} Parts
 * @property {HTMLElement} circuit
 * @property {HTMLElement} host
 * @property {HTMLElement} rest
 * @property {HTMLElement} about
 * @property {HTMLElement} badge
 * @property {HTMLElement} since
 * @property {HTMLElement} reason
 * @property {HTMLElement} cause
 * @property {HTMLElement} ratio
 * @property {HTMLElement} counts
 * @property {SVGElement} window
 * @property {HTMLElement} inFlight
 * @property {HTMLElement} latency
 * @property {HTMLElement} probe
 */

/** @type {WeakMap<Element, Parts>} */
const PARTS = new WeakMap();
/** @type {WeakMap<Element, {circuit: import("./api.js").Circuit, answeredAt: number}>} */
const SHOWN = new WeakMap();

/** An empty row. */
export function makeRow() {
  const parts = {
    circuit: make("span", { class: "key" }),
    host: make("span", { class: "host" }),
    rest: make("span", { class: "rest" }),
    about: make("small"),
    badge: makeBadge(),
    since: make("small"),
    reason: make("span"),
    cause: make("small"),
    ratio: make("span", { class: "ratio" }),
    counts: make("small"),
    window: makeSparkline(),
    inFlight: make("span"),
    latency: make("span"),
    probe: make("span"),
  };
  parts.circuit.append(parts.host, parts.rest);
  const row = make(
    "tr",
    { role: "row", tabindex: "-1" },
    cell("circuit", parts.circuit, parts.about),
    cell("state", parts.badge, parts.since),
    cell("reason", parts.reason, parts.cause),
    cell("failures", parts.window, make("span", { class: "numbers" }, parts.ratio, parts.counts)),
    cell("in-flight", parts.inFlight),
    cell("latency", parts.latency),
    cell("probe", parts.probe),
  );
  PARTS.set(row, parts);
  return row;
}

/**
 * @param {string} name
 * @param {...Node} children
 */
function cell(name, ...children) {
  return make("td", { role: "cell", class: name }, ...children);
}

/**
 * Has a row show a circuit.
 * @param {HTMLElement} row
 * @param {import("./api.js").Circuit} circuit
 * @param {number} answeredAt when the proxy said so, by performance.now().
 */
export function showCircuit(row, circuit, answeredAt) {
  const parts = /** @type {Parts} */ (PARTS.get(row));
  SHOWN.set(row, { circuit, answeredAt });
  setAttribute(row, "data-state", circuit.state);
  const { host, rest } = splitKey(circuit.key);
  setText(parts.host, host);
  setText(parts.rest, rest);
  setAttribute(parts.circuit, "title", circuit.key);
  setText(parts.about, about(circuit));
  showState(parts.badge, circuit.state);
  setText(parts.reason, circuit.reason === null ? "" : reasonWords(circuit.reason));
  setAttribute(parts.reason, "title", circuit.reason === null ? null : `${reasonWords(circuit.reason)} (${circuit.reason})`);
  setText(parts.cause, circuit.cause === null ? (circuit.override?.note ?? "") : causeWords(circuit.cause));
  setAttribute(parts.cause, "title", circuit.cause === null ? null : `The upstream ${causeWords(circuit.cause)} (${circuit.cause})`);
  setText(parts.ratio, circuit.failure_ratio === null ? "" : percent(circuit.failure_ratio));
  setText(parts.counts, circuit.calls === 0 ? "no calls" : `${shortCount(circuit.failed)} of ${shortCount(circuit.calls)}`);
  setAttribute(parts.ratio, "data-bad", circuit.failed > 0 ? "" : null);
  showWindow(parts.window, circuit.window);
  setText(parts.inFlight, count(circuit.in_flight));
  setText(parts.latency, circuit.latency_s === null ? "–" : latency(circuit.latency_s));
  showTimes(row);
}

/**
 * Has a row show how time goes on.
 * @param {HTMLElement} row
 */
export function showTimes(row) {
  const parts = /** @type {Parts} */ (PARTS.get(row));
  const shown = SHOWN.get(row);
  if (shown === undefined) return;
  const { circuit, answeredAt } = shown;
  setText(parts.since, circuit.since === null ? "" : ago(circuit.since));
  if (circuit.since !== null) setAttribute(parts.since, "title", clockTime(circuit.since));
  setText(parts.probe, probeWords(circuit, answeredAt));
}

/**
 * When the next probe may pass, or until when an operator has it so.
 * @param {import("./api.js").Circuit} circuit
 * @param {number} answeredAt
 */
export function probeWords(circuit, answeredAt) {
  const probe = dueAt(circuit.next_probe_in_s, answeredAt);
  if (probe !== null) {
    const left = secondsLeft(probe);
    return left === 0 ? "now" : `in ${duration(left)}`;
  }
  if (circuit.state === "half_open") return "probing";
  if (circuit.override === null) return circuit.state === "open" ? "unknown" : "–";
  const end = dueAt(circuit.override.ttl_left_s, answeredAt);
  return end === null ? "until ended" : `for ${duration(secondsLeft(end))}`;
}

/**
 * The name of a host, which may be cut, and what must stay to be seen behind it.
 * @param {string} key
 */
export function splitKey(key) {
  const [, host = key, rest = ""] = /^(.*?)(:\d+(?:\+internal)?(?:#.*)?)$/.exec(key) ?? [];
  return { host, rest };
}

/** @param {import("./api.js").Circuit} circuit */
function about(circuit) {
  const said = [];
  if (circuit.mode === "observe") said.push("only observed");
  if (circuit.rejected > 0) said.push(`${count(circuit.rejected)} refused`);
  if (circuit.level > 0) said.push(`level ${circuit.level}`);
  if (said.length === 0) said.push(circuit.scope === "host" ? "host" : "endpoint");
  return said.join(" · ");
}

