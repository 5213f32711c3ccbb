/** The request of an image as curl and as fetch, and its answer as JSON. Never the key itself. */

import { hasKey } from "./api.js";
import { language } from "./texts.js";

/** @typedef {import("./visit.js").Item} Item */

/**
 * @param {Item} item that has an answer
 * @param {"curl" | "fetch" | "JSON"} kind
 * @returns {string}
 */
export function copyOf(item, kind) {
  const address = new URL(`predict?detail=1&lang=${language()}`, location.href).href;
  return { curl: asCurl, fetch: asFetch, JSON: asJson }[kind](item, address);
}

/** @param {Item} item @param {string} address */
function asCurl(item, address) {
  const key = hasKey() ? " -H 'X-API-Key: YOUR_KEY'" : "";
  const form = `image=@"${item.name.replace(/(["\\])/g, "\\$1")}"`;
  return `curl${key} -F ${quoted(form)} ${quoted(address)}`;
}

/** @param {string} text @returns {string} one word for a POSIX shell */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** @param {Item} _ @param {string} address */
function asFetch(_, address) {
  const key = hasKey() ? ', headers: { "X-API-Key": "YOUR_KEY" }' : "";
  return [
    "const form = new FormData();",
    'form.append("image", file); // a File, as from <input type="file">',
    `const response = await fetch(${JSON.stringify(address)}, { method: "POST", body: form${key} });`,
    "console.log(await response.json());",
  ].join("\n");
}

/** @param {Item} item */
function asJson(item) {
  return JSON.stringify(item.answer, null, 2);
}

/**
 * @param {string} text
 * @returns {Promise<boolean>} whether it is in the clipboard now
 */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyTheOldWay(text); // browsers keep the clipboard from pages over plain HTTP
  }
}

/** @param {string} text */
function copyTheOldWay(text) {
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
