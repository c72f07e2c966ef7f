/**
 * Transitions as they happen: server-sent events, read with `fetch`, since an EventSource cannot show a token.
 *
 * There is one stream at a time, and none while nobody looks at the page: the proxy has room for few readers.
 * One that comes back shows the last id that it heard, and hears what came in between.
 */

import { ApiError, request } from "./api.js";

/**
 * @typedef {{id: string, key: string, scope: string, transition: import("./api.js").Transition}} Told
 * @typedef {"live"|"broken"|"no_room"|"refused"} StreamState
 */

const WAITS_MS = [500, 1000, 2000, 5000, 10_000];
// The proxy says something at least each 15 s.
const SILENT_MS = 40_000;
// No event is as long as that: whatever this is, it is none.
const LONGEST = 1_000_000;
// An id that no proxy has given: all that is kept is new then.
const FROM_THE_BEGINNING = "none";

export class Events {
  /**
   * @param {object} on
   * @param {(told: Told[]) => void} on.transitions oldest first.
   * @param {(count: number|null) => void} on.missed how many were not kept; null if nobody knows.
   * @param {(state: StreamState, error: ApiError|null) => void} on.state
   */
  constructor({ transitions, missed, state }) {
    this.onTransitions = transitions;
    this.onMissed = missed;
    this.onState = state;
    this.lastId = FROM_THE_BEGINNING;
    /** @type {AbortController|null} */
    this.running = null;
  }

  /** Begins to read, unless it does already. */
  start() {
    if (this.running !== null) return;
    this.running = new AbortController();
    void this.#readOn(this.running.signal);
  }

  /** Ends the stream; `start` goes on where it ended. */
  stop() {
    this.running?.abort();
    this.running = null;
  }

  /** @param {AbortSignal} signal */
  async #readOn(signal) {
    let failed = 0;
    while (!signal.aborted) {
      const heard = await this.#readOnce(signal);
      failed = heard ? 0 : failed + 1;
      const wait = WAITS_MS[Math.min(failed, WAITS_MS.length - 1)] * (0.75 + Math.random() / 2);
      await pause(wait, signal);
    }
  }

  /**
   * Reads a stream to its end; says whether there was one.
   * @param {AbortSignal} signal
   */
  async #readOnce(signal) {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), SILENT_MS);
    let isLive = false;
    try {
      const response = await request("/events", {
        headers: { Accept: "text/event-stream", "Last-Event-ID": this.lastId },
        signal: AbortSignal.any([signal, silence.signal]),
      });
      if (response.body === null) return false;
      isLive = true;
      this.onState("live", null);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let unread = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENT_MS);
        unread = this.#take(unread + value);
        if (unread.length > LONGEST) break;
      }
    } catch (error) {
      if (signal.aborted) return isLive;
      const refusal = error instanceof ApiError && error.status !== 0 ? error : null;
      this.onState(stateOf(refusal), refusal);
      return isLive;
    } finally {
      clearTimeout(timer);
      silence.abort();
    }
    if (!signal.aborted) this.onState("broken", null);
    return isLive;
  }

  /**
   * Takes the whole events off the front of what was read; gives the rest.
   * @param {string} text
   */
  #take(text) {
    const blocks = text.split("\n\n");
    const rest = blocks.pop() ?? "";
    /** @type {Told[]} */
    const told = [];
    for (const block of blocks) {
      const { id, event, data } = fields(block);
      const isFirst = this.lastId === FROM_THE_BEGINNING;
      if (id !== "") this.lastId = id;
      if (event === "transition") told.push(JSON.parse(data));
      // At first nobody was listening, so nothing is missed.
      else if (event === "missed" && !isFirst) this.onMissed(JSON.parse(data).missed);
    }
    if (told.length > 0) this.onTransitions(told);
    return rest;
  }
}

/**
 * @param {ApiError|null} refusal
 * @returns {StreamState}
 */
function stateOf(refusal) {
  if (refusal === null) return "broken";
  return refusal.reason === "too_many_readers" ? "no_room" : "refused";
}

/**
 * The fields of an event, the last of each; our data is always one line.
 * @param {string} block
 */
function fields(block) {
  const found = { id: "", event: "", data: "" };
  for (const line of block.split("\n")) {
    const [, name, value] = /^(id|event|data): ?(.*)$/.exec(line) ?? [];
    if (name !== undefined) found[/** @type {"id"|"event"|"data"} */ (name)] = value;
  }
  return found;
}

/**
 * @param {number} milliseconds
 * @param {AbortSignal} signal ends it sooner.
 * @returns {Promise<void>}
 */
function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      // The signal lives for as long as the page is read.
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done);
  });
}
