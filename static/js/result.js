/** The verdict of the image that is looked at: in words, as one bar, how good the network is, and how it came about. */

import { byId, element, icon } from "./dom.js";
import { removeRow } from "./list.js";
import { capital, classNamed, number, say, whole, wholes } from "./texts.js";
import { onChange, remove, selected } from "./visit.js";
import { retry, showAnyway } from "./work.js";
import { questionOf, showsWhere, stateOf, verdictOf } from "./words.js";

/** @typedef {import("./visit.js").Item} Item */

let shown = "";
/** @type {any} */
let model = null;

/** @param {any} described what the service says of its model */
export function useModel(described) {
  model = described;
  showResult(true);
}

/** Show the result and keep it up to date. */
export function startResult() {
  onChange("select", () => showResult());
  onChange("item", (item) => item === selected() && showResult());
}

/**
 * @param {boolean} [anew] even where nothing changed but the language
 */
export function showResult(anew = false) {
  const item = selected();
  byId("actions").hidden = item?.state !== "done";
  if (!item) return;
  if (item.state === "sending" && shown.startsWith(`${item.id} sending`) && !anew) return showProgress(item);
  const state = `${item.id} ${item.state} ${item.asked}`;
  if (state === shown && item.state !== "busy" && !anew) return;
  if (state !== shown) byId("copied").textContent = "";
  shown = state;
  byId("result").replaceChildren(...(item.state === "done" ? answered(item) : unanswered(item)));
  if (item.state === "sending") showProgress(item);
}

/** @param {Item} item */
function showProgress(item) {
  byId("result").querySelector("progress").value = item.progress;
  byId("result").querySelector(".state").textContent = stateOf(item);
}

/** @param {Item} item @returns {Node[]} */
function unanswered(item) {
  if (item.state === "failed") return failed(item);
  const bar = element("progress", { max: 1, "aria-label": say(item.state === "sending" ? "sending" : "working") });
  const isMoving = item.state === "sending" || item.state === "working";
  return [element("div.pending", {}, element("p.state", {}, stateOf(item)), isMoving ? bar : null)];
}

/** @param {Item} item @returns {Node[]} */
function failed(item) {
  const { message, requestId, language, canRetry } = item.problem;
  const again = () => {
    retry(item);
    byId("result-title").focus();
  };
  const button = (kind, label, onclick) => element(kind, { type: "button", onclick }, say(label));
  const ways = [
    canRetry ? button("button.primary", "retry", again) : button("button.primary", "choose_other", () => chooseInstead(item)),
    button("button", "remove_it", () => removeRow(item)),
  ];
  return [
    element("div.verdict", { class: "verdict tone-failed" }, icon("failed"), element("h3", {}, say("failed"))),
    element("p.problem", { lang: language }, message),
    requestId ? element("p.muted", {}, say("request_id", { id: requestId })) : null,
    element("div.buttons", {}, ...ways),
  ].filter((node) => node !== null);
}

/** @param {Item} item that gives way to the files that are chosen now, if any */
function chooseInstead(item) {
  const files = byId("files");
  const giveWay = () => remove(item);
  files.addEventListener("change", giveWay, { once: true });
  files.addEventListener("cancel", () => files.removeEventListener("change", giveWay), { once: true });
  files.click();
}

/** @param {Item} item @returns {Node[]} */
function answered(item) {
  const verdict = verdictOf(item);
  const ask = () => {
    showAnyway(item);
    byId("result-title").focus();
  };
  const canAsk = !showsWhere(item) && item.answer.detail?.reason !== "blank";
  return [
    element("div", { class: `verdict tone-${verdict.tone}` }, icon(verdict.icon), element("h3", {}, verdict.title)),
    element("p", {}, verdict.text),
    ...numbers(item),
    canAsk ? element("div", {}, element("button", { type: "button", onclick: ask }, say("show_anyway"))) : null,
    track(),
    details(item),
  ].filter((node) => node !== null);
}

/** @returns {HTMLElement} how good the network is at hospitals that it never saw, as measured, in plain words */
export function track() {
  const figures = model?.quality?.sourcesLeftOut?.figures ?? {};
  const { fractured_accepted_mean: found, normal_rejected_mean: left } = figures;
  if (!found || !left) return element("p.muted", {}, say("track_unknown"));
  const hundredth = (share) => number(100 * share, 0);
  const bySource = Object.entries(figures).filter(([name]) => /^fractured_accepted_(?!mean$)/.test(name)).map(([, { value }]) => value);
  const facts = { found: hundredth(found.value), wrong: hundredth(1 - left.value), low: hundredth(Math.min(...bySource)), high: hundredth(Math.max(...bySource)) };
  const caution = model.sources?.threshold === "environment" ? `${say("track_threshold")} ` : "";
  const card = element("a", { href: "model-card", target: "_blank", rel: "noopener" }, say("model_card"));
  return element("p.muted", {}, `${say("track", facts)} ${caution}`, card);
}

