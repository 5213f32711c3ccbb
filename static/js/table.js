/** The list as a CSV file, for a spreadsheet. */

import { digestOf } from "./digest.js";
import { element } from "./dom.js";
import { say } from "./texts.js";
import { verdictOf } from "./words.js";

/** @typedef {import("./visit.js").Item} Item */

const COLUMNS = ["file", "verdict", "class", "confidence", "fractured", "certainty", "code_or_reason", "model", "request_id", "sha256"];

/**
 * Save what is known of each image. Where numbers have a decimal comma, spreadsheets expect semicolons between fields.
 * @param {Item[]} items
 */
export async function saveTable(items) {
  const decimal = (1.5).toLocaleString(navigator.language).includes(",") ? "," : ".";
  const rows = [COLUMNS, ...(await Promise.all(items.map(rowOf)))];
  const lines = rows.map((row) => row.map((value) => quoted(value, decimal)).join(decimal === "," ? ";" : ","));
  const address = URL.createObjectURL(new Blob([`\ufeff${lines.join("\r\n")}\r\n`], { type: "text/csv" }));
  element("a", { href: address, download: say("table_name") }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** @param {Item} item @returns {Promise<any[]>} */
async function rowOf(item) {
  const digest = await digestOf(item.file);
  if (item.state !== "done") return [item.name, item.state, "", "", "", "", item.problem?.message, "", item.problem?.requestId, digest];
  const { predictedClass, confidence, detail } = item.answer;
  return [item.name, verdictOf(item).title, predictedClass, confidence, detail?.fractured, detail?.certainty, detail?.reason, detail?.model.version, item.requestId, digest];
}

/**
 * @param {any} value
 * @param {string} decimal the sign before decimals
 * @returns {string} a field quoted as in RFC 4180; text that starts like a formula is escaped
 */
function quoted(value, decimal) {
  const text = typeof value === "number" ? String(value).replace(".", decimal) : String(value ?? "").replace(/^[=+\-@\t\r]/, "'$&");
  return `"${text.replaceAll('"', '""')}"`;
}
