/**
 * The state of a circuit as a badge: a word, a shape and a colour, each of which tells it by itself.
 */

import { draw, make, setAttribute, setText } from "./dom.js";
import { STATE_MEANS, stateWord } from "./words.js";

// What is open or closed is filled; what an operator forces has a hole in it; half-open is half full.
const PATHS = Object.freeze({
  open: "M7 0 14 7 7 14 0 7Z",
  forced_open: "M7 0 14 7 7 14 0 7ZM7 4 4 7l3 3 3-3Z",
  half_open: "M7 1a6 6 0 0 1 0 12A6 6 0 0 1 7 1ZM7 2.700a4.300 4.300 0 0 1 0 8.600Z",
  forced_closed: "M7 1a6 6 0 0 1 0 12A6 6 0 0 1 7 1ZM7 4.500a2.500 2.500 0 0 0 0 5 2.500 2.500 0 0 0 0-5Z",
  disabled: "M1 5.500h12v3H1Z",
  closed: "M7 2.500a4.500 4.500 0 0 1 0 9 4.500 4.500 0 0 1 0-9Z",
});

/** A badge, to be filled by `showState`. */
export function makeBadge() {
  const shape = draw("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" });
  shape.append(draw("path", { "fill-rule": "evenodd" }));
  return make("span", { class: "badge" }, shape, make("span", { class: "word" }));
}

/**
 * @param {HTMLElement} badge
 * @param {string} state
 */
export function showState(badge, state) {
  if (badge.dataset.state === state) return;
  badge.dataset.state = state;
  const path = /** @type {Record<string, string>} */ (PATHS)[state] ?? PATHS.disabled;
  setAttribute(/** @type {Element} */ (badge.querySelector("path")), "d", path);
  setText(/** @type {Element} */ (badge.querySelector(".word")), stateWord(state));
  badge.title = /** @type {Record<string, string>} */ (STATE_MEANS)[state] ?? "";
}
