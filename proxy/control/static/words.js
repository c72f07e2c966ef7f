/**
 * What the tokens of the API mean, in plain words. The token itself stands beside them, or in the title: it is
 * what log, metrics and documents say.
 */

/** The names of the states, in the order in which an operator looks for them. */
export const STATES = Object.freeze({
  open: "open",
  forced_open: "forced open",
  half_open: "half-open",
  forced_closed: "forced closed",
  disabled: "disabled",
  closed: "closed",
});

/** What each state means for a call. */
export const STATE_MEANS = Object.freeze({
  open: "Calls are refused at once",
  forced_open: "An operator has all calls refused",
  half_open: "A few calls pass as probes",
  forced_closed: "An operator lets all calls pass",
  disabled: "circuit.mode is disabled: all calls pass",
  closed: "Calls pass",
});

/** Why a circuit changed its state. */
const REASONS = Object.freeze({
  consecutive_failures: "Failures in a row",
  failure_ratio: "Too large a share failed",
  slow_ratio: "Too large a share was slow",
  open_elapsed: "Its time is over",
  probe_failed: "A probe failed",
  recovered: "Its probes were good",
  forced_open: "By an operator",
  forced_closed: "By an operator",
  override_ended: "No longer forced",
  reset: "Reset by an operator",
});

/** What failed: the upstream ... */
const KINDS = Object.freeze({
  status: "answered with an error status",
  dns: "has no address: its name was not found",
  refused: "refused the connection",
  unreachable: "could not be reached",
  connect_timeout: "did not accept the connection in time",
  tls: "failed at TLS, or its certificate is not valid",
  response_timeout: "did not answer in time",
  reset: "closed the connection before it answered",
  malformed: "answered something that is not HTTP",
  truncated: "broke off in the middle of an answer",
  tunnel: "was silent in a tunnel",
  abandoned: "kept a client waiting until it gave up",
});

const VERDICTS = Object.freeze({
  success: "answered well",
  alive: "answered, if only to say no",
  throttled: "asked for fewer calls",
  failure: "failed",
});

const REFUSALS = Object.freeze({
  circuit_open: "the circuit was open",
  circuit_forced_open: "an operator had forced it open",
  circuit_half_open: "probes were under way",
  circuit_ramping: "it came back in growing shares",
  too_many_in_flight: "too many calls were under way",
});

/**
 * @param {Readonly<Record<string, string>>} table
 * @param {string} token
 */
function told(table, token) {
  return table[token] ?? token.replaceAll("_", " ");
}

/** @param {string} token */
export const stateWord = (token) => told(STATES, token);
/** @param {string} token */
export const reasonWords = (token) => told(REASONS, token);
/** @param {string} token */
export const kindWords = (token) => told(KINDS, token);
/** @param {string} token */
export const verdictWords = (token) => told(VERDICTS, token);
/** @param {string} token */
export const refusalWords = (token) => told(REFUSALS, token);

/**
 * The outcome that led to a transition, such as `failure(status)`: what the upstream did.
 * @param {string} cause
 */
export function causeWords(cause) {
  const [, verdict = cause, kind] = /^(\w+)(?:\((\w+)\))?$/.exec(cause) ?? [];
  return kind === undefined ? verdictWords(verdict) : kindWords(kind);
}

const COUNT = new Intl.NumberFormat();

/** @param {number} number */
export function count(number) {
  return COUNT.format(number);
}

const SHORT = new Intl.NumberFormat(undefined, { notation: "compact" });

/**
 * A number where there is little room.
 * @param {number} number
 */
export function shortCount(number) {
  return number < 10_000 ? count(number) : SHORT.format(number);
}

/**
 * A number of things.
 * @param {number} number
 * @param {string} one
 * @param {string} [many]
 */
export function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/**
 * A rate, with as many digits as say something.
 * @param {number} perSecond
 */
export function rate(perSecond) {
  if (perSecond === 0) return "0";
  if (perSecond < 0.1) return "< 0.1";
  return perSecond < 10 ? perSecond.toFixed(1) : COUNT.format(Math.round(perSecond));
}

/** @param {number} ratio 0 to 1. */
export function percent(ratio) {
  return `${Math.round(ratio * 100)} %`;
}
