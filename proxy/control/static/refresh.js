/**
 * When the proxy is asked anew: in an even beat, and sooner when there is a reason, but never in a storm.
 *
 * A list of all circuits costs the proxy a millisecond for each hundred or so. So the beat follows what the last answer
 * took: at most one part in twenty of the proxy's time goes into this page, however large its table is.
 */

const BEAT_MS = 1500;
const SLOWEST_BEAT_MS = 6000;
const SHORTEST_GAP_MS = 300;
const LONGEST_GAP_MS = 1200;
const SHARE = 20;

export class Refresh {
  /** @param {(signal: AbortSignal) => Promise<void>} ask must not raise. */
  constructor(ask) {
    this.ask = ask;
    this.tookMs = 0;
    this.endedAt = -Infinity;
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.timer = undefined;
    /** @type {AbortController|null} */
    this.asking = null;
    this.isWanted = false;
    this.isRunning = false;
  }

  /** How long it waits between two questions, in ms. */
  get beatMs() {
    return Math.min(SLOWEST_BEAT_MS, Math.max(BEAT_MS, this.tookMs * SHARE));
  }

  start() {
    if (this.isRunning) return;
    this.isRunning = true;
    this.now();
  }

  stop() {
    this.isRunning = false;
    clearTimeout(this.timer);
    this.asking?.abort();
    this.asking = null;
  }

  /**
   * Something has happened: asks soon, once for all that happens until then.
   * @param {number} [shortestGapMs] after the last answer, where somebody waits for it.
   */
  soon(shortestGapMs = SHORTEST_GAP_MS) {
    if (!this.isRunning) return;
    if (this.asking !== null) {
      this.isWanted = true;
      return;
    }
    const gap = Math.min(LONGEST_GAP_MS, Math.max(shortestGapMs, this.tookMs * (SHARE / 2)));
    this.#after(Math.max(0, this.endedAt + gap - performance.now()));
  }

  /** Something else is wanted: what is being asked no longer matters. */
  now() {
    if (!this.isRunning) return;
    this.asking?.abort();
    this.asking = null;
    this.#after(0);
  }

  /** @param {number} milliseconds */
  #after(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.#go(), milliseconds);
  }

  async #go() {
    const asking = new AbortController();
    this.asking = asking;
    this.isWanted = false;
    const began = performance.now();
    await this.ask(asking.signal);
    if (this.asking !== asking) return;
    this.asking = null;
    this.endedAt = performance.now();
    this.tookMs = this.endedAt - began;
    this.#after(this.beatMs);
    if (this.isWanted) this.soon();
  }
}
