/**
 * What is asked before something happens: an operator's confirmation, and the token.
 */

import { ApiError, act, useToken } from "./api.js";
import { byId, setText } from "./dom.js";
import { counted } from "./words.js";

/** @typedef {import("./api.js").Action} Action */

/** What the buttons are called. */
export const ACTIONS = Object.freeze({
  open: "Force open",
  close: "Force closed",
  reset: "Reset",
  auto: "Give back",
});

// For an action at night that nobody remembers in the morning.
const USUAL_TTL = "10m";

/**
 * What will happen.
 * @param {Action} action
 * @param {import("./api.js").Circuit|null} circuit as it is now.
 */
function consequence(action, circuit) {
  const underWay = circuit?.in_flight ? ` ${counted(circuit.in_flight, "call")} under way go on.` : "";
  if (action === "open") {
    return `From now on every call to it is refused at once (503), however well it is.${underWay} After that time, or when you give it back, probes decide whether it closes.`;
  }
  if (action === "close") {
    return "From now on every call to it passes, whatever comes of it: no failure opens the circuit. After that time, or when you give it back, it is closed and its window empty.";
  }
  if (action === "reset") {
    return "It starts anew: closed, its window empty, on level 0, not forced. If the upstream is still sick, calls fail until the circuit opens again.";
  }
  return circuit?.override?.force === "closed"
    ? "It decides by itself again: it is closed, and its window empty."
    : "It decides by itself again: it is half-open, and the next call passes as a probe.";
}

export class ActionDialog {
  /** @param {(detail: import("./api.js").Detail) => void} onDone told what the circuit is then. */
  constructor(onDone) {
    this.onDone = onDone;
    /** @type {HTMLDialogElement} */
    this.dialog = byId("action");
    /** @type {{key: string, action: Action}|null} */
    this.asked = null;
    byId("action-cancel").addEventListener("click", () => this.dialog.close());
    /** @type {HTMLFormElement} */ (this.dialog.querySelector("form")).addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#confirm();
    });
  }

  /**
   * Asks for the confirmation of an action.
   * @param {string} key
   * @param {Action} action
   * @param {import("./api.js").Circuit|null} circuit as it is now.
   */
  ask(key, action, circuit) {
    this.asked = { key, action };
    const isForcing = action === "open" || action === "close";
    setText(byId("action-name"), `${ACTIONS[action]}: ${key}`);
    setText(byId("action-means"), consequence(action, circuit));
    byId("action-for-field").hidden = !isForcing;
    byId("action-for").value = isForcing ? USUAL_TTL : "";
    byId("action-note").value = "";
    byId("action-fault").hidden = true;
    byId("action-confirm").disabled = false;
    this.dialog.dataset.action = action;
    this.dialog.showModal();
    byId("action-note").focus();
  }

  async #confirm() {
    const { asked } = this;
    if (asked === null) return;
    const { key, action } = asked;
    // It may have been closed while the proxy was at work, and opened for something else.
    const isStillAsked = () => this.dialog.open && this.asked === asked;
    const ttl = byId("action-for").value.trim();
    const note = byId("action-note").value.trim();
    byId("action-confirm").disabled = true;
    byId("action-fault").hidden = true;
    try {
      const detail = await act(key, action, ttl === "" ? { note } : { note, ttl });
      if (isStillAsked()) this.dialog.close();
      this.onDone(detail);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (!isStillAsked()) return;
      setText(byId("action-fault"), faultWords(error));
      byId("action-fault").hidden = false;
    } finally {
      if (isStillAsked()) byId("action-confirm").disabled = false;
    }
  }
}

/** @param {ApiError} error */
function faultWords(error) {
  if (error.status === 0) return "The proxy does not answer; nobody knows whether it was done.";
  if (error.status === 400 && error.detail.includes("ttl")) {
    return "“For” wants a number and a unit, such as 30s, 10m or 2h.";
  }
  return `It was not done: ${error.detail}. (${error.reason})`;
}

export class TokenDialog {
  /** @param {() => void} onToken there is one to try. */
  constructor(onToken) {
    /** @type {HTMLDialogElement} */
    this.dialog = byId("token");
    // Without it there is nothing to go back to.
    this.dialog.addEventListener("cancel", (event) => event.preventDefault());
    this.dialog.addEventListener("close", () => {
      useToken(byId("token-value").value.trim());
      byId("token-value").value = "";
      onToken();
    });
  }

  /** @param {boolean} isWrong the one that was given is not it. */
  ask(isWrong) {
    byId("token-fault").hidden = !isWrong;
    setText(byId("token-fault"), isWrong ? "This is not the token. It may have been made anew: a restart does that." : "");
    if (!this.dialog.open) this.dialog.showModal();
  }
}
