/** Mouse and fingers on the viewer: drag moves, the right button sets the window, wheel and pinch zoom. */

/**
 * @typedef {object} Acts
 * @property {(factor: number, x: number, y: number) => void} zoomAt x and y in pixels from the middle
 * @property {(x: number, y: number) => void} moveBy
 * @property {(contrast: number, brightness: number) => void} windowBy
 * @property {() => void} fit
 */

/**
 * @param {HTMLElement} stage
 * @param {Acts} acts
 */
export function startGestures(stage, acts) {
  /** @type {Map<number, PointerEvent>} */
  const down = new Map();
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    down.set(event.pointerId, event);
  });
  stage.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (!before) return;
    if (down.size === 2) pinch(stage, [...down.values()], event, acts);
    else drag(before, event, acts);
    down.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => down.delete(event.pointerId));
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("dblclick", acts.fit);
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    acts.zoomAt(Math.exp(-event.deltaY / 400), ...fromMiddle(stage, event));
  }, { passive: false });
}

/** @param {PointerEvent} before @param {PointerEvent} now @param {Acts} acts */
function drag(before, now, acts) {
  const [x, y] = [now.clientX - before.clientX, now.clientY - before.clientY];
  if (now.buttons & 2) acts.windowBy(x / 3, -y / 3);
  else acts.moveBy(x, y);
}

/** @param {HTMLElement} stage @param {PointerEvent[]} fingers @param {PointerEvent} moved @param {Acts} acts */
function pinch(stage, fingers, moved, acts) {
  const still = fingers.find((finger) => finger.pointerId !== moved.pointerId);
  const before = fingers.find((finger) => finger.pointerId === moved.pointerId);
  const apart = (finger) => Math.hypot(finger.clientX - still.clientX, finger.clientY - still.clientY);
  acts.zoomAt(apart(moved) / Math.max(1, apart(before)), ...fromMiddle(stage, still));
}

/** @param {HTMLElement} stage @param {MouseEvent} event @returns {[number, number]} */
function fromMiddle(stage, event) {
  const box = stage.getBoundingClientRect();
  return [event.clientX - box.x - box.width / 2, event.clientY - box.y - box.height / 2];
}
