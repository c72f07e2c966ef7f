/**
 * The circuits as a table of which only the rows on the screen are there: 5,000 circuits take as long as 50.
 *
 * All rows are equally high, so a place in the list is a place on the screen. The one that the keyboard is on
 * (roving tabindex) is known by its key, and stays where it is while the list changes around it.
 */

import { keep, setAttribute } from "./dom.js";
import { makeRow, showCircuit, showTimes } from "./row.js";

// So many rows more than fit are there, before and behind, so that a short way finds them.
const BEYOND = 6;
// And so many are asked for, so that a longer one does.
const ASKED_BEYOND = 20;
const MOST_ASKED = 200;

export class CircuitTable {
  /**
   * @param {object} parts
   * @param {HTMLElement} parts.scroller
   * @param {HTMLElement} parts.table
   * @param {HTMLElement} parts.rows
   * @param {object} on
   * @param {(key: string) => void} on.open a circuit is asked for.
   * @param {() => void} on.range other circuits are to be seen than are known.
   */
  constructor({ scroller, table, rows }, { open, range }) {
    this.scroller = scroller;
    this.table = table;
    this.rows = rows;
    this.onOpen = open;
    this.onRange = range;
    /** @type {import("./api.js").Circuit[]} */
    this.circuits = [];
    this.offset = 0;
    this.total = 0;
    this.answeredAt = 0;
    /** @type {string|null} */
    this.activeKey = null;
    this.activeIndex = 0;
    /** @type {string|null} */
    this.openKey = null;
    this.isFocusDue = false;
    this.isDrawDue = false;
    this.rowHeight = 0;
    this.#measure();
    scroller.addEventListener("scroll", () => this.#drawSoon(), { passive: true });
    new ResizeObserver(() => this.#measure()).observe(scroller);
    rows.addEventListener("click", (event) => this.#clicked(event));
    rows.addEventListener("focusin", (event) => this.#focused(event));
  }

  /** Which circuits are to be asked for. */
  wanted() {
    const { first, last } = this.#inSight();
    const offset = Math.max(0, first - ASKED_BEYOND);
    return { offset, limit: Math.min(MOST_ASKED, Math.max(1, last + ASKED_BEYOND - offset)) };
  }

  /**
   * @param {import("./api.js").Circuit[]} circuits
   * @param {number} offset the place of the first one in the list.
   * @param {number} total how long the list is.
   * @param {number} answeredAt by performance.now().
   */
  show(circuits, offset, total, answeredAt) {
    this.circuits = circuits;
    this.offset = offset;
    this.total = total;
    this.answeredAt = answeredAt;
    setAttribute(this.table, "aria-rowcount", String(total));
    const place = circuits.findIndex((circuit) => circuit.key === this.activeKey);
    if (place >= 0 && !this.isFocusDue) this.activeIndex = offset + place;
    this.activeIndex = Math.max(0, Math.min(this.activeIndex, total - 1));
    this.#draw();
  }

  /** Another list comes: from its top. */
  toTop() {
    this.scroller.scrollTop = 0;
    this.activeKey = null;
    this.activeIndex = 0;
  }

  /** Time goes on. */
  tick() {
    for (const row of this.rows.children) showTimes(/** @type {HTMLElement} */ (row));
  }

  /**
   * Which circuit is shown by itself.
   * @param {string|null} key
   */
  markOpen(key) {
    this.openKey = key;
    for (const row of this.rows.children) this.#markRow(/** @type {HTMLElement} */ (row));
  }

  /**
   * Moves the focus by rows; the first move only goes to where it is.
   * @param {number} by
   */
  move(by) {
    const isThere = this.rows.contains(document.activeElement);
    this.moveTo(this.activeKey === null || !isThere ? this.activeIndex : this.activeIndex + by);
  }

  /**
   * Moves the focus to a row, in sight or not.
   * @param {number} index from 0; beyond the end is the end.
   */
  moveTo(index) {
    if (this.total === 0) return;
    this.activeIndex = Math.max(0, Math.min(index, this.total - 1));
    this.activeKey = this.circuits[this.activeIndex - this.offset]?.key ?? null;
    this.isFocusDue = true;
    this.#scrollTo(this.activeIndex);
    this.#draw();
  }

  /** Gives the focus back to the row that has it. */
  focus() {
    this.moveTo(this.activeIndex);
  }

  /** How many rows a page has. */
  get pageRows() {
    return Math.max(1, Math.floor(this.#height() / this.rowHeight) - 1);
  }

  #measure() {
    const height = Number.parseFloat(getComputedStyle(this.table).getPropertyValue("--row"));
    // A circuit that was at the top stays there if rows become cards.
    const top = this.rowHeight > 0 ? this.scroller.scrollTop / this.rowHeight : 0;
    const isOther = height !== this.rowHeight;
    this.rowHeight = height;
    if (isOther) this.scroller.scrollTop = top * height;
    this.#drawSoon();
  }

  #height() {
    return this.scroller.clientHeight - this.rows.offsetTop;
  }

  /** The places that are in sight: from the first on, before the last. */
  #inSight() {
    const first = Math.floor(this.scroller.scrollTop / this.rowHeight);
    // Before there are rows the table is not high; then as many as the window could have.
    const height = Math.max(this.#height(), this.total === 0 ? window.innerHeight : this.rowHeight);
    return { first, last: first + Math.ceil(height / this.rowHeight) + 1 };
  }

  /** @param {number} index */
  #scrollTo(index) {
    const top = index * this.rowHeight;
    const height = this.#height();
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    else if (top + this.rowHeight > this.scroller.scrollTop + height) {
      this.scroller.scrollTop = top + this.rowHeight - height;
    }
  }

  #drawSoon() {
    if (this.isDrawDue) return;
    this.isDrawDue = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.isDrawDue = false;
    const end = this.offset + this.circuits.length;
    // First the room: where it has just grown, more is in sight.
    const whole = this.total * this.rowHeight;
    this.rows.style.minHeight = `${whole}px`;
    const { first, last } = this.#inSight();
    const from = Math.min(end, Math.max(this.offset, first - BEYOND));
    const to = Math.max(from, Math.min(end, last + BEYOND));
    this.rows.style.paddingTop = `${from * this.rowHeight}px`;
    const shown = this.circuits.slice(from - this.offset, to - this.offset);
    const roving = this.#roving(shown, from);
    keep(
      this.rows,
      shown,
      (circuit) => circuit.key,
      makeRow,
      (row, circuit, index) => {
        showCircuit(row, circuit, this.answeredAt);
        setAttribute(row, "aria-rowindex", String(from + index + 1));
        setAttribute(row, "tabindex", circuit.key === roving ? "0" : "-1");
        this.#markRow(row);
      },
    );
    if (this.isFocusDue && this.activeIndex >= from && this.activeIndex < to) {
      this.isFocusDue = false;
      const row = /** @type {HTMLElement} */ (this.rows.children[this.activeIndex - from]);
      this.activeKey = row.dataset.key ?? null;
      row.focus({ preventScroll: true });
    }
    const isKnown = first >= this.offset && Math.min(last, this.total) <= end;
    if (!isKnown) this.onRange();
  }

  /**
   * The row that Tab leads to: the active one, or else the first that is there.
   * @param {import("./api.js").Circuit[]} shown
   * @param {number} from
   */
  #roving(shown, from) {
    if (shown.some((circuit) => circuit.key === this.activeKey)) return this.activeKey;
    return (shown[this.activeIndex - from] ?? shown[0])?.key ?? null;
  }

  /** @param {HTMLElement} row */
  #markRow(row) {
    setAttribute(row, "aria-current", row.dataset.key === this.openKey ? "true" : null);
  }

  /** @param {Event} event */
  #rowOf(event) {
    return /** @type {HTMLElement|null} */ (/** @type {Element} */ (event.target).closest("tr[data-key]"));
  }

  /** @param {Event} event */
  #clicked(event) {
    const key = this.#rowOf(event)?.dataset.key;
    // Whoever marks a text to copy it wants nothing else.
    if (key !== undefined && getSelection()?.isCollapsed !== false) this.onOpen(key);
  }

  /** @param {Event} event */
  #focused(event) {
    const row = this.#rowOf(event);
    if (row?.dataset.key === undefined) return;
    this.activeKey = row.dataset.key;
    this.activeIndex = Number(row.getAttribute("aria-rowindex")) - 1;
    for (const each of this.rows.children) setAttribute(each, "tabindex", each === row ? "0" : "-1");
  }
}
