// The slices of a head: which one is on the stage, by the slider, the wheel or a finger.

import { placeParts } from "./parts.js";

const NOTCH = 50; // pixels of a wheel that turn to the next slice; a touchpad has many small ones
const LEAST_WAY = 6; // pixels of a finger's way to the next slice

const stage = document.getElementById("stage");
const findSlider = () => document.querySelector("#slices input[type=range]");
const isZoomed = () => stage.scrollWidth > stage.clientWidth;
let wanted = null;
let wheeled = 0;
let touched = null; // where a finger was put down, and the slice that was shown then

/** Give what of a scan is on the stage, `{file, frame}`; null where it is not a series. */
export function findSlice(scan) {
  if (!scan || !findSlider()) return null;
  const { file: path, frame } = document.getElementById("slice").dataset;
  const file = scan.files ? scan.files[scan.paths.indexOf(path)] : scan;
  return file ? { file, frame } : null;
}

async function show(slider) {
  const template = document.querySelectorAll("#slices > template")[slider.value - 1];
  const parts = [...document.importNode(template.content, true).children];
  const part = (id) => parts.find((one) => one.id === id);
  wanted = template;
  describe(slider, part("slice"));
  await part("scan").decode(); // before that the stage would be empty
  if (wanted !== template || !slider.isConnected) return;
  placeParts(parts);
  document.dispatchEvent(new CustomEvent("turned"));
}

function describe(slider, slice) {
  slider.ariaValueText = slice.textContent.replace(/\s+/g, " ").trim();
}

function turnTo(number) {
  const slider = findSlider();
  const before = slider.value;
  slider.value = number;
  if (slider.value !== before) show(slider);
}

document.addEventListener("predicted", () => {
  const slider = findSlider();
  if (!slider) return;
  slider.parentElement.style.setProperty("--slices", slider.max);
  describe(slider, document.getElementById("slice"));
});
document.addEventListener("input", ({ target }) => {
  if (target === findSlider()) show(target);
});
stage.addEventListener(
  "wheel",
  (event) => {
    if (!findSlider() || event.ctrlKey) return;
    event.preventDefault();
    const way = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY : event.deltaY * NOTCH;
    if (way * wheeled < 0) wheeled = 0;
    wheeled += Math.max(-NOTCH, Math.min(NOTCH, way));
    if (Math.abs(wheeled) < NOTCH) return;
    turnTo(Number(findSlider().value) + Math.sign(wheeled));
    wheeled = 0;
  },
  { passive: false },
);
stage.addEventListener("click", () => {
  if (!isZoomed()) findSlider()?.focus({ preventScroll: true }); // else the keys move the picture
});
stage.addEventListener("pointerdown", ({ pointerType, clientX }) => {
  const slider = findSlider();
  const moves = slider && pointerType === "touch" && !isZoomed();
  touched = moves ? { x: clientX, number: Number(slider.value) } : null;
});
stage.addEventListener("pointermove", ({ pointerType, clientX }) => {
  if (!touched || pointerType !== "touch" || !findSlider()) return;
  const way = Math.max(LEAST_WAY, stage.clientWidth / findSlider().max);
  turnTo(touched.number + Math.round((clientX - touched.x) / way));
});
