/** Puts the parts of the page together. */

import { describeModel } from "./api.js";
import { copy, copyOf } from "./copies.js";
import { byId, speak } from "./dom.js";
import { startIntake } from "./intake.js";
import { showList, sortRows, startList } from "./list.js";
import { canShow } from "./picture.js";
import { showReport, startReport } from "./report.js";
import { showResult, startResult, useModel } from "./result.js";
import { saveTable } from "./table.js";
import { chooseLanguage, either, number, say, startTexts } from "./texts.js";
import { startTheme } from "./theme.js";
import { showViewer, startViewer, useScale } from "./viewer.js";
import { add, change, clear, items, onChange, selected } from "./visit.js";
import { lookForService, pump, renewForLanguage, startWork } from "./work.js";
import { questionOf, verdictOf } from "./words.js";

const { megabytes, formats } = document.body.dataset;
/** @type {any} */
let model = null;

startTheme();
await startTexts();
startList();
startResult();
startViewer();
startReport();
startIntake(takeIn);
startWork(Number(megabytes), showGone);
onChange("list", showWork);
onChange("select", () => pump());
onChange("item", announce);
byId("clear").addEventListener("click", () => {
  clear();
  document.querySelector("#intake [data-pick]")?.focus();
});
byId("sort").addEventListener("click", sortRows);
byId("table").addEventListener("click", () => saveTable(items));
byId("print").addEventListener("click", () => print());
byId("gone-now").addEventListener("click", lookForService);
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => copySelected(button.dataset.copy));
}
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => speakLanguage(button.dataset.language));
}
setInterval(countDown, 1000);
showStatic();
document.documentElement.dataset.ready = "true";
model = await describeModel();
useModel(model);
useScale(model);
showStatic();

/** @param {File[]} files */
function takeIn(files) {
  const wasEmpty = items.length === 0;
  const added = add(files);
  byId("sort").setAttribute("aria-pressed", "false");
  speak(added.length === 1 ? say("spoken_added_one", added[0]) : say("spoken_added", { count: added.length }));
  for (const item of added) void canShow(item).then((shows) => change(item, { shows })).then(pump);
  pump();
  if (wasEmpty || document.activeElement === document.body) byId("result-title").focus({ preventScroll: true });
}

/** Show the list and the viewer once there is an image, the way in before. */
function showWork() {
  byId("work").hidden = items.length === 0;
  byId("intake").hidden = items.length > 0;
  document.body.classList.toggle("working", items.length > 0);
}

/** @param {boolean} isGone */
function showGone(isGone) {
  byId("gone").hidden = !isGone;
  if (!isGone) speak(say("back"));
}

const announced = new WeakMap();

/** @param {import("./visit.js").Item | null} item whose verdict or failure a screen reader is to say, once */
function announce(item) {
  if (!item || announced.get(item) === item.state) return;
  announced.set(item, item.state);
  if (item.state === "done") {
    const { title, text } = verdictOf(item);
    speak([`${item.name}: ${title}.`, text, questionOf(item)].join(" "));
  } else if (item.state === "failed") speak(say("spoken_failed", { name: item.name, message: item.problem.message }));
}

/** @param {string} chosen */
async function speakLanguage(chosen) {
  await chooseLanguage(chosen);
  showStatic();
  showList();
  showResult(true);
  showViewer();
  showReport();
  renewForLanguage();
}

/** Write the sentences that hold facts about the service. */
function showStatic() {
  byId("intake-hint").textContent = say("intake_hint", { formats: either(formats.split(", ")), megabytes: number(Number(megabytes)) });
  if (!model) return;
  byId("model").textContent = model.version ? say("model_version", model) : say("model_unnamed");
  byId("model").title = `SHA-256 ${model.sha256}`;
}

/** Count down for those that wait. */
function countDown() {
  if (items.some(({ state }) => state === "busy")) showList();
  const item = selected();
  if (item?.state === "busy") showResult(true);
  if (item?.heat === "busy") showViewer();
}

/** @param {any} kind */
async function copySelected(kind) {
  const item = selected();
  if (!item?.answer) return;
  byId("copied").textContent = (await copy(copyOf(item, kind))) ? say("copied", { what: kind }) : say("not_copied");
}
