/**
 * Moments and lengths of time in words.
 *
 * What is left and what has passed is counted by performance.now(), from what the proxy said last: the clock on
 * this machine's wall may be wrong, and may be set while the page is open.
 */

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const DATE = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

// The proxy's time (ms since 1970) minus performance.now().
let ahead = Date.now() - performance.now();

/**
 * Takes over what the proxy's clock says.
 * @param {string|undefined} at UTC, ISO 8601.
 */
export function setClock(at) {
  const told = at === undefined ? Number.NaN : Date.parse(at);
  if (!Number.isNaN(told)) ahead = told - performance.now();
}

/** The proxy's time now, in ms since 1970. */
export function now() {
  return performance.now() + ahead;
}

/**
 * A length of time, to two units.
 * @param {number} seconds
 */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return both(whole, MINUTE, "min", 1, "s");
  if (whole < DAY) return both(whole, HOUR, "h", MINUTE, "min");
  return both(whole, DAY, "d", HOUR, "h");
}

/**
 * @param {number} seconds
 * @param {number} large
 * @param {string} largeName
 * @param {number} small
 * @param {string} smallName
 */
function both(seconds, large, largeName, small, smallName) {
  const rest = Math.floor((seconds % large) / small);
  const first = `${Math.floor(seconds / large)} ${largeName}`;
  return rest === 0 ? first : `${first} ${rest} ${smallName}`;
}

/**
 * How long ago a moment was, to one unit.
 * @param {string} at UTC, ISO 8601.
 */
export function ago(at) {
  const seconds = Math.max(0, (now() - Date.parse(at)) / 1000);
  if (seconds < 3) return "just now";
  if (seconds < MINUTE) return `${Math.floor(seconds)} s ago`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min ago`;
  if (seconds < DAY) return `${Math.floor(seconds / HOUR)} h ago`;
  return `${Math.floor(seconds / DAY)} d ago`;
}

/**
 * A moment by the clock where the page is looked at, with the date unless that is today's.
 * @param {string} at UTC, ISO 8601.
 */
export function clockTime(at) {
  const moment = new Date(at);
  const time = CLOCK.format(moment);
  return moment.toDateString() === new Date(now()).toDateString() ? time : `${DATE.format(moment)}, ${time}`;
}

/**
 * How long an answer took.
 * @param {number} seconds
 */
export function latency(seconds) {
  if (seconds < 0.001) return "< 1 ms";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 10 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds)} s`;
}

/**
 * A sum of waiting, to be read and not to be calculated with.
 * @param {number} seconds
 */
export function waiting(seconds) {
  if (seconds === 0) return "0 s";
  return seconds < 10 ? latency(seconds) : duration(seconds);
}

/**
 * When something is due, by performance.now(); null where nobody knows.
 * @param {number|null} seconds from the last answer on.
 * @param {number} answeredAt when that answer came, by performance.now().
 */
export function dueAt(seconds, answeredAt) {
  return seconds === null ? null : answeredAt + seconds * 1000;
}

/**
 * What is left until then, in whole seconds.
 * @param {number} due by performance.now().
 */
export function secondsLeft(due) {
  return Math.max(0, Math.ceil((due - performance.now()) / 1000));
}
