/** The one-page report that is printed: picture, verdict, model, disclaimer. Hidden on the screen. */

import { digestOf } from "./digest.js";
import { byId, element, icon } from "./dom.js";
import { pictureOf } from "./picture.js";
import { factsOf, numbers, track } from "./result.js";
import { language, say } from "./texts.js";
import { onChange, selected } from "./visit.js";
import { showsWhere, verdictOf } from "./words.js";

/** @typedef {import("./visit.js").Item} Item */

const STUDY = ["study_patient", "study_number", "study_region", "study_reader"]; // left blank, for the hand
/** @type {WeakMap<Item, string>} */
const digests = new WeakMap();

/** Keep the report ready, whichever way printing is asked for. */
export function startReport() {
  onChange("select", showReport);
  onChange("item", (item) => item === selected() && showReport());
  addEventListener("beforeprint", showReport);
}

/** Write the report of the image that is looked at. */
export async function showReport() {
  const item = selected();
  const report = byId("report");
  report.hidden = item?.state !== "done";
  report.replaceChildren(...(item?.state === "done" ? parts(item, digests.get(item)) : []));
  if (item?.state !== "done" || digests.has(item)) return;
  digests.set(item, await digestOf(item.file));
  if (item === selected()) void showReport();
}

/** @param {Item} item */
const isExplained = (item) => Boolean(item.explanation) && showsWhere(item);

/** @param {Item} item @param {string} [digest] of the film @returns {Node[]} */
function parts(item, digest) {
  const verdict = verdictOf(item);
  const date = new Intl.DateTimeFormat(language(), { dateStyle: "long", timeStyle: "short" }).format(new Date());
  const method = isExplained(item) && [say("report_heat"), say(`method_${item.explanation.method}`)];
  const facts = [[say("report_date"), date], ...factsOf(item), ...(digest ? [[say("film_hash"), digest]] : []), ...(method ? [method] : [])];
  return [
    element("header", {}, element("p.report-title", {}, say("report_title")), element("p", {}, say("title"))),
    element("dl.report-study", {}, ...STUDY.flatMap((name) => [element("dt", {}, say(name)), element("dd")])),
    films(item),
    element("div.report-body", {},
      element("div", {},
        element("div", { class: `verdict tone-${verdict.tone}` }, icon(verdict.icon), element("p.report-verdict", {}, verdict.title)),
        element("p", {}, verdict.text)),
      element("div", {}, ...numbers(item), track())),
    element("dl.facts", {}, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
    isExplained(item) ? element("p", { lang: item.heatLanguage }, item.explanation.caveat) : null,
    element("p.report-notice", {}, `${say("notice")} ${say("check")}`),
  ].filter((node) => node !== null);
}

/** @param {Item} item */
function films(item) {
  const picture = item.explanation?.image ?? pictureOf(item);
  if (!picture) return element("div.report-films");
  const plain = element("img", { src: picture, alt: say("picture", item) });
  if (!isExplained(item) || !item.explanation.peak) return element("div.report-films", {}, plain);
  const warm = element("div.report-heat", {}, element("img", { src: picture, alt: say("report_heat") }), element("img", { src: item.explanation.map, alt: "" }));
  return element("div.report-films", {}, plain, warm);
}
