/**
 * What is wrong between this page and the proxy, in one word at the top and, where that helps, in a sentence.
 */

import { ApiError } from "./api.js";
import { byId, make, setText } from "./dom.js";
import { clockTime } from "./times.js";

/**
 * What a refusal means for who looks at the page, and what to do.
 * @param {ApiError} error
 */
function sentence(error) {
  if (error.reason === "unknown_host") {
    return `The proxy does not answer to the name ${location.host}. Open this page as localhost or 127.0.0.1, or add the name to admin.hosts.`;
  }
  if (error.reason === "foreign_origin") {
    return "The proxy takes this page for another site's. Something between you and it changes the Host or the Origin of requests.";
  }
  return `The proxy refuses to answer: ${error.detail}. (${error.status} ${error.reason})`;
}

export class Notice {
  constructor() {
    /** @type {ApiError|null} */
    this.refused = null;
    /** @type {import("./events.js").StreamState} */
    this.stream = "broken";
    this.answeredAt = 0;
    this.isDrawn = false;
  }

  /** An answer came. */
  good() {
    this.refused = null;
    this.answeredAt = Date.now();
    this.#show();
  }

  /** @param {ApiError} error */
  bad(error) {
    this.refused = error;
    this.#show();
  }

  /** @param {import("./events.js").StreamState} state */
  events(state) {
    this.stream = state;
    this.#show();
  }

  /** Whether what is on the screen is no longer so. */
  get isStale() {
    return this.refused !== null;
  }

  #show() {
    const [state, word] = this.#state();
    const connection = byId("connection");
    connection.dataset.state = state;
    setText(connection, word);
    const text = this.#text();
    const notice = byId("notice");
    notice.hidden = text === "";
    setText(notice, text);
    document.body.toggleAttribute("data-stale", this.isStale && this.answeredAt > 0);
  }

  #state() {
    if (this.refused?.status === 401) return ["token", "token needed"];
    if (this.refused !== null) return ["reconnecting", "reconnecting"];
    if (this.stream === "no_room") return ["polling", "live, by polling"];
    return this.stream === "live" ? ["live", "live"] : ["reconnecting", "reconnecting"];
  }

  #text() {
    const { refused } = this;
    if (refused === null) {
      return this.stream === "no_room"
        ? "As many as there may be already listen for events, so this page asks every few seconds instead; the latest transitions are missing in it."
        : "";
    }
    // The dialog says the rest.
    if (refused.status === 401) return "";
    if (refused.status !== 0) return sentence(refused);
    const since = this.answeredAt === 0 ? "" : ` What you see is of ${clockTime(new Date(this.answeredAt).toISOString())}.`;
    return `The proxy does not answer. It may have ended, or what leads to it, such as kubectl port-forward.${since}`;
  }
}

/**
 * What the table says where it has no rows.
 * @param {HTMLElement} place
 * @param {string} proxy where clients call it.
 */
export function showFirstSteps(place, proxy) {
  place.replaceChildren(
    make("h2", {}, "No circuit yet"),
    make("p", {}, "A circuit begins with the first call to an upstream. Send one through the proxy:"),
    make("pre", {}, `curl -i -x http://${proxy} http://example.com/`),
    make("p", { class: "dim" }, "It appears here at once."),
  );
}

/**
 * @param {HTMLElement} place
 * @param {() => void} onAll
 */
export function showNoneFits(place, onAll) {
  const button = make("button", { type: "button" }, "Show all");
  button.addEventListener("click", onAll);
  place.replaceChildren(make("h2", {}, "No circuit fits"), make("p", {}, "There are others, which the search or the state leaves out."), button);
}
