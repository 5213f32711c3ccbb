/** The list of this visit's images, one button each. */

import { byId, element, icon } from "./dom.js";
import { pictureOf } from "./picture.js";
import { say } from "./texts.js";
import { items, onChange, remove, select, selected } from "./visit.js";
import { chanceOf, questionOf, shortStateOf, verdictOf } from "./words.js";

const ORDER = ["class", "doubtful", "none"]; // by what a reader should see first

/** @typedef {import("./visit.js").Item} Item */

/** @type {Map<number, HTMLLIElement>} */
const rows = new Map();

/** Show the list and keep it up to date. */
export function startList() {
  onChange("list", showList);
  onChange("select", showSelected);
  onChange("item", showItem);
}

/** Write every row anew, as after a change of language. */
export function showList() {
  for (const item of items) if (!rows.has(item.id)) rows.set(item.id, newRow(item));
  const known = new Set(items.map(({ id }) => id));
  for (const id of rows.keys()) if (!known.has(id)) rows.delete(id);
  byId("visit").replaceChildren(...items.map(({ id }) => rows.get(id)));
  items.forEach(showItem);
  showSelected();
}

/** @param {Item} item @returns {any} */
function newRow(item) {
  const open = element("button.row", { type: "button", onclick: () => select(item) },
    element("span.thumb"),
    element("span.row-text", {}, element("span.row-name", {}, item.name), element("span.row-state", {}, element("span.row-verdict"), element("span.row-chance"))));
  const away = element("button.remove", { type: "button", onclick: () => removeRow(item) }, icon("remove"));
  return element("li", {}, open, away, element("span.row-progress"));
}

/** @param {Item} item whose neighbour in the list gets the focus */
export function removeRow(item) {
  const place = items.indexOf(item);
  remove(item);
  const neighbour = items[Math.min(place, items.length - 1)];
  const next = neighbour ? rows.get(neighbour.id)?.querySelector(".row") : document.querySelector("#intake [data-pick]");
  if (next instanceof HTMLElement) next.focus();
}

/** Put the images in order: fractures first, the surest before others, then the doubtful, what failed last; or back. */
export function sortRows() {
  const isSorted = byId("sort").getAttribute("aria-pressed") === "true";
  const rank = (item) => (item.state === "done" ? ORDER.indexOf(verdictOf(item).tone.split("-")[0]) : ORDER.length);
  const chance = (item) => item.answer?.detail?.fractured ?? item.answer?.confidence ?? 0;
  items.sort((one, other) => (isSorted ? 0 : rank(one) - rank(other) || chance(other) - chance(one)) || one.id - other.id);
  byId("sort").setAttribute("aria-pressed", String(!isSorted));
  showList();
}

/** @param {Item} item */
function showItem(item) {
  const row = rows.get(item.id);
  if (!row) return;
  const verdict = item.state === "done" ? verdictOf(item) : null;
  row.className = `is-${item.state} ${verdict ? `tone-${verdict.tone}` : ""}`;
  row.querySelector(".remove").setAttribute("aria-label", say("remove", { name: item.name }));
  row.querySelector(".row-verdict").replaceChildren(icon(verdict?.icon ?? (item.state === "failed" ? "failed" : "waiting")), shortStateOf(item));
  row.querySelector(".row-chance").textContent = verdict ? chanceOf(item) : "";
  row.querySelector(".row").title = verdict ? [item.name, verdict.title, questionOf(item)].filter(Boolean).join("\n") : item.name;
  row.querySelector(".row-progress").style.inlineSize = item.state === "sending" ? `${100 * item.progress}%` : "0";
  showThumb(row.querySelector(".thumb"), pictureOf(item));
}

/** @param {Element} place @param {string | null} source */
function showThumb(place, source) {
  const shown = place.querySelector("img");
  if (source && shown?.getAttribute("src") === source) return;
  place.replaceChildren(source ? element("img", { src: source, alt: "" }) : icon("film"));
}

function showSelected() {
  for (const item of items) {
    const button = rows.get(item.id)?.querySelector(".row");
    if (item === selected()) button?.setAttribute("aria-current", "true");
    else button?.removeAttribute("aria-current");
  }
  document.querySelector("#visit [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}
