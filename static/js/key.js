/** Asks for the API key in a dialog. Where it is kept: `api.js`, in memory. */

import { byId } from "./dom.js";

/**
 * @param {boolean} wasWrong whether a key was given before and refused
 * @returns {Promise<string | null>} the key; null where the person would rather not
 */
export function askForKey(wasWrong) {
  const dialog = byId("key");
  const field = byId("key-value");
  byId("key-wrong").hidden = !wasWrong;
  field.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  field.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const key = dialog.returnValue === "ok" ? field.value.trim() : "";
      field.value = "";
      resolve(key || null);
    }, { once: true });
  });
}
