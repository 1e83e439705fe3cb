// Predicts a scan as soon as it is given, again when another model is chosen, and by all of them.

import "./looks.js";
import { holdScan, receiveFolder, receiveScans } from "./intake.js";
import { predictMany } from "./many.js";
import { copyParts, currentParts, explainFailure, fetchParts, placeParts } from "./parts.js";
import { receiveSamples } from "./samples.js";
import { gatherSeries } from "./series.js";
import { findSlice } from "./slices.js";
import { forgetScan, keepScan, recallScan } from "./tab.js";

const form = document.getElementById("predict");
const { heatmap, image: field, model, send } = form.elements;
const stage = document.getElementById("stage");
const outcome = document.getElementById("outcome");
const status = document.getElementById("status");

let current = null; // the scan that the next request is about
let staged = null; // the scan whose picture is on the stage
let answered = { scan: null, parts: currentParts() }; // what a refused scan gives way to
let attempt = new AbortController();
let asking = new AbortController();

async function predict(scan) {
  attempt.abort();
  attempt = new AbortController();
  const { signal } = attempt;
  if (scan !== current) asking.abort();
  current = scan;
  send.hidden = true;
  if (scan.size > Number(form.dataset.maxBytes)) return refuse(copyParts("too-large"));
  setBusy(true);
  try {
    const visible = staged === scan || (await stageScan(scan, signal));
    const { predicted, parts } = await fetchParts(form, scan, { preview: !visible, signal });
    if (predicted) accept(scan, parts);
    else refuse(parts);
  } catch (error) {
    if (signal.aborted) return; // a newer request has taken over
    placeParts([...explainFailure(error), ...copyParts("no-comparison")]);
    send.hidden = false;
  }
  setBusy(false);
}

/** Show a scan at once; tells whether the browser can. */
async function stageScan(scan, signal) {
  if (scan.files) return false;
  const parts = copyParts("new-scan");
  const picture = parts.find((part) => part.id === "scan");
  picture.src = URL.createObjectURL(scan);
  try {
    await picture.decode();
  } catch {
    return false;
  } finally {
    URL.revokeObjectURL(picture.src);
  }
  signal.throwIfAborted();
  placeParts(parts);
  staged = scan;
  return true;
}

function accept(scan, parts) {
  if (scan !== answered.scan) placeParts(copyParts("no-comparison"));
  placeParts(parts);
  staged = scan;
  const result = document.getElementById("result");
  answered = { scan, parts: currentParts(), model: result.dataset.model };
  status.textContent = result.dataset.summary;
  document.dispatchEvent(new CustomEvent("predicted", { detail: { scan, result } }));
  result.querySelector(".verdict").scrollIntoView({ block: "nearest" });
}

/** Ask more about the scan, by a button that says where; its answer stays as it is. */
async function askMore(button) {
  if (!current || current !== answered.scan) return predictCurrent();
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  setBusy(true);
  try {
    const address = button.dataset.parts;
    const { parts } = await fetchParts(form, null, { address, preview: false, signal });
    // Another model may have answered since.
    if (button.isConnected) {
      placeParts(parts);
      answered.parts = currentParts();
      parts.map((part) => part.querySelector("[tabindex]")).find(Boolean)?.focus();
    }
  } catch (error) {
    if (signal.aborted) return;
    placeParts(explainFailure(error).filter((part) => part.id === "error"));
    send.hidden = false;
  }
  setBusy(false);
}

/** Say why a scan was refused, and go back to the one before it. */
function refuse(parts) {
  placeParts([...answered.parts, ...parts]);
  staged = current = answered.scan;
  holdScan(field, current);
  setBusy(false);
}

function setBusy(busy) {
  outcome.setAttribute("aria-busy", busy);
  if (busy) status.textContent = "";
}

function predictCurrent() {
  if (current) predict(current);
}

/** Predict one scan here, several in the table; files of one series are one. */
async function receive(files) {
  const scans = await gatherSeries(files);
  if (scans.length === 1) {
    holdScan(field, scans[0]);
    return predict(scans[0]);
  }
  holdScan(field, current);
  if (scans.length === 0) return placeParts(copyParts("no-images"));
  predictMany(scans);
}

/** Put what a button has into the clipboard, by the one way that works without HTTPS too. */
function copy(button) {
  const write = (event) => {
    event.preventDefault();
    event.clipboardData.setData("text/plain", button.dataset.copy);
  };
  document.addEventListener("copy", write, { once: true });
  const said = button.parentElement.querySelector("[role=status]");
  said.textContent = document.execCommand("copy") ? said.dataset.said : "";
}

/** Go to another page that has the scan too; a table of many stays open behind it. */
async function leave(event) {
  const button = event.submitter;
  event.preventDefault();
  await keepScan(findSlice(current)?.file ?? current, answered.model);
  // There is no way back to a table, or to a series: it may be too large to be kept.
  const stays = !document.getElementById("many").hidden || current.files;
  button.formTarget = stays ? "_blank" : "";
  button.removeAttribute("data-keep");
  form.requestSubmit(button);
  button.setAttribute("data-keep", "");
}

/** Show again what was there before the visitor went to another page. */
function comeBack() {
  const kept = recallScan();
  const [{ type }] = performance.getEntriesByType("navigation");
  if (kept && type === "back_forward") {
    model.value = kept.model;
    return receive([kept.scan]);
  }
  forgetScan();
  // A browser may have kept the choice over a reload.
  if (field.files.length > 0) receive([...field.files]);
}

receiveScans(field, receive);
receiveFolder(document.getElementById("folder"), receive);
document.addEventListener("chosen", ({ detail }) => {
  receive([detail.scan]);
  stage.scrollIntoView({ block: "nearest" });
});
model.addEventListener("change", predictCurrent);
form.addEventListener("formdata", ({ formData }) => {
  const slice = current === answered.scan && findSlice(current);
  if (!slice) return;
  formData.set("image", slice.file); // of a series, what is on the stage
  formData.set("frame", slice.frame);
});
document.addEventListener("turned", () => {
  placeParts(copyParts("no-comparison"));
  answered.parts = currentParts();
});
form.addEventListener("submit", (event) => {
  if (event.submitter?.hasAttribute("data-keep")) return leave(event);
  if (event.submitter?.hasAttribute("data-native")) return; // a download, or another page
  event.preventDefault();
  if (event.submitter?.dataset.parts) askMore(event.submitter);
  else predictCurrent();
});
receiveSamples(
  document.getElementById("samples"),
  (scan) => receive([scan]),
  () => placeParts(copyParts("no-sample")),
);
outcome.addEventListener("click", (event) => {
  if (event.target.closest("[data-print]")) print();
  const copied = event.target.closest("[data-copy]");
  if (copied) copy(copied);
});
document.addEventListener("keydown", (event) => {
  // With Alt, as a letter alone would get in the way of speech input. A Mac writes “˙” then.
  if (!event.altKey || event.ctrlKey || event.metaKey || !["h", "˙"].includes(event.key)) return;
  event.preventDefault();
  heatmap.checked = !heatmap.checked;
});

send.hidden = true;
comeBack();
