// Shows the steps of a scan without leaving the page, so that the file field keeps the scan when
// another model is chosen.

import { holdScan, receiveScans } from "./intake.js";
import { explainFailure, ForeignAnswerError, placeParts } from "./parts.js";
import { recallScan } from "./tab.js";

const form = document.getElementById("how");
const { image: field, model } = form.elements;
const status = document.getElementById("status");
let attempt = new AbortController();

async function showSteps() {
  attempt.abort();
  attempt = new AbortController();
  const { signal } = attempt;
  setBusy(true);
  try {
    const body = new FormData(form);
    const headers = { Accept: "text/html" };
    const response = await fetch(form.action, { method: "POST", body, headers, signal });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const parts = ["error", "steps"].map((id) => page.getElementById(id));
    if (parts.includes(null)) throw new ForeignAnswerError(response.status);
    // What was shown before stays where a scan is refused.
    placeParts(response.ok ? parts : parts.slice(0, 1));
    if (response.ok) status.textContent = parts[1].dataset.summary;
  } catch (error) {
    if (signal.aborted) return; // a newer request has taken over
    placeParts(explainFailure(error));
  }
  setBusy(false);
}

function setBusy(busy) {
  document.getElementById("steps").setAttribute("aria-busy", busy);
  if (busy) status.textContent = "";
}

receiveScans(field, ([scan]) => {
  holdScan(field, scan);
  form.elements.frame?.remove(); // it was of the scan before
  showSteps();
});
field.multiple = false;
model.addEventListener("change", showSteps);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  showSteps();
});
// The scan came with the visitor from the page of its result.
const kept = document.querySelector("#steps[data-own]") && recallScan();
if (kept) holdScan(field, kept.scan);
