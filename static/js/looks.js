// How the scan is looked at: what lies over it stronger or fainter, zoom, brightness and contrast,
// by sliders and on the picture itself. Each slider is a custom property of the stage; the style
// sheet has what it does.

const stage = document.getElementById("stage");
const looks = document.getElementById("looks");
const sliders = [...looks.querySelectorAll("input[type=range]")];

function adjust({ id, value }) {
  const { clientWidth: width, clientHeight: height } = stage;
  const x = (stage.scrollLeft + width / 2) / stage.scrollWidth;
  const y = (stage.scrollTop + height / 2) / stage.scrollHeight;
  stage.style.setProperty(`--${id}`, value / 100);
  if (id !== "zoom") return;
  // What was in the middle stays there.
  stage.scrollTo(x * stage.scrollWidth - width / 2, y * stage.scrollHeight - height / 2);
  if (value > 100) stage.tabIndex = 0; // the arrow keys move it then
  else stage.removeAttribute("tabindex");
}

looks.addEventListener("input", ({ target }) => {
  if (sliders.includes(target)) adjust(target);
});
document.getElementById("reset").addEventListener("click", () => {
  for (const slider of sliders) {
    slider.value = slider.defaultValue;
    adjust(slider);
  }
});

/** Set sliders to values between their steps, too. */
function set(values) {
  for (const slider of sliders) {
    if (!(slider.id in values)) continue;
    const [least, most] = [slider.min, slider.max].map(Number);
    const value = Math.max(least, Math.min(most, values[slider.id]));
    slider.value = value;
    adjust({ id: slider.id, value });
  }
}

// As in viewers of films: a drag across changes the contrast, one up or down the brightness.
// What is zoomed is moved instead, unless Shift is held.
let dragged = null;
stage.addEventListener("pointerdown", ({ pointerType, pointerId, button, clientX, clientY }) => {
  if (pointerType !== "mouse" || button !== 0 || !stage.querySelector("img#scan")) return;
  stage.setPointerCapture(pointerId); // wherever it is let go
  const read = (id) => Number(getComputedStyle(stage).getPropertyValue(`--${id}`) || 1) * 100;
  dragged = { x: clientX, y: clientY, brightness: read("brightness"), contrast: read("contrast") };
});
stage.addEventListener("pointermove", (event) => {
  if (!dragged) return;
  if (stage.tabIndex === 0 && !event.shiftKey) {
    return stage.scrollBy(-event.movementX, -event.movementY);
  }
  set({
    contrast: dragged.contrast + (event.clientX - dragged.x) / 2,
    brightness: dragged.brightness - (event.clientY - dragged.y) / 2,
  });
});
stage.addEventListener("lostpointercapture", () => {
  dragged = null;
});
stage.addEventListener("dblclick", () => set({ contrast: 100, brightness: 100 }));
stage.addEventListener("dragstart", (event) => event.preventDefault()); // it is moved instead
if (matchMedia("(max-width: 47.99rem)").matches) looks.open = false;
