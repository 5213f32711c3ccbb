/** The viewer: the radiograph under its heat map, with zoom, pan, inversion, brightness and contrast. */

import { byId, element } from "./dom.js";
import { startGestures } from "./gestures.js";
import { pictureOf } from "./picture.js";
import { say } from "./texts.js";
import { onChange, selected } from "./visit.js";
import { retryMap } from "./work.js";
import { placeOf, secondsTo, showsWhere } from "./words.js";

/** @typedef {import("./visit.js").Item} Item */

const MOST_ZOOM = 12;
const STEP = 1.25;
const KEPT_PIXELS = 40; // of the film, always in the stage
let scaleIsAbsolute = false;
const FRESH = { zoom: 1, x: 0, y: 0, brightness: 0, contrast: 0, inverted: false };

/** @returns {any} the view of the image that is looked at */
function view() {
  const item = selected();
  if (!item) return { ...FRESH };
  item.view ??= { ...FRESH };
  return item.view;
}

/** @param {any} model what the service says of its model */
export function useScale(model) {
  scaleIsAbsolute = Boolean(model?.evidenceScale);
  showViewer();
}

/** Show the image that is looked at and follow the tools, the mouse, fingers and the keyboard. */
export function startViewer() {
  onChange("select", showViewer);
  onChange("item", (item) => item === selected() && showViewer());
  byId("picture").addEventListener("load", place);
  new ResizeObserver(place).observe(byId("stage"));
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => TOOLS[button.dataset.tool]());
  }
  for (const name of ["brightness", "contrast"]) {
    byId(name).addEventListener("input", () => setView({ [name]: Number(byId(name).value) }));
  }
  for (const name of ["heat", "outline"]) byId(name).addEventListener("input", showHeat);
  byId("stage").addEventListener("keydown", pressed);
  startGestures(byId("stage"), { zoomAt, moveBy, windowBy, fit });
}

const fit = () => setView({ zoom: 1, x: 0, y: 0 });
const TOOLS = {
  zoom_in: () => zoomAt(STEP),
  zoom_out: () => zoomAt(1 / STEP),
  fit,
  invert: () => setView({ inverted: !view().inverted }),
  reset: () => setView({ ...FRESH }),
};
const KEYS = {
  "+": TOOLS.zoom_in,
  "=": TOOLS.zoom_in,
  "-": TOOLS.zoom_out,
  0: fit,
  i: TOOLS.invert,
  ArrowLeft: () => moveBy(40, 0),
  ArrowRight: () => moveBy(-40, 0),
  ArrowUp: () => moveBy(0, 40),
  ArrowDown: () => moveBy(0, -40),
};

/** @param {KeyboardEvent} event */
function pressed(event) {
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
}

/** @param {Record<string, any>} changes */
function setView(changes) {
  Object.assign(view(), changes);
  place();
}

/**
 * @param {number} factor
 * @param {number} [x] of the point that stays, in pixels from the middle of the stage
 * @param {number} [y]
 */
function zoomAt(factor, x = 0, y = 0) {
  const now = view();
  const zoom = Math.min(MOST_ZOOM, Math.max(1, now.zoom * factor));
  const change = zoom / now.zoom;
  setView({ zoom, x: x - (x - now.x) * change, y: y - (y - now.y) * change });
}

/** @param {number} x @param {number} y in pixels */
function moveBy(x, y) {
  setView({ x: view().x + x, y: view().y + y });
}

/** @param {number} contrast @param {number} brightness changes, in percent */
function windowBy(contrast, brightness) {
  setView({ contrast: within(view().contrast + contrast, 100), brightness: within(view().brightness + brightness, 100) });
}

/** Write the image that is looked at into the viewer. */
export function showViewer() {
  const item = selected();
  const source = item && pictureOf(item);
  const picture = byId("picture");
  picture.hidden = !source;
  if (source && picture.getAttribute("src") !== source) picture.src = source;
  if (!source) picture.removeAttribute("src");
  picture.alt = item ? say("picture", item) : "";
  byId("stage").setAttribute("aria-label", item ? say("stage", item) : say("stage_empty"));
  byId("stage-note").hidden = !item || Boolean(source) || item.shows !== false;
  byId("stage-note").textContent = say(item?.state === "failed" || item?.heat === "failed" ? "no_preview" : "no_picture");
  showMap(item);
  showNote(item);
  place();
}

