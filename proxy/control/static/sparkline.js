/**
 * A window in ten bars: how many calls each tenth of it had, and how many of them failed.
 */

import { draw, setAttribute } from "./dom.js";

const BAR = 6;
const GAP = 2;
const HEIGHT = 20;
const BARS = 10;

/** An empty one. */
export function makeSparkline() {
  const picture = draw("svg", {
    class: "sparkline",
    viewBox: `0 0 ${BARS * (BAR + GAP) - GAP} ${HEIGHT}`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  picture.append(draw("path", { class: "all" }), draw("path", { class: "bad" }));
  return picture;
}

/**
 * @param {SVGElement} picture
 * @param {import("./api.js").Bucket[]} buckets oldest first.
 */
export function showWindow(picture, buckets) {
  const most = Math.max(1, ...buckets.map((bucket) => bucket.calls));
  let all = "";
  let bad = "";
  buckets.forEach(({ calls, failed }, index) => {
    const left = index * (BAR + GAP);
    all += bar(left, (calls / most) * HEIGHT, 1);
    bad += bar(left, (failed / most) * HEIGHT, 0);
  });
  setAttribute(/** @type {Element} */ (picture.firstElementChild), "d", all);
  setAttribute(/** @type {Element} */ (picture.lastElementChild), "d", bad);
}

/**
 * @param {number} left
 * @param {number} height
 * @param {number} least so that even no calls leave a mark.
 */
function bar(left, height, least) {
  // A single failure among many calls is still to be seen.
  const shown = height === 0 ? least : Math.max(1.5, height);
  return shown === 0 ? "" : `M${left} ${HEIGHT}v-${shown.toFixed(1)}h${BAR}v${shown.toFixed(1)}z`;
}
