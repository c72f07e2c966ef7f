/**
 * The three rates over the last minutes, drawn by uPlot (vendor/uplot).
 */

import { setText } from "./dom.js";
import { SPAN_S } from "./rates.js";
import { clockTime, now } from "./times.js";
import { rate } from "./words.js";

/** @type {any} -- what uPlot.iife.min.js defines. */
const uPlot = Reflect.get(globalThis, "uPlot");

const HEIGHT = 108;
const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
// Told apart by their dashes as well as by their colours.
const LINES = [
  { name: "calls", dash: [] },
  { name: "failed", dash: [2, 3] },
  { name: "rejected", dash: [7, 4] },
];

export class Chart {
  /**
   * @param {HTMLElement} place
   * @param {HTMLElement} caption says what is under the pointer.
   */
  constructor(place, caption) {
    this.place = place;
    this.caption = caption;
    this.still = caption.textContent ?? "";
    /** @type {any} */
    this.plot = null;
    /** @type {number[][]} */
    this.columns = [[], [], [], []];
    this.paint();
    new ResizeObserver(() => {
      const width = place.clientWidth;
      if (width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
    }).observe(place);
  }

  /** Draws it anew, in the colours of the theme. */
  paint() {
    this.plot?.destroy();
    const style = getComputedStyle(this.place);
    const faint = style.borderTopColor;
    const axis = { stroke: style.color, grid: { stroke: faint, width: 1 }, ticks: { show: false }, font: `11px ${style.fontFamily}` };
    const options = {
      width: this.place.clientWidth || 300,
      height: HEIGHT,
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { setScale: false }, points: { size: 6 } },
      scales: {
        x: { time: true, range: () => [now() / 1000 - SPAN_S, now() / 1000] },
        y: { range: (/** @type {any} */ _plot, /** @type {number} */ _low, /** @type {number} */ high) => [0, Math.max(1, (high || 0) * 1.1)] },
      },
      // Whole minutes, as the labels tell no seconds.
      axes: [
        { ...axis, size: 22, space: 70, incrs: [60, 120, 300], grid: { show: false }, values: (/** @type {any} */ _plot, /** @type {number[]} */ at) => at.map((each) => TIME.format(each * 1000)) },
        { ...axis, size: 40, space: 26, values: (/** @type {any} */ _plot, /** @type {number[]} */ at) => at.map(rate) },
      ],
      series: [{}, ...LINES.map(({ name, dash }) => ({ stroke: colorOf(name), width: 1.75, dash, points: { show: false } }))],
      hooks: { setCursor: [() => this.#tell()] },
    };
    this.plot = new uPlot(options, this.columns, this.place);
  }

  /** @param {number[][]} columns seconds, and the three rates at them. */
  show(columns) {
    this.columns = columns;
    this.plot.setData(columns);
    this.#tell();
  }

  #tell() {
    const index = this.plot?.cursor.idx;
    const [at, calls, failed, rejected] = this.columns;
    if (index == null || at[index] === undefined) {
      setText(this.caption, this.still);
      return;
    }
    const time = clockTime(new Date(at[index] * 1000).toISOString());
    const said = `${rate(calls[index])} calls, ${rate(failed[index])} failed, ${rate(rejected[index])} refused`;
    setText(this.caption, `${time}: ${said}`);
  }
}

/**
 * The colour of a line is that of its figure.
 * @param {string} name
 */
function colorOf(name) {
  return getComputedStyle(/** @type {Element} */ (document.querySelector(`.figures .${name} dt`)), "::before").borderTopColor;
}
