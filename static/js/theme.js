/** Light or dark: as the system has it until somebody chooses; the choice is remembered. */

import { byId } from "./dom.js";

const REMEMBERED = "bone-theme";

/** Follow the remembered choice, or else the system. */
export function startTheme() {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = byId("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  const remembered = localStorage.getItem(REMEMBERED);
  if (remembered) root.dataset.theme = remembered;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem(REMEMBERED, root.dataset.theme);
    show();
  });
  system.addEventListener("change", show);
  show();
}
