/** Calls the service as any client does: multipart to /predict. The API key lives here, in memory alone. */

let key = "";

/** @param {string} value */
export function useKey(value) {
  key = value;
}

/** @returns {boolean} */
export const hasKey = () => key !== "";

/**
 * @typedef {object} Reply
 * @property {number} status HTTP status; 0 where no answer came
 * @property {any} body the JSON, or null where it was none
 * @property {number | null} retryAfter seconds that the service asks to wait
 * @property {string} requestId
 */

/**
 * Send one image.
 * @param {File} file
 * @param {Record<string, string>} query
 * @param {(share: number) => void} onProgress told the share of the upload that has left, 0 to 1
 * @returns {{reply: Promise<Reply>, stop: () => void}}
 */
export function predict(file, query, onProgress) {
  const call = new XMLHttpRequest();
  const reply = new Promise((resolve) => {
    call.open("POST", `predict?${new URLSearchParams(query)}`);
    call.responseType = "text";
    if (key) call.setRequestHeader("X-API-Key", key);
    call.upload.addEventListener("progress", (event) => event.lengthComputable && onProgress(event.loaded / event.total));
    call.upload.addEventListener("load", () => onProgress(1));
    call.addEventListener("loadend", () => resolve({ status: call.status, body: parsed(call.responseText), retryAfter: seconds(call), requestId: requestIdOf(call) }));
    const form = new FormData();
    form.append("image", file);
    call.send(form);
  });
  return { reply, stop: () => call.abort() };
}

/**
 * @returns {Promise<any>} what the service says of its model; null where it does not answer
 */
export async function describeModel() {
  try {
    const answer = await fetch("model");
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/** @returns {Promise<boolean>} whether the service would answer now */
export async function isReady() {
  try {
    return (await fetch("ready", { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** @param {XMLHttpRequest} call */
const requestIdOf = (call) => (call.status && call.getResponseHeader("X-Request-ID")) || "";

/** @param {XMLHttpRequest} call */
function seconds(call) {
  const value = Number(call.status ? call.getResponseHeader("Retry-After") : 0);
  return Number.isFinite(value) && value > 0 ? value : null;
}
