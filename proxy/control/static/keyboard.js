/**
 * Everything the page does, by single keys; they are those of pagers and of mail.
 */

import { make } from "./dom.js";

/**
 * @typedef {object} Binding
 * @property {string[]} keys as KeyboardEvent.key names them.
 * @property {string} does in words.
 * @property {boolean} [inList] only where the focus is in the list or nowhere, so that buttons and lists keep theirs.
 * @property {(event: KeyboardEvent) => void} run
 */

const NAMES = /** @type {Record<string, string>} */ ({
  ArrowDown: "↓",
  ArrowUp: "↑",
  PageDown: "Page ↓",
  PageUp: "Page ↑",
  Escape: "Esc",
});

/**
 * @param {Binding[]} bindings
 * @param {HTMLElement} list where the list is.
 * @param {HTMLElement} legend a `dl` that is to name them all.
 */
export function startKeyboard(bindings, list, legend) {
  for (const { keys, does } of bindings) {
    const named = keys.flatMap((key) => [make("kbd", {}, NAMES[key] ?? key), " "]);
    legend.append(make("div", {}, make("dt", {}, ...named), make("dd", {}, does)));
  }
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog:modal") !== null) return;
    const target = /** @type {Element} */ (event.target);
    const isWriting = target.matches("input, select, textarea");
    if (isWriting && event.key !== "Escape") return;
    const isInList = target === document.body || list.contains(target);
    const binding = bindings.find(({ keys, inList }) => keys.includes(event.key) && (isInList || !inList));
    if (binding === undefined) return;
    event.preventDefault();
    binding.run(event);
  });
}
