// Many scans: the table of what was found, its filters, and its files.

import { download, writeCsv, writeJson } from "./export.js";
import { Row, write } from "./rows.js";
import { Run, STOPPED } from "./run.js";
import { sortRows } from "./sort.js";

const section = document.getElementById("many");
const part = (name) => document.getElementById(`many-${name}`);
const [filters, table, cancel, again] = ["filters", "table", "cancel", "again"].map(part);
const { text, label, look } = filters.elements;
const headers = [...table.tHead.rows[0].cells];
const { address, maxBytes, maxImages } = section.dataset;

let rows = []; // in the order in which they came
let run = makeRun();

/** Add scans to the table, and predict them. */
export function predictMany(scans) {
  const added = scans.map((scan) => new Row(scan, (row) => predictRows([row])));
  rows.push(...added);
  table.tBodies[0].append(...added.map((row) => row.element));
  section.hidden = false;
  predictRows(added);
  section.scrollIntoView({ block: "start" });
}

function makeRun() {
  const model = document.getElementById("model");
  const made = new Run({
    address,
    maxImages: Number(maxImages),
    chooseModel: () => model.value,
    onProgress: refresh,
    onPause: (seconds) => say("busy", { seconds }),
    onEnd: (reason) => {
      if (made === run) end(reason);
    },
  });
  return made;
}

function predictRows(some) {
  const fits = ({ scan }) => scan.size <= Number(maxBytes);
  for (const row of some) if (!fits(row)) row.set("large");
  const sent = some.filter(fits);
  if (!run.active) run = makeRun();
  say("started", { count: sent.length });
  run.add(sent);
  if (!run.active) end();
  refresh();
}

function end(reason) {
  const open = rows.filter((row) => row.open).length;
  if (open === 0) say("ended", { count: rows.length, look: rows.filter((row) => row.look).length });
  else say(reason === STOPPED ? "cancelled" : "halted", { count: open });
  const sorted = headers.find((header) => header.ariaSort);
  if (sorted) sortRows(table, sorted.cellIndex, sorted.ariaSort);
  refresh();
}

function say(name, values) {
  part("note").textContent = write(name, values);
}

/** Bring everything around the rows up to date with them. */
function refresh() {
  const all = rows.length;
  const open = rows.filter((row) => row.open).length;
  part("count").textContent = write("progress", { done: all - open, all });
  part("progress").value = all > 0 ? (all - open) / all : 0;
  cancel.hidden = !run.active;
  again.hidden = run.active || open === 0;
  again.textContent = write("again", { count: open });
  part("look-count").textContent = rows.filter((row) => row.look).length;
  const offered = [...label.options].map((option) => option.value);
  for (const { prediction } of rows) {
    const finding = prediction?.words.finding;
    if (!finding || offered.includes(finding)) continue;
    label.add(new Option(finding, finding));
    offered.push(finding);
  }
  filterRows();
}

function filterRows() {
  const sought = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    row.element.hidden = !(
      ["", row.prediction?.words.finding].includes(label.value) &&
      (row.look || !look.checked) &&
      (sought.length === 0 || sought.every((word) => row.text.includes(word)))
    );
    if (!row.element.hidden) shown += 1;
  }
  part("shown").textContent = write("shown", { shown, all: rows.length });
  part("nothing").hidden = shown > 0 || rows.length === 0;
}

/** Give what a file holds: the rows that are shown, in the order of the table. */
function listShown() {
  const byElement = new Map(rows.map((row) => [row.element, row]));
  const shown = [...table.tBodies[0].rows].filter((element) => !element.hidden);
  return shown.map((element) => byElement.get(element).record());
}

function clear() {
  run.stop();
  for (const row of rows) row.discard();
  rows = [];
  filters.reset();
  label.length = 1;
  section.hidden = true;
  document.getElementById("image").focus();
}

headers.forEach((header, position) => {
  header.firstElementChild.addEventListener("click", () => {
    const flipped = header.ariaSort === "ascending" ? "descending" : "ascending";
    sortRows(table, position, header.ariaSort ? flipped : "ascending");
  });
});
filters.addEventListener("input", filterRows);
filters.addEventListener("submit", (event) => event.preventDefault());
part("all").addEventListener("click", () => {
  filters.reset();
  filterRows();
  text.focus();
});
cancel.addEventListener("click", () => {
  run.stop();
  part("title").focus(); // the button goes away
});
again.addEventListener("click", () => {
  part("title").focus();
  predictRows(rows.filter((row) => row.open));
});
part("clear").addEventListener("click", clear);
part("csv").addEventListener("click", () => {
  download("predictions.csv", writeCsv(listShown()), "text/csv");
});
part("json").addEventListener("click", () => {
  download("predictions.json", writeJson(listShown()), "application/json");
});
addEventListener("online", () => {
  const unanswered = rows.filter((row) => row.state === "unanswered");
  if (!run.active && unanswered.length > 0) predictRows(unanswered);
});
document.addEventListener("predicted", ({ detail }) => {
  for (const row of rows) row.mark(row.scan === detail.scan);
});
