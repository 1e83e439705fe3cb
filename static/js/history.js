// The history: what was predicted in this browser, kept there if the visitor wants it.

import { addResult, deleteAll, deleteResult, listResults } from "./kept.js";
import { nameScan } from "./intake.js";
import { hideThumbnail, showThumbnail, shrinkPicture } from "./thumbnails.js";

const SWITCH = "history"; // in localStorage: "on", or nothing at all
const section = document.getElementById("history");
const part = (name) => document.getElementById(`history-${name}`);
const [keep, list, status] = ["keep", "list", "status"].map(part);
const template = document.getElementById("history-item");
const when = new Intl.DateTimeFormat(document.documentElement.lang, {
  dateStyle: "medium",
  timeStyle: "short",
});

/** Do something with the store, and show what is in it then, or that it failed. */
async function change(action, said = "") {
  try {
    await action?.();
    show(isOn() ? await listResults() : []);
    part("failed").hidden = true;
    status.textContent = said;
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    part("failed").hidden = false;
  }
}

function show(results) {
  for (const image of list.querySelectorAll("img")) hideThumbnail(image);
  list.replaceChildren(...results.map(draw));
  part("empty").hidden = !isOn() || results.length > 0;
  part("clear").hidden = results.length === 0;
}

function draw(result) {
  const item = document.importNode(template.content, true).firstElementChild;
  const [reopen, forget] = item.querySelectorAll("button");
  const write = (selector, text) => (item.querySelector(selector).textContent = text);
  write("strong", result.name);
  write(".found", [result.finding, result.confidence].filter(Boolean).join(" · "));
  write(".model", result.model);
  write("time", when.format(result.time));
  item.querySelector("time").dateTime = result.time.toISOString();
  showThumbnail(item.querySelector("img"), result.thumbnail);
  reopen.addEventListener("click", () => {
    document.dispatchEvent(new CustomEvent("chosen", { detail: { scan: result.scan } }));
  });
  forget.ariaLabel = forget.ariaLabel.replace("{name}", result.name);
  forget.addEventListener("click", () => {
    part("title").focus(); // the button goes away
    change(() => deleteResult(result.id), status.dataset.deleted);
  });
  return item;
}

async function keepResult({ scan, result }) {
  const { finding, confidence, model } = result.dataset;
  const thumbnail = await shrinkPicture(document.getElementById("scan"));
  const [name, time] = [nameScan(scan), new Date()];
  if (!isOn()) return; // it may have been turned off meanwhile, in another window too
  await addResult({ scan, name, finding, confidence, model, time, thumbnail });
}

function isOn() {
  return localStorage.getItem(SWITCH) === "on";
}

function begin() {
  keep.checked = isOn(); // throws where the browser lets no page keep anything
  section.hidden = false;
  keep.addEventListener("change", () => {
    if (keep.checked) localStorage.setItem(SWITCH, "on");
    else localStorage.removeItem(SWITCH);
    change(keep.checked ? null : deleteAll, keep.checked ? "" : status.dataset.cleared);
  });
  part("clear").addEventListener("click", () => {
    part("title").focus();
    change(deleteAll, status.dataset.cleared);
  });
  document.addEventListener("predicted", ({ detail }) => {
    if (isOn()) change(() => keepResult(detail));
  });
  addEventListener("storage", () => {
    keep.checked = isOn();
    change();
  });
  if (isOn()) change();
}

try {
  begin();
} catch (error) {
  if (!(error instanceof DOMException)) throw error;
}
