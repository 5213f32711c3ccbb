/** This visit's images: a list in memory, and which one is looked at. Tells its listeners of every change. */

/**
 * @typedef {object} Item
 * @property {number} id
 * @property {File} file
 * @property {string} name
 * @property {string} url an object URL of the file
 * @property {boolean | null} shows whether the browser can show the file; null while that is not known
 * @property {"waiting" | "sending" | "working" | "busy" | "gone" | "key" | "done" | "failed"} state
 * @property {number} progress of the upload, 0 to 1
 * @property {number} retryAt when a busy one is tried again, in ms since 1970
 * @property {number} tries
 * @property {any} answer the service's JSON
 * @property {string} requestId of the answer
 * @property {{message: string, requestId?: string, language: string, canRetry: boolean} | null} problem
 * @property {boolean} asked whether somebody wants to see the type and the map of a refused one
 * @property {any} explanation as the service gives it
 * @property {"none" | "working" | "busy" | "failed" | "done"} heat how far the explanation is
 * @property {string} heatLanguage of the explanation
 * @property {string} heatProblem
 * @property {number} heatRetryAt
 * @property {number} heatTries
 * @property {(() => void) | null} stop ends what is on its way
 * @property {any} view zoom, place and window, as the viewer keeps them
 */

/** @type {Item[]} */
export const items = [];
const events = new EventTarget();
let nextId = 1;
/** @type {Item | null} */
let looked = null;

/** @returns {Item | null} the image that is looked at */
export const selected = () => looked;

/**
 * @param {"list" | "select" | "item"} kind the list itself; which one is looked at; one image
 * @param {(item: Item | null) => void} listener
 */
export function onChange(kind, listener) {
  events.addEventListener(kind, (event) => listener(/** @type {CustomEvent} */ (event).detail));
}

/**
 * @param {"list" | "select" | "item"} kind
 * @param {Item | null} item
 */
function tell(kind, item) {
  events.dispatchEvent(new CustomEvent(kind, { detail: item }));
}

/**
 * Add files at the end of the list and look at the first of them.
 * @param {File[]} files
 * @returns {Item[]}
 */
export function add(files) {
  const added = files.map((file) => newItem(file));
  items.push(...added);
  tell("list", null);
  if (added.length) select(added[0]);
  return added;
}

/** @param {File} file @returns {Item} */
function newItem(file) {
  return {
    id: nextId++,
    file,
    name: file.name || "image",
    url: URL.createObjectURL(file),
    shows: null,
    state: "waiting",
    progress: 0,
    retryAt: 0,
    tries: 0,
    answer: null,
    requestId: "",
    problem: null,
    asked: false,
    explanation: null,
    heat: "none",
    heatLanguage: "",
    heatProblem: "",
    heatRetryAt: 0,
    heatTries: 0,
    stop: null,
    view: null,
  };
}

/** @param {Item} item @param {Partial<Item>} changes */
export function change(item, changes) {
  Object.assign(item, changes);
  if (items.includes(item)) tell("item", item);
}

/** @param {Item | null} item */
export function select(item) {
  looked = item;
  tell("select", item);
}

/** @param {Item} item */
export function remove(item) {
  const place = items.indexOf(item);
  items.splice(place, 1);
  forget(item);
  tell("list", null);
  if (looked === item) select(items[Math.min(place, items.length - 1)] ?? null);
}

/** Forget every image. */
export function clear() {
  items.splice(0).forEach(forget);
  tell("list", null);
  select(null);
}

/** @param {Item} item that has left the list */
function forget(item) {
  item.stop?.();
  URL.revokeObjectURL(item.url);
}
