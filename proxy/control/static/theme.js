/**
 * Light or dark: as the system has it, or as the button says, which is remembered.
 */

const KEPT = "breaker-proxy theme";
const THEMES = ["auto", "light", "dark"];
const WORDS = { auto: "as the system has it", light: "light", dark: "dark" };

/**
 * @param {HTMLElement} button
 * @param {() => void} onChange what is drawn has other colours.
 */
export function startTheme(button, onChange) {
  const root = document.documentElement;
  const show = () => {
    const theme = /** @type {"auto"|"light"|"dark"} */ (root.dataset.theme);
    button.title = `Theme: ${WORDS[theme]} (T)`;
    button.dataset.theme = theme;
    onChange();
  };
  const kept = localStorage.getItem(KEPT) ?? "";
  root.dataset.theme = THEMES.includes(kept) ? kept : "auto";
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length];
    root.dataset.theme = next;
    localStorage.setItem(KEPT, next);
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}
