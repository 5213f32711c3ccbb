/** What to call a verdict: its class, icon and tone, in words. */

import { capital, either, say } from "./texts.js";

/** @typedef {import("./visit.js").Item} Item */

/**
 * @param {Item} item that has an answer
 * @returns {{title: string, short: string, text: string, tone: string, icon: string}}
 */
export function verdictOf(item) {
  const { success, predictedClass, allProbabilities, detail } = item.answer;
  const names = allProbabilities.map((entry) => entry.class);
  if (!success) {
    const isBlank = detail?.reason === "blank";
    return {
      title: say(isBlank ? "blank_title" : "none_title"),
      short: say(isBlank ? "blank_title" : "none_list"),
      text: refusal(names, detail?.reason),
      tone: "none",
      icon: "none",
    };
  }
  const place = Math.min(names.indexOf(predictedClass), 2);
  const title = capital(predictedClass);
  return { title, short: title, text: say(`gloss_${predictedClass}`), tone: `class-${place}`, icon: String(place) };
}

/** @param {string[]} names @param {string} [reason] */
function refusal(names, reason) {
  const because = say(`reason_${reason ?? "low_confidence"}`);
  return reason === "blank" ? because : `${say("none_text", { classes: either(names) })} ${because}`;
}

/**
 * @param {Item} item
 * @returns {string} how far it is, in a word or two
 */
export function shortStateOf(item) {
  if (item.state === "done") return verdictOf(item).short;
  return say(`short_${item.state}`, { percent: `${Math.round(100 * item.progress)} %`, seconds: secondsTo(item.retryAt) });
}

/**
 * @param {Item} item
 * @returns {string} how far it is, in a few words
 */
export function stateOf(item) {
  switch (item.state) {
    case "done":
      return verdictOf(item).short;
    case "sending":
      return say("sending", { percent: `${Math.round(100 * item.progress)} %` });
    case "busy":
      return say("busy", { seconds: secondsTo(item.retryAt) });
    case "gone":
      return say("gone_item");
    case "key":
      return say("needs_key");
    default:
      return say(item.state);
  }
}

/** @param {number} time in ms since 1970 */
export const secondsTo = (time) => Math.max(1, Math.ceil((time - Date.now()) / 1000));

/**
 * @param {{x: number, y: number}} peak in shares of the sides
 * @returns {string} such as «arriba a la izquierda»
 */
export function placeOf({ x, y }) {
  const down = ["top_", "", "bottom_"][Math.min(2, Math.floor(3 * y))];
  const across = ["left", "", "right"][Math.min(2, Math.floor(3 * x))];
  return say(`place_${(down + across).replace(/_$/, "") || "middle"}`);
}
