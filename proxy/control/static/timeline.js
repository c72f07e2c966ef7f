/**
 * What has become of all circuits lately, newest first; and, in the same form, of one.
 */

import { keep, make, setText } from "./dom.js";
import { makeBadge, showState } from "./shapes.js";
import { ago, clockTime, duration } from "./times.js";
import { causeWords, count, reasonWords, stateWord } from "./words.js";

const MOST = 100;

/** @typedef {{id: string, key: string, transition: import("./api.js").Transition}|{id: string, missed: number|null}} Entry */

export class Timeline {
  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} placeholder to be seen while there is nothing.
   * @param {(key: string) => void} onOpen a circuit is asked for.
   */
  constructor(list, placeholder, onOpen) {
    this.list = list;
    this.placeholder = placeholder;
    /** @type {Entry[]} */
    this.entries = [];
    this.missed = 0;
    this.isDrawDue = false;
    list.addEventListener("click", (event) => {
      const link = /** @type {Element} */ (event.target).closest("button[data-circuit]");
      if (link instanceof HTMLElement && link.dataset.circuit !== undefined) onOpen(link.dataset.circuit);
    });
  }

  /** @param {import("./events.js").Told[]} told oldest first. */
  add(told) {
    this.#put(told.map(({ id, key, transition }) => ({ id, key, transition })));
  }

  /** @param {number|null} number how many transitions nobody kept for this page. */
  addMissed(number) {
    this.missed += 1;
    this.#put([{ id: `missed-${this.missed}`, missed: number }]);
  }

  /** Time goes on. What has come since the last tick is drawn now: in a storm, many at once. */
  tick() {
    if (this.isDrawDue) {
      this.isDrawDue = false;
      this.placeholder.hidden = this.entries.length > 0;
      keep(this.list, this.entries, (entry) => entry.id, makeEntry);
    }
    showAges(this.list);
  }

  /** @param {Entry[]} entries oldest first. */
  #put(entries) {
    this.entries = [...entries.reverse(), ...this.entries].slice(0, MOST);
    this.isDrawDue = true;
  }
}

/**
 * Shows the transitions of one circuit.
 * @param {HTMLElement} list
 * @param {import("./api.js").Transition[]} transitions newest first.
 */
export function showTransitions(list, transitions) {
  // Two may have the same time; counted from the oldest on, each keeps its number when more come.
  const entries = transitions.map((transition, index) => ({ transition, id: `${transition.at} ${transitions.length - index}` }));
  keep(list, entries, (entry) => entry.id, ({ transition }) => makeTransition(transition, []));
  showAges(list);
}

/** @param {HTMLElement} list of which each item says when it was. */
export function showAges(list) {
  for (const age of list.querySelectorAll("time")) {
    setText(/** @type {Element} */ (age.querySelector("small")), ago(age.dateTime));
  }
}

/** @param {Entry} entry */
function makeEntry(entry) {
  if ("missed" in entry) {
    const number = entry.missed === null ? "Some transitions" : `${count(entry.missed)} transitions`;
    return make("li", { class: "missed" }, `${number} were missed while this page did not listen.`);
  }
  const { key, transition } = entry;
  // No stop for Tab, of which there would be a hundred: by keyboard a circuit is found in the list.
  const link = make("button", { type: "button", class: "link key", tabindex: "-1", "data-circuit": key, title: key }, key);
  return makeTransition(transition, [link]);
}

/**
 * @param {import("./api.js").Transition} transition
 * @param {Element[]} about what stands before its words.
 */
function makeTransition(transition, about) {
  const { at, from_state, to_state, reason, cause, open_s, level, note } = transition;
  const badge = makeBadge();
  showState(badge, reason === "forced_open" || reason === "forced_closed" ? reason : to_state);
  const words = make("p", {}, make("span", { title: reason }, reasonWords(reason)));
  const more = [];
  if (cause !== null) more.push(make("span", { title: cause }, causeWords(cause)));
  if (from_state !== to_state) more.push(`was ${stateWord(from_state)}`);
  if (open_s !== null) more.push(`open for ${duration(open_s)}`);
  if (level > 1) more.push(`level ${level}`);
  for (const each of more) words.append(" · ", each);
  const time = make("time", { datetime: at, title: new Date(at).toLocaleString() }, clockTime(at), " ", make("small"));
  const item = make("li", {}, badge, time, ...about, words);
  if (note !== null) item.append(make("q", {}, note));
  return item;
}
