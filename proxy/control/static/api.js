/**
 * The API under /api/v1, as docs/api.md describes it.
 *
 * The token, where one is needed, is kept for this tab only, and shown in a field that no other page can have a
 * browser send.
 */

/**
 * @typedef {{calls: number, failed: number, slow: number}} Bucket
 * @typedef {{force: "open"|"closed", note: string|null, ttl_left_s: number|null}} Override
 * @typedef {object} Circuit
 * @property {string} key
 * @property {"host"|"endpoint"} scope
 * @property {"open"|"forced_open"|"half_open"|"forced_closed"|"disabled"|"closed"} state
 * @property {"enforce"|"observe"|"disabled"} mode
 * @property {string|null} reason
 * @property {string|null} cause
 * @property {string|null} since
 * @property {number} level
 * @property {number|null} next_probe_in_s
 * @property {number} in_flight
 * @property {number} calls
 * @property {number} failed
 * @property {number} slow
 * @property {number|null} failure_ratio
 * @property {number|null} latency_s
 * @property {Bucket[]} window
 * @property {number} rejected
 * @property {number} spared_s
 * @property {{waiting: number, oldest_age_s: number}|null} deferred
 * @property {Override|null} override
 *
 * @typedef {object} Transition
 * @property {string} at
 * @property {string} from_state
 * @property {string} to_state
 * @property {string} reason
 * @property {string|null} cause
 * @property {number|null} open_s
 * @property {number} level
 * @property {string|null} note
 *
 * @typedef {object} DetailOnly
 * @property {string} host
 * @property {number} window_s
 * @property {number} failures_in_a_row
 * @property {number} probes_in_flight
 * @property {number} open_s
 * @property {Record<string, number>} outcomes
 * @property {{kind: string, count: number, last_at: string}[]} last_failures
 * @property {{reason: string, enforced: boolean, count: number}[]} rejections
 * @property {Transition[]} transitions
 * @property {Record<string, {value: unknown, origin: string}>} settings
 * @typedef {Circuit & DetailOnly} Detail
 *
 * @typedef {object} Circuits
 * @property {Circuit[]} circuits
 * @property {number} total
 * @property {Record<string, number>} states
 * @property {number} calls
 * @property {number} failed
 * @property {number} rejected
 * @property {number} spared_s
 * @property {number} in_flight
 * @property {{waiting: number, oldest_age_s: number}|null} deferred
 * @property {string} at
 * @property {number} limit_of_table
 * @property {string} last_event_id
 *
 * @typedef {{version: string, name: string, started_at: string, python: string}} Version
 * @typedef {{q: string, state: string, sort: string, limit: number, offset: number}} Query
 * @typedef {"open"|"close"|"reset"|"auto"} Action
 */

const ROOT = "/api/v1";
const TOKEN = "breaker-proxy token";
const PATIENCE_MS = 10_000;

/** What the API, or the way to it, refused; `reason` is `unreachable` where no answer came. */
export class ApiError extends Error {
  /**
   * @param {number} status 0 where no answer came.
   * @param {string} reason
   * @param {string} detail
   */
  constructor(status, reason, detail) {
    super(detail);
    this.status = status;
    this.reason = reason;
    this.detail = detail;
  }
}

/** @param {string} token what to show from now on; nothing where it is empty. */
export function useToken(token) {
  if (token === "") sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, token);
}

/**
 * Asks, and gives the answer if it is a good one.
 * @param {string} path below /api/v1.
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 * @throws {ApiError}
 */
export async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  const token = sessionStorage.getItem(TOKEN);
  if (token !== null) headers.set("Authorization", `Bearer ${token}`);
  let response;
  try {
    response = await fetch(ROOT + path, { ...options, headers, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (options.signal?.aborted && options.signal.reason?.name !== "TimeoutError") throw error;
    throw new ApiError(0, "unreachable", "the proxy does not answer");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** @param {Response} response */
async function refusal(response) {
  try {
    const { reason, detail } = await response.json();
    return new ApiError(response.status, String(reason), String(detail));
  } catch {
    return new ApiError(response.status, "unknown", `the answer was ${response.status}`);
  }
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 */
async function json(path, options = {}) {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  const signal = options.signal ? AbortSignal.any([options.signal, patience]) : patience;
  const response = await request(path, { ...options, signal });
  try {
    return await response.json();
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, "unreachable", "the proxy broke off in the middle of an answer");
  }
}

/**
 * A page of circuits.
 * @param {Query} query
 * @param {AbortSignal} signal
 * @returns {Promise<Circuits>}
 */
export function circuits({ q, state, sort, limit, offset }, signal) {
  const query = new URLSearchParams({ sort, limit: String(limit), offset: String(offset) });
  if (q) query.set("q", q);
  if (state) query.set("state", state);
  return json(`/circuits?${query}`, { signal });
}

/**
 * One circuit; null if there is none by this key.
 * @param {string} key
 * @param {AbortSignal} signal
 * @returns {Promise<Detail|null>}
 */
export async function circuit(key, signal) {
  try {
    return await json(`/circuits/${encodeURIComponent(key)}`, { signal });
  } catch (error) {
    if (error instanceof ApiError && error.reason === "no_such_circuit") return null;
    throw error;
  }
}

/**
 * Does something to a circuit; gives what it is then.
 * @param {string} key
 * @param {Action} action
 * @param {{note: string, ttl?: string}} wish
 * @returns {Promise<Detail>}
 */
export function act(key, action, wish) {
  return json(`/circuits/${encodeURIComponent(key)}/${action}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(wish),
  });
}

/** @returns {Promise<Version>} */
export function version() {
  return json("/version");
}

/** @returns {Promise<any>} the configuration in force. */
export function config() {
  return json("/config");
}
