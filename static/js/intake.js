/** Lets images in: dropped anywhere, chosen, pasted, photographed. */

import { byId, speak } from "./dom.js";
import { say } from "./texts.js";

/**
 * @param {(files: File[]) => void} onFiles told of every handful of files
 */
export function startIntake(onFiles) {
  for (const button of document.querySelectorAll("[data-pick]")) {
    button.addEventListener("click", () => byId(button.dataset.pick).click());
  }
  for (const input of [byId("files"), byId("camera")]) {
    input.addEventListener("change", () => {
      pass([...input.files], onFiles);
      input.value = ""; // so that the same file can be chosen again
    });
  }
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) pass(files, onFiles);
    else if (!(event.target instanceof HTMLInputElement)) speak(say("nothing_to_paste"));
  });
  startDropping(onFiles);
}

/** @param {File[]} files @param {(files: File[]) => void} onFiles */
function pass(files, onFiles) {
  if (files.length) onFiles(files);
}

/** @param {(files: File[]) => void} onFiles */
function startDropping(onFiles) {
  const veil = byId("drop-now");
  let depth = 0; // dragenter and dragleave come for every element on the way
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  const show = (change) => {
    depth = Math.max(0, depth + change);
    veil.hidden = depth === 0;
  };
  addEventListener("dragenter", (event) => holdsFiles(event) && show(1));
  addEventListener("dragleave", (event) => holdsFiles(event) && show(-1));
  addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    show(-depth);
    pass([...event.dataTransfer.files], onFiles);
  });
}
