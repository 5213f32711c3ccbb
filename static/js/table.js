/** The list as a CSV file, for a spreadsheet. */

import { element } from "./dom.js";
import { verdictOf } from "./words.js";

/** @typedef {import("./visit.js").Item} Item */

const COLUMNS = ["file", "verdict", "class", "confidence", "fractured", "certainty", "code_or_reason", "model", "request_id"];

/**
 * Save what is known of each image.
 * @param {Item[]} items
 */
export function saveTable(items) {
  const lines = [COLUMNS, ...items.map(rowOf)].map((row) => row.map(quoted).join(","));
  const address = URL.createObjectURL(new Blob([`\ufeff${lines.join("\r\n")}\r\n`], { type: "text/csv" }));
  element("a", { href: address, download: "radiographs.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** @param {Item} item @returns {any[]} */
function rowOf(item) {
  if (item.state !== "done") return [item.name, item.state, "", "", "", "", item.problem?.message, "", item.problem?.requestId];
  const { predictedClass, confidence, detail } = item.answer;
  return [item.name, verdictOf(item).title, predictedClass, confidence, detail?.fractured, detail?.certainty, detail?.reason, detail?.model.version, item.requestId];
}

/** @param {any} value @returns {string} a field as RFC 4180 has it; a text that begins as a formula is no longer one */
function quoted(value) {
  const text = typeof value === "number" ? String(value) : String(value ?? "").replace(/^[=+\-@\t\r]/, "'$&");
  return `"${text.replaceAll('"', '""')}"`;
}