/** @param {Item | null} item */
function showMap(item) {
  const explanation = item && showsWhere(item) ? item.explanation : null;
  const hasSpots = Boolean(explanation?.peak);
  const map = byId("map");
  byId("heat").disabled = byId("outline").disabled = !hasSpots;
  map.hidden = byId("spots").hidden = !hasSpots;
  byId("spots").replaceChildren(...(hasSpots ? explanation.boxes.map(outlineOf) : []));
  if (!hasSpots) map.removeAttribute("src");
  else if (map.getAttribute("src") !== explanation.map) map.src = explanation.map;
  showHeat();
}

/** @param {{x: number, y: number, width: number, height: number}} box in fractions of the sides */
function outlineOf({ x, y, width, height }) {
  const outline = element("span.spot");
  const shares = { insetInlineStart: x, insetBlockStart: y, inlineSize: width, blockSize: height };
  for (const [side, share] of Object.entries(shares)) outline.style[side] = `${100 * share}%`;
  return outline;
}

/** Lay the map over the picture as strongly as the slider says, and the outlines where they are wanted. */
function showHeat() {
  byId("map").style.opacity = String(Number(byId("heat").value) / 100);
  byId("spots").style.visibility = byId("outline").checked ? "visible" : "hidden";
}

/** @param {Item | null} item */
function showNote(item) {
  byId("heat-note").dataset.state = item?.heat ?? "none";
  byId("heat-note").replaceChildren(...(item ? noteOf(item) : []));
}

/** @param {Item} item @returns {(Node | string)[]} what there is to say about the map */
function noteOf(item) {
  if (item.explanation && showsWhere(item)) {
    const { peak, boxes, caveat, method } = item.explanation;
    if (!peak && method !== "none") return [element("p", {}, say("heat_none"))];
    const where = peak ? `${say(boxes.length > 1 ? "heat_peaks" : "heat_peak", { count: boxes.length, place: placeOf(peak) })} ` : "";
    const words = element("p", {}, where, element("span", { lang: item.heatLanguage }, caveat));
    return peak ? [legend(), words] : [words];
  }
  if (item.heat === "busy") return [element("p", {}, say("heat_waiting", { seconds: secondsTo(item.heatRetryAt) }))];
  if (item.heat === "working") return [element("p.seeking", {}, say("heat_working"))];
  if (!pictureOf(item)) return [];
  if (item.heat !== "failed") return [element("p", {}, say(matchMedia("(pointer: coarse)").matches ? "touch_hint" : "drag_hint"))];
  const retry = () => {
    retryMap(item);
    byId("stage").focus();
  };
  const again = element("button", { type: "button", onclick: retry }, say("heat_retry"));
  return [element("p", {}, say("heat_failed", { message: item.heatProblem }), " ", again)];
}

/** @returns {HTMLElement} what the map's colours mean: an absolute scale where the model file states one */
function legend() {
  return element("p.legend", {}, say("legend_less"), element("span.scale", { "aria-hidden": "true" }), say("legend_more"),
    ` (${say(scaleIsAbsolute ? "legend_absolute" : "legend_relative")})`);
}

/** Put the film where the view says, in the size that fits the stage. */
function place() {
  const picture = byId("picture");
  const stage = byId("stage");
  const now = view();
  const [width, height] = [picture.naturalWidth || 1, picture.naturalHeight || 1];
  const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height);
  const film = byId("film");
  if (now.zoom === 1) [now.x, now.y] = [0, 0];
  now.x = within(now.x, (width * scale * now.zoom + stage.clientWidth) / 2 - KEPT_PIXELS);
  now.y = within(now.y, (height * scale * now.zoom + stage.clientHeight) / 2 - KEPT_PIXELS);
  film.style.inlineSize = `${width * scale}px`;
  film.style.blockSize = `${height * scale}px`;
  film.style.transform = `translate(${now.x}px, ${now.y}px) scale(${now.zoom})`;
  film.style.setProperty("--zoom", String(now.zoom));
  showWindow(now);
}

/** @param {number} value @param {number} most */
const within = (value, most) => Math.max(-most, Math.min(most, value));

/**
 * Map grey values as radiograph viewers do: a straight line, steeper for contrast, shifted for brightness.
 * @param {any} now
 */
function showWindow({ brightness, contrast, inverted }) {
  const steepness = 4 ** (contrast / 100);
  const slope = inverted ? -steepness : steepness;
  const intercept = 0.5 - slope / 2 + brightness / 200;
  for (const channel of document.querySelectorAll("#window feComponentTransfer > *")) {
    channel.setAttribute("slope", String(slope));
    channel.setAttribute("intercept", String(intercept));
  }
  byId("picture").classList.toggle("windowed", slope !== 1 || brightness !== 0);
  byId("brightness").value = brightness;
  byId("contrast").value = contrast;
  document.querySelector('[data-tool="invert"]').setAttribute("aria-pressed", String(inverted));
}
