/** What to call a verdict: its state, title, sentence, icon and tone. */

import { capital, classNamed, either, say, whole } from "./texts.js";

/** @typedef {import("./visit.js").Item} Item */

/**
 * @param {Item} item that has an answer
 * @returns {{title: string, short: string, text: string, tone: string, icon: string}}
 */
export function verdictOf(item) {
  const { success, predictedClass, allProbabilities, detail } = item.answer;
  if (detail?.reason === "blank") return none("blank", say("reason_blank"));
  if (detail?.certainty === "doubtful") return doubtful(doubtOf(item));
  if (detail?.certainty === "unfamiliar") return success ? doubtful(say("doubt_unfamiliar")) : none("unfamiliar", say("reason_unfamiliar"));
  if (!success) return none("none", refusalOf(item));
  const place = Math.min(allProbabilities.findIndex((entry) => entry.class === predictedClass), 2);
  const title = capital(classNamed(predictedClass));
  return { title, short: title, text: say(`gloss_${predictedClass}`), tone: `class-${place}`, icon: String(place) };
}

/** @param {string} kind @param {string} text */
const none = (kind, text) => ({ title: say(`${kind}_title`), short: say(`${kind}_short`), text, tone: "none", icon: "none" });

/** @param {string} text */
const doubtful = (text) => ({ title: say("doubtful_title"), short: say("doubtful_title"), text, tone: "doubtful", icon: "doubtful" });

/** @param {Item} item @returns {string} what it may be */
function doubtOf(item) {
  const { success, detail: { possible } } = item.answer;
  if (possible?.length === 0) return say("doubt_nothing_fits");
  if (!possible || (success && possible.length === 1)) return say("doubt_none_likelier");
  const sentence = possible.length === 1 ? "doubt_only" : possible.includes("none") ? "doubt_possible" : "doubt_type";
  return say(sentence, { names: either(possible.map(classNamed)) });
}

/** @param {Item} item @returns {string} why it was not recognised */
function refusalOf(item) {
  const { allProbabilities, detail } = item.answer;
  const names = either(allProbabilities.map((entry) => classNamed(entry.class)));
  return say(`reason_${detail?.reason ?? "low_confidence"}`, { classes: names });
}

/**
 * @param {Item} item that has an answer
 * @returns {string} how likely a fracture is, such as «99 %»; empty where the network cannot tell
 */
export function chanceOf(item) {
  const { success, detail } = item.answer;
  const cannotTell = detail?.reason === "blank" || (detail?.certainty === "unfamiliar" && !success && !item.asked);
  return cannotTell || typeof detail?.fractured !== "number" ? "" : whole(detail.fractured);
}

/**
 * @param {Item} item that has an answer
 * @returns {string} the question that comes first, answered: «¿Hay fractura? 99 %»; empty where the network cannot tell
 */
export function questionOf(item) {
  const chance = chanceOf(item);
  return chance && `${say("question")} ${chance}`;
}

/**
 * @param {Item} item that has an answer
 * @returns {boolean} whether its type and its map are to be shown: on a refusal only where somebody asked
 */
export const showsWhere = (item) => Boolean(item.answer?.success || item.asked);

/**
 * @param {Item} item
 * @returns {string} how far it is, in a word or two
 */
export function shortStateOf(item) {
  if (item.state === "done") return verdictOf(item).short;
  return say(`short_${item.state}`, { percent: whole(100 * item.progress), seconds: secondsTo(item.retryAt) });
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
      return say("sending", { percent: whole(100 * item.progress) });
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
 * @param {{x: number, y: number}} peak in fractions of the sides
 * @returns {string} such as «arriba a la izquierda de la imagen»
 */
export function placeOf({ x, y }) {
  const down = ["top_", "", "bottom_"][Math.min(2, Math.floor(3 * y))];
  const across = ["left", "", "right"][Math.min(2, Math.floor(3 * x))];
  return say(`place_${(down + across).replace(/_$/, "") || "middle"}`);
}
