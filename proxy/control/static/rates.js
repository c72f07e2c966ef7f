/**
 * Rates of what the proxy only ever counts up: the difference between two answers, over the time between them.
 */

export const SPAN_S = 300;
// More answers than ever come in that time.
const MOST = 400;
// Two answers that are closer say little of a rate.
const LEAST_APART_S = 0.9;
// A figure to be read must not dance.
const READ_OVER_S = 8;

/**
 * @typedef {{calls: number, failed: number, rejected: number}} Counts
 * @typedef {Counts & {at: number}} Sample `at` in seconds.
 */

export class Rates {
  constructor() {
    /** @type {Sample[]} */
    this.samples = [];
  }

  /**
   * Takes one more answer; says whether that makes another point.
   * @param {Counts} counts
   * @param {number} at seconds since 1970.
   */
  add({ calls, failed, rejected }, at) {
    const last = this.samples.at(-1);
    if (last !== undefined) {
      // Another process counts from the beginning.
      if (calls < last.calls || failed < last.failed || rejected < last.rejected) this.samples = [];
      else if (at - last.at < LEAST_APART_S) return false;
    }
    this.samples.push({ calls, failed, rejected, at });
    while (this.samples.length > MOST || this.samples[0].at < at - SPAN_S) this.samples.shift();
    return true;
  }

  /**
   * What it is now: over the last few seconds. Null before there are two answers.
   * @returns {Counts|null}
   */
  latest() {
    const last = this.samples.at(-1);
    if (last === undefined || this.samples.length < 2) return null;
    const first = this.samples.find((sample) => sample.at >= last.at - READ_OVER_S && sample !== last);
    return between(first ?? this.samples[this.samples.length - 2], last);
  }

  /** Seconds, and the three rates at them, as a chart wants them. */
  columns() {
    const points = this.samples.slice(1).map((sample, index) => ({ at: sample.at, ...between(this.samples[index], sample) }));
    return [
      points.map((point) => point.at),
      points.map((point) => point.calls),
      points.map((point) => point.failed),
      points.map((point) => point.rejected),
    ];
  }
}

/**
 * @param {Sample} first
 * @param {Sample} last
 * @returns {Counts}
 */
function between(first, last) {
  const seconds = last.at - first.at;
  return {
    calls: (last.calls - first.calls) / seconds,
    failed: (last.failed - first.failed) / seconds,
    rejected: (last.rejected - first.rejected) / seconds,
  };
}
