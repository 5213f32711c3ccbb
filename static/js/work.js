/**
 * Sends the images: verdicts first, two at a time; the heat map of the one that is looked at, one at a time.
 * Waits as long as the service asks, and until it is back where it is gone.
 */

import { hasKey, isReady, predict, useKey } from "./api.js";
import { askForKey } from "./key.js";
import { language, number, say } from "./texts.js";
import { change, items, selected } from "./visit.js";
import { showsWhere } from "./words.js";

/** @typedef {import("./visit.js").Item} Item */

const AT_ONCE = 2;
const MOST_TRIES = 8;
const MOST_MAP_TRIES = 6;
const LATER = new Set([429, 503, 504]);

let sending = 0;
let mapping = false;
let gone = false;
let asking = false;
/** @type {(isGone: boolean) => void} */
let tellGone = () => {};
let maxBytes = Infinity;

/**
 * @param {number} megabytes the most that the service takes, in 1,000,000 bytes
 * @param {(isGone: boolean) => void} onGone told when the service stops answering, and when it answers again
 */
export function startWork(megabytes, onGone) {
  maxBytes = megabytes * 1_000_000;
  tellGone = onGone;
  setInterval(pump, 500); // what waits for its time
}

/** Send what can be sent now. */
export function pump() {
  if (gone || asking) return;
  while (sending < AT_ONCE) {
    const next = items.find((item) => item.state === "waiting" || (item.state === "busy" && item.retryAt <= Date.now()));
    if (!next) break;
    void send(next);
  }
  const unmapped = nextForMap();
  if (unmapped && !mapping) void sendForMap(unmapped);
}

/**
 * Try an image again that failed.
 * @param {Item} item
 */
export function retry(item) {
  change(item, { state: "waiting", problem: null, tries: 0, progress: 0 });
  pump();
}

/**
 * Show the type and the map of a refused image after all.
 * @param {Item} item
 */
export function showAnyway(item) {
  change(item, { asked: true });
  pump();
}

/** @param {Item} item */
export function retryMap(item) {
  change(item, { heat: "none", heatTries: 0 });
  pump();
}

/** Ask anew for what came in the other language. */
export function renewForLanguage() {
  for (const item of items) if (item.state === "failed") retry(item);
  pump();
}

/** @param {Item} item */
async function send(item) {
  const refusal = refusedHere(item.file);
  if (refusal) return fail(item, refusal, { canRetry: false });
  sending += 1;
  change(item, { state: "sending", progress: 0, tries: item.tries + 1 });
  const onProgress = (share) => change(item, share < 1 ? { progress: share } : { progress: 1, state: "working" });
  const call = predict(item.file, { detail: "1", lang: language() }, onProgress);
  item.stop = call.stop;
  const { status, body, retryAfter, requestId } = await call.reply;
  sending -= 1;
  if (status === 200 && body) change(item, { state: "done", answer: body, requestId, problem: null });
  else if (status === 0) lose(item);
  else if (status === 401) await unlock(item);
  else if (LATER.has(status) && item.tries < MOST_TRIES) change(item, { state: "busy", retryAt: later(retryAfter) });
  else {
    const canRetry = status < 400 || status === 429 || status >= 500;
    fail(item, body?.message ?? say(canRetry ? "odd_answer" : "odd_refusal", { status }), { requestId, canRetry });
  }
  pump();
}

/**
 * @param {File} file
 * @returns {string | null} why the service would refuse it, where that can be told without asking
 */
function refusedHere(file) {
  if (file.size === 0) return say("empty");
  if (file.size <= maxBytes) return null;
  return say("too_large", { size: number(file.size / 1_000_000), megabytes: number(maxBytes / 1_000_000) });
}

/**
 * @param {Item} item
 * @param {string} message
 * @param {{requestId?: string, canRetry: boolean}} facts `canRetry`: whether the same file may fare better another time
 */
function fail(item, message, facts) {
  change(item, { state: "failed", problem: { message, language: language(), ...facts } });
}

/** @param {number | null} retryAfter seconds */
function later(retryAfter) {
  return Date.now() + 1000 * (retryAfter ?? 3) + 400 * Math.random(); // so that those who wait do not come at once
}

/** @param {Item} item */
function lose(item) {
  if (!items.includes(item)) return;
  change(item, { state: "gone" });
  if (!gone) void waitForService();
}

/** Ask whether the service is back, ever less often, at most every 15 s. */
async function waitForService() {
  gone = true;
  tellGone(true);
  for (let seconds = 1; gone; seconds = Math.min(15, 2 * seconds)) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    await lookForService();
  }
}

/** See whether the service is back, and go on if it is. */
export async function lookForService() {
  if (!gone || !(await isReady())) return;
  gone = false;
  tellGone(false);
  for (const item of items) if (item.state === "gone") change(item, { state: "waiting" });
  pump();
}

/** @param {Item} item that the service refused for want of a key */
async function unlock(item) {
  change(item, { state: "key" });
  if (asking) return;
  asking = true;
  const key = await askForKey(hasKey());
  asking = false;
  if (key !== null) useKey(key);
  for (const waiting of items.filter(({ state }) => state === "key")) {
    if (key === null) fail(waiting, say("no_key"), { canRetry: true });
    else change(waiting, { state: "waiting" });
  }
}

/** @returns {Item | undefined} the one that is looked at, or else one that the browser cannot show */
function nextForMap() {
  const now = selected();
  if (now && wantsMap(now)) return now;
  return items.find((item) => item.shows === false && !item.explanation && wantsMap(item));
}

/** @param {Item} item */
function wantsMap(item) {
  if (item.state !== "done" || item.heat === "working" || item.heat === "failed") return false;
  if (!showsWhere(item) && item.shows !== false) return false;
  if (item.heat === "busy") return item.heatRetryAt <= Date.now();
  return item.heat === "none" || item.heatLanguage !== language();
}

/** @param {Item} item */
async function sendForMap(item) {
  mapping = true;
  const asked = language();
  change(item, { heat: "working", heatTries: item.heatTries + 1 });
  const call = predict(item.file, { explain: "1", lang: asked }, () => {});
  item.stop = call.stop;
  const { status, body, retryAfter } = await call.reply;
  mapping = false;
  if (status === 200 && body?.explanation) {
    change(item, { heat: "done", explanation: body.explanation, heatLanguage: asked, heatTries: 0 });
  } else if (status === 0 && items.includes(item)) {
    change(item, { heat: "none" });
    if (!gone) void waitForService();
  } else if (LATER.has(status) && item.heatTries < MOST_MAP_TRIES) {
    change(item, { heat: "busy", heatRetryAt: later(retryAfter) });
  } else {
    change(item, { heat: "failed", heatProblem: body?.message ?? say("odd_answer", { status }) });
  }
  pump();
}
