/** Which picture of an image to show: the file itself where the browser shows it as the network saw it, else the service's. */

/** @typedef {import("./visit.js").Item} Item */

/**
 * Find out whether the browser can show a file.
 * @param {Item} item
 * @returns {Promise<boolean>}
 */
export async function canShow(item) {
  const probe = new Image();
  probe.src = item.url;
  try {
    await probe.decode();
    return probe.naturalWidth > 0;
  } catch {
    return false;
  }
}

/**
 * @param {Item} item
 * @returns {string | null} an address for `<img>`; null where there is none yet
 */
export function pictureOf(item) {
  const decoder = item.answer?.detail?.decoder;
  const faithful = !decoder || ((decoder.bits ?? 16) <= 8 && !decoder.inverted);
  if (item.shows && (faithful || !item.explanation)) return item.url;
  return item.explanation?.image ?? null;
}
