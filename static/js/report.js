/** The one-page report that is printed: picture, verdict, model, disclaimer. Hidden on the screen. */

import { byId, element, icon } from "./dom.js";
import { pictureOf } from "./picture.js";
import { factsOf, numbers } from "./result.js";
import { language, say } from "./texts.js";
import { onChange, selected } from "./visit.js";
import { verdictOf } from "./words.js";

/** @typedef {import("./visit.js").Item} Item */

/** Keep the report ready, whichever way printing is asked for. */
export function startReport() {
  onChange("select", showReport);
  onChange("item", (item) => item === selected() && showReport());
  addEventListener("beforeprint", showReport);
}

/** Write the report of the image that is looked at. */
export function showReport() {
  const item = selected();
  const report = byId("report");
  report.hidden = item?.state !== "done";
  report.replaceChildren(...(item?.state === "done" ? parts(item) : []));
}

/** @param {Item} item @returns {Node[]} */
function parts(item) {
  const verdict = verdictOf(item);
  const date = new Intl.DateTimeFormat(language(), { dateStyle: "long", timeStyle: "short" }).format(new Date());
  const method = item.explanation && [say("report_heat"), say(`method_${item.explanation.method}`)];
  const facts = [[say("report_date"), date], ...factsOf(item), ...(method ? [method] : [])];
  return [
    element("header", {}, element("p.report-title", {}, say("report_title")), element("p", {}, say("title"))),
    films(item),
    element("div.report-body", {},
      element("div", {},
        element("div", { class: `verdict tone-${verdict.tone}` }, icon(verdict.icon), element("p.report-verdict", {}, verdict.title)),
        element("p", {}, verdict.text)),
      element("div", {}, ...numbers(item, verdict.tone))),
    element("dl.facts", {}, ...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
    item.explanation ? element("p", { lang: item.heatLanguage }, item.explanation.caveat) : null,
    element("p.report-notice", {}, `${say("notice")} ${say("check")}`),
  ].filter((node) => node !== null);
}

/** @param {Item} item */
function films(item) {
  const picture = item.explanation?.image ?? pictureOf(item);
  if (!picture) return element("div.report-films");
  const plain = element("img", { src: picture, alt: say("picture", item) });
  if (!item.explanation?.peak) return element("div.report-films", {}, plain);
  const warm = element("div.report-heat", {}, element("img", { src: picture, alt: say("report_heat") }), element("img", { src: item.explanation.map, alt: "" }));
  return element("div.report-films", {}, plain, warm);
}
