/**
 * The live page, put together: what is asked of the proxy, and which part shows what of the answer.
 */

import * as api from "./api.js";
import { ActionDialog, TokenDialog } from "./dialogs.js";
import { DetailView } from "./detail.js";
import { byId, make, setText } from "./dom.js";
import { Events } from "./events.js";
import { startKeyboard } from "./keyboard.js";
import { Notice, showFirstSteps, showNoneFits } from "./notice.js";
import { Refresh } from "./refresh.js";
import { CircuitTable } from "./table.js";
import { startTheme } from "./theme.js";
import { Timeline } from "./timeline.js";
import { clockTime, setClock } from "./times.js";
import { Totals } from "./totals.js";
import { STATES, counted } from "./words.js";

const TICK_MS = 250;
// Whoever scrolls waits for the rows.
const SCROLL_GAP_MS = 80;
const SORTS = Object.freeze({
  state: "open first",
  "-since": "latest change",
  "-failure_ratio": "failure ratio",
  "-failed": "failures",
  "-calls": "calls",
  "-in_flight": "in flight",
  "-rejected": "refused",
  "-level": "level",
  key: "name",
});

const search = byId("search");
const state = byId("state");
const sort = byId("sort");
const empty = byId("empty");

/** The circuit that is shown by itself; null if none is. @type {string|null} */
let opened = null;
let proxyName = "breaker-proxy";
let isNamed = false;
let wasStale = false;
let wasTokenWrong = false;

const notice = new Notice();
const totals = new Totals((wanted) => {
  state.value = wanted;
  filter();
});
const table = new CircuitTable(
  { scroller: byId("scroller"), table: byId("circuits"), rows: byId("rows") },
  { open, range: () => refresh.soon(SCROLL_GAP_MS) },
);
const timeline = new Timeline(byId("timeline"), byId("no-transitions"), open);
const detail = new DetailView(byId("detail"), { close, act });
const actionDialog = new ActionDialog((answer) => {
  if (answer.key === opened) detail.show(answer, performance.now());
  refresh.now();
});
const tokenDialog = new TokenDialog(() => refresh.start());
const refresh = new Refresh(ask);
const events = new Events({
  transitions: (told) => {
    timeline.add(told);
    refresh.soon();
  },
  missed: (number) => {
    timeline.addMissed(number);
    // Perhaps another process answers now.
    isNamed = false;
    refresh.soon();
  },
  state: (streamState) => notice.events(streamState),
});

/**
 * Asks for all that is on the screen, and shows it.
 * @param {AbortSignal} signal
 */
async function ask(signal) {
  const query = { q: search.value.trim(), state: state.value, sort: sort.value, ...table.wanted() };
  const key = opened;
  try {
    if (!isNamed) await introduce();
    const [answer, one] = await Promise.all([api.circuits(query, signal), key === null ? null : api.circuit(key, signal)]);
    if (signal.aborted) return;
    show(answer, query.offset);
    if (key !== null && key === opened) {
      if (one === null) detail.showGone();
      else detail.show(one, performance.now());
    }
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof api.ApiError)) throw error;
    refused(error);
  }
}

/**
 * @param {api.Circuits} answer
 * @param {number} offset
 */
function show(answer, offset) {
  const answeredAt = performance.now();
  setClock(answer.at);
  notice.good();
  events.start();
  // What the proxy was before it went away may be another one now.
  if (wasStale) isNamed = false;
  wasStale = wasTokenWrong = false;
  totals.show(answer);
  table.show(answer.circuits, offset, answer.total, answeredAt);
  const all = Object.values(answer.states).reduce((sum, each) => sum + each, 0);
  setText(byId("found"), answer.total === all ? counted(all, "circuit") : `${counted(answer.total, "circuit")} of ${all}`);
  showEmpty(answer.total, all);
  const open = (answer.states.open ?? 0) + (answer.states.forced_open ?? 0);
  document.title = open > 0 ? `(${open} open) ${proxyName}` : proxyName;
}

/**
 * @param {number} total
 * @param {number} all
 */
function showEmpty(total, all) {
  const wanted = total > 0 ? "" : all > 0 ? "none fits" : "first steps";
  if (empty.dataset.shows === wanted) return;
  empty.dataset.shows = wanted;
  empty.hidden = wanted === "";
  if (wanted === "none fits") showNoneFits(empty, showAll);
  if (wanted === "first steps") void tellFirstSteps();
}

async function tellFirstSteps() {
  const proxy = await api.config().then(proxyOf, () => "127.0.0.1:3128");
  // Perhaps something else is to be told by now.
  if (empty.dataset.shows === "first steps") showFirstSteps(empty, proxy);
}

/**
 * Where clients on its machine call the proxy.
 * @param {any} config
 */
