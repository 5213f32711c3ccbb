/** The verdict of the image that is looked at: in words, as bars with the threshold, and how it came about. */

import { byId, element, icon } from "./dom.js";
import { capital, number, percent, say } from "./texts.js";
import { onChange, selected } from "./visit.js";
import { retry } from "./work.js";
import { stateOf, verdictOf } from "./words.js";

/** @typedef {import("./visit.js").Item} Item */

let shown = "";

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
  if (item.state === "sending" && shown === `${item.id} sending` && !anew) return showProgress(item);
  const state = `${item.id} ${item.state}`;
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
  const { message, requestId, language } = item.problem;
  const again = () => {
    retry(item);
    byId("result-title").focus();
  };
  return [
    element("div.verdict", { class: "verdict tone-failed" }, icon("failed"), element("h3", {}, say("failed"))),
    element("p.problem", { lang: language }, message),
    requestId ? element("p.muted", {}, say("request_id", { id: requestId })) : null,
    element("div.buttons", {}, element("button.primary", { type: "button", onclick: again }, say("retry"))),
  ].filter((node) => node !== null);
}

/** @param {Item} item @returns {Node[]} */
function answered(item) {
  const verdict = verdictOf(item);
  return [
    element("div", { class: `verdict tone-${verdict.tone}` }, icon(verdict.icon), element("h3", {}, verdict.title)),
    element("p", {}, verdict.text),
    ...numbers(item, verdict.tone),
    details(item),
  ];
}

/**
 * @param {Item} item that has an answer
 * @param {string} tone
 * @returns {HTMLElement[]} how sure the network is; nothing of a blank image, about which nobody asked it
 */
export function numbers(item, tone) {
  return item.answer.detail?.reason === "blank" ? [] : [confidence(item, tone), shares(item, tone)];
}

/** @param {Item} item @param {string} tone */
function confidence(item, tone) {
  const { success, confidence: value, detail } = item.answer;
  const threshold = detail?.threshold;
  const bar = element("div", { class: `bar-line tone-${tone}`, "aria-hidden": "true" }, element("span.fill"));
  setWidth(bar.firstChild, value);
  if (threshold !== undefined) {
    const mark = element("span.mark");
    mark.style.insetInlineStart = `${threshold}%`;
    bar.append(mark);
  }
  const relation = threshold === undefined ? "" : say(success ? "above" : "below", { percent: percent(threshold) });
  return element("section.confidence", {},
    element("h4", {}, say(success ? "confidence" : "confidence_refused")), element(success ? "p.big" : "p", {}, percent(value)), bar, element("p.relation", {}, relation));
}

/** @param {Item} item @param {string} tone */
function shares(item, tone) {
  const { allProbabilities, detail } = item.answer;
  const lines = allProbabilities.map((entry, place) =>
    line(capital(entry.class), entry.probability, tone === "none" ? tone : `class-${Math.min(place, 2)}`));
  const none = detail?.noneProbability;
  const apart = typeof none === "number" ? element("dl.lines", {}, line(say("none_share"), none, "none")) : null;
  const known = [element("h4", {}, say("shares")), element("dl.lines", {}, ...lines)];
  return element("section.shares", {}, ...(tone === "none" ? [apart, ...known] : [...known, apart]));
}

/** @param {string} name @param {number} value in percent @param {string} tone */
function line(name, value, tone) {
  const bar = element("span", { class: `bar-line tone-${tone}`, "aria-hidden": "true" }, element("span.fill"));
  setWidth(bar.firstChild, value);
  return element("div", {}, element("dt", {}, name), element("dd", {}, percent(value), bar));
}

/** @param {HTMLElement} fill @param {number} value in percent */
function setWidth(fill, value) {
  fill.style.inlineSize = `${value}%`;
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
    [say("model"), model.version ?? say("model_unnamed")],
    [say("hash"), model.sha256],
    [say("time"), say(milliseconds.network === undefined ? "time_blank" : "time_value", spent)],
  ];
}
