/**
 * What the whole proxy does: rates, what was spared, and how many circuits are in which state.
 */

import { Chart } from "./chart.js";
import { byId, make, setAttribute, setText } from "./dom.js";
import { Rates } from "./rates.js";
import { makeBadge, showState } from "./shapes.js";
import { duration, now, waiting } from "./times.js";
import { STATES, count, counted, rate } from "./words.js";

export class Totals {
  /** @param {(state: string) => void} onState the circuits in a state are asked for; "" are all. */
  constructor(onState) {
    this.rates = new Rates();
    this.chart = new Chart(byId("chart"), byId("chart-moment"));
    /** @type {Map<string, {button: HTMLElement, number: HTMLElement}>} */
    this.states = new Map();
    for (const state of Object.keys(STATES)) {
      const badge = makeBadge();
      showState(badge, state);
      const number = make("b", {}, "0");
      const button = make("button", { type: "button", "aria-pressed": "false" }, badge, number);
      button.addEventListener("click", () => onState(button.getAttribute("aria-pressed") === "true" ? "" : state));
      this.states.set(state, { button, number });
      byId("states").append(make("li", {}, button));
    }
  }

  /**
   * Takes over an answer.
   * @param {import("./api.js").Circuits} answer
   */
  show(answer) {
    if (this.rates.add(answer, now() / 1000)) {
      const latest = this.rates.latest();
      for (const name of /** @type {const} */ (["calls", "failed", "rejected"])) {
        setText(byId(name), latest === null ? "–" : rate(latest[name]));
        setAttribute(byId(name), "title", `${count(answer[name])} since the start`);
      }
      this.chart.show(this.rates.columns());
    }
    setText(byId("spared"), waiting(answer.spared_s));
    const kept = answer.deferred;
    byId("kept").hidden = kept === null;
    if (kept !== null) {
      setText(byId("kept-number"), count(kept.waiting));
      setAttribute(byId("kept"), "title", `The oldest has waited for ${duration(kept.oldest_age_s)}`);
    }
    for (const [state, { button, number }] of this.states) {
      const there = answer.states[state] ?? 0;
      setText(number, count(there));
      setAttribute(button, "data-none", there === 0 ? "" : null);
      setAttribute(button, "title", `Show the ${counted(there, "circuit")} in this state`);
    }
  }

  /**
   * Which state the list is of.
   * @param {string} state "" are all.
   */
  mark(state) {
    for (const [name, { button }] of this.states) setAttribute(button, "aria-pressed", String(name === state));
  }
}