function proxyOf(config) {
  return String(config.listen.proxy).replace(/^(0\.0\.0\.0|\[::\])/, "127.0.0.1");
}

/** @param {api.ApiError} error */
function refused(error) {
  wasStale = true;
  notice.bad(error);
  if (error.status !== 401) return;
  events.stop();
  if (error.reason === "token_wrong") {
    // Perhaps none is needed any more.
    api.useToken("");
    wasTokenWrong = true;
    refresh.now();
    return;
  }
  // Until there is one there is nothing to ask.
  refresh.stop();
  tokenDialog.ask(wasTokenWrong);
  wasTokenWrong = false;
}

/** Says whose page this is. */
async function introduce() {
  const { name, version, started_at } = await api.version();
  proxyName = name;
  isNamed = true;
  setText(byId("name"), name);
  byId("name").title = name;
  setText(byId("version"), `${version}, since ${clockTime(started_at)}`);
}

/** Another list is wanted. */
function filter() {
  totals.mark(state.value);
  table.toTop();
  refresh.now();
}

function showAll() {
  search.value = "";
  state.value = "";
  filter();
}

/** @param {string} key of the circuit to be shown by itself. */
function open(key) {
  opened = key;
  document.body.toggleAttribute("data-detail", true);
  detail.open(key);
  table.markOpen(key);
  refresh.now();
}

function close() {
  if (opened === null) return;
  const hadFocus = byId("detail").contains(document.activeElement);
  opened = null;
  document.body.toggleAttribute("data-detail", false);
  detail.close();
  table.markOpen(null);
  if (hadFocus) table.focus();
}

/**
 * Asks whether to do something to the circuit that is shown by itself, or else the one that the keyboard is on.
 * @param {api.Action} action
 */
function act(action) {
  const key = opened ?? table.activeKey;
  if (key === null) return;
  const circuit = opened === null ? table.circuits.find((each) => each.key === key) : detail.detail;
  if (action === "auto" && circuit?.override == null) return;
  actionDialog.ask(key, action, circuit ?? null);
}

function openActive() {
  if (table.activeKey !== null) open(table.activeKey);
}

function start() {
  state.append(make("option", { value: "" }, "all"), ...Object.entries(STATES).map(([value, word]) => make("option", { value }, word)));
  sort.append(...Object.entries(SORTS).map(([value, word]) => make("option", { value }, word)));
  for (const input of [state, sort]) input.addEventListener("change", filter);
  search.addEventListener("input", filter);
  search.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "ArrowDown" && event.key !== "Enter") return;
    event.preventDefault();
    table.focus();
  });
  totals.mark("");
  startTheme(byId("theme"), () => totals.chart.paint());
  /** @type {HTMLDialogElement} */
  const keyboard = byId("keyboard");
  byId("help").addEventListener("click", () => keyboard.showModal());
  startKeyboard(
    [
      { keys: ["/"], does: "search", run: () => search.select() },
      { keys: ["j", "ArrowDown"], does: "next circuit", inList: true, run: () => table.move(1) },
      { keys: ["k", "ArrowUp"], does: "circuit before", inList: true, run: () => table.move(-1) },
      { keys: ["PageDown"], does: "a page further", inList: true, run: () => table.move(table.pageRows) },
      { keys: ["PageUp"], does: "a page back", inList: true, run: () => table.move(-table.pageRows) },
      { keys: ["Home"], does: "first circuit", inList: true, run: () => table.moveTo(0) },
      { keys: ["End"], does: "last circuit", inList: true, run: () => table.moveTo(Infinity) },
      { keys: ["Enter"], does: "show it by itself", inList: true, run: openActive },
      { keys: ["Escape"], does: "back to the list", run: () => (opened === null ? table.focus() : close()) },
      { keys: ["o"], does: "force it open", run: () => act("open") },
      { keys: ["c"], does: "force it closed", run: () => act("close") },
      { keys: ["r"], does: "reset it", run: () => act("reset") },
      { keys: ["g"], does: "give it back", run: () => act("auto") },
      { keys: ["t"], does: "light or dark", run: () => byId("theme").click() },
      { keys: ["?"], does: "show this", run: () => keyboard.showModal() },
    ],
    byId("scroller"),
    byId("keys"),
  );
  document.addEventListener("visibilitychange", lookAway);
  lookAway();
  setInterval(tick, TICK_MS);
}

/** Asks nothing of the proxy, and holds no stream, while nobody looks. */
function lookAway() {
  if (document.hidden) {
    refresh.stop();
    events.stop();
    document.title = proxyName;
  } else {
    // The first answer begins the events.
    refresh.start();
  }
}

function tick() {
  // What has become of it since nobody knows.
  if (document.hidden || notice.isStale) return;
  table.tick();
  timeline.tick();
  detail.tick();
}

start();