/**
 * @param {Item} item that has an answer
 * @returns {HTMLElement[]} whether it is fractured, then of which type; nothing of a blank image
 */
export function numbers(item) {
  const { detail } = item.answer;
  if (detail?.reason === "blank") return [];
  const question = questionOf(item);
  if (!question && !showsWhere(item)) return [];
  const parts = partsOf(item);
  return [element("section", { class: `odds tone-${verdictOf(item).tone}` },
    question ? element("p.big", {}, question) : null,
    showsWhere(item) ? element("p.type", {}, say("type", { type: typeOf(item) })) : null,
    ...(showsWhere(item) ? [stack(parts), key(parts)] : []))];
}

/** @param {Item} item @returns {string} such as «fisura 57 % / fractura 43 %», which add up to 100 */
function typeOf(item) {
  const shares = item.answer.allProbabilities;
  const rounded = wholes(shares.map(({ probability }) => probability), 100);
  return shares.map((entry, place) => `${classNamed(entry.class)}\u00a0${whole(entry.probability, rounded[place])}`).join(" / ");
}

/**
 * @param {Item} item
 * @returns {{name: string, tone: string, value: number, shown: string}[]} the classes, then none: `value` in percent,
 *   `shown` in whole percents, which add up to 100, and those of the classes to what answers the question
 */
function partsOf(item) {
  const { allProbabilities, detail } = item.answer;
  const fractured = detail?.fractured ?? 100;
  const values = allProbabilities.map(({ probability }) => probability * fractured / 100);
  const rounded = wholes(values, Math.round(fractured));
  const known = allProbabilities.map((entry, place) => ({
    name: classNamed(entry.class), tone: `class-${Math.min(place, 2)}`, value: values[place], shown: whole(values[place], rounded[place]),
  }));
  if (typeof detail?.noneProbability !== "number") return known;
  const none = 100 - fractured;
  return [...known, { name: classNamed("none"), tone: "none", value: none, shown: whole(none, 100 - Math.round(fractured)) }];
}

/** @param {{tone: string, value: number}[]} parts @returns {HTMLElement} one bar that adds up to 100 % */
function stack(parts) {
  const fills = parts.map(({ tone, value }) => {
    const fill = element("span", { class: `fill tone-${tone}` });
    fill.style.inlineSize = `${value}%`;
    return fill;
  });
  return element("div.stack", { "aria-hidden": "true" }, ...fills);
}

/** @param {{name: string, tone: string, shown: string}[]} parts */
function key(parts) {
  return element("dl.key", {}, ...parts.map(({ name, tone, shown: percent }) =>
    element("div", { class: `tone-${tone}` }, element("dt", {}, capital(name)), element("dd", {}, percent))));
}

/** @param {Item} item */
function details(item) {
  const rows = factsOf(item).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  return element("details", {}, element("summary", {}, say("details")), element("dl.facts", {}, ...rows));
}

/**
 * @param {Item} item that has an answer
 * @returns {[string, string][]} what is to be known about it
 */
export function factsOf(item) {
  const { detail } = item.answer;
  if (!detail) return [[say("file"), item.name]];
  const { decoder, model, milliseconds } = detail;
  const bits = decoder.bits === null ? say("no_bits") : say("bits", decoder);
  const done = [
    decoder.inverted && say("inverted"),
    decoder.mirrored && say("mirrored"),
    decoder.rotated && say("rotated", { degrees: decoder.rotated }),
    decoder.frames > 1 && say("frames", decoder),
  ].filter(Boolean);
  const spent = Object.fromEntries(Object.entries(milliseconds).map(([stage, value]) => [stage, number(Number(value))]));
  return [
    [say("file"), item.name],
    [say("format"), say("format_value", { format: decoder.format, bits })],
    [say("size"), say("size_value", decoder.originalSize)],
    [say("done_to_it"), done.join(", ") || say("untouched")],
    [say("threshold"), whole(detail.threshold)],
    [say("model"), model.version ?? say("no_version")],
    [say("hash"), model.sha256],
    ...(item.requestId ? [[say("request"), item.requestId]] : []),
    [say("time"), say(milliseconds.network === undefined ? "time_blank" : "time_value", spent)],
  ];
}
