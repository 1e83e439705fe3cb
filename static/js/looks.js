// How the scan is looked at: what lies over it stronger or fainter, zoom, brightness and contrast.
// Each slider is a custom property of the stage; the style sheet has what it does.

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
stage.addEventListener("pointermove", ({ pointerType, buttons, movementX, movementY }) => {
  if (pointerType === "mouse" && buttons === 1) stage.scrollBy(-movementX, -movementY);
});
stage.addEventListener("dragstart", (event) => event.preventDefault()); // it is moved instead
if (matchMedia("(max-width: 47.99rem)").matches) looks.open = false;
