// Many scans: the table of what was found, its filters, and its files.

import { download, writeCsv, writeJson, writeMatrix } from "./export.js";
import { identify, orderScans, Row, write } from "./rows.js";
import { Run, STOPPED } from "./run.js";
import { sortRows } from "./sort.js";
import { countAnswers, OPEN, RIGHT, WRONG } from "./truth.js";

const section = document.getElementById("many");
const part = (name) => document.getElementById(`many-${name}`);
const names = ["filters", "table", "cancel", "again", "renew"];
const [filters, table, cancel, again, renew] = names.map(part);
const { text, look, mistake } = filters.elements;
const model = document.getElementById("model");
const pager = document.getElementById("pager");
const [previous, next, back] = pager.querySelectorAll("button");
const headers = [...table.tHead.rows[0].cells];
const { address, maxBytes, maxImages } = section.dataset;
const classNames = JSON.parse(section.dataset.names);

let rows = []; // in the order in which they came
let current = null; // the row that is shown by itself
let run = makeRun();

/** Add scans to the table, and predict them; one that is in it already is not added again. */
export function predictMany(scans) {
  const known = new Set(rows.map((row) => identify(row.scan)));
  const fresh = new Map(scans.map((scan) => [identify(scan), scan]));
  for (const key of known) fresh.delete(key);
  const added = orderScans(fresh.values()).map((scan) => new Row(scan, (row) => predictRows([row])));
  rows.push(...added);
  table.tBodies[0].append(...added.map((row) => row.element));
  section.hidden = false;
  if (added.length > 0) predictRows(added);
  else say("twice", { count: scans.length });
  section.scrollIntoView({ block: "start" });
}

function makeRun() {
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
  const open = rows.filter((row) => row.isOpen).length;
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
  const open = rows.filter((row) => row.isOpen).length;
  part("count").textContent = write("progress", { done: all - open, all });
  part("progress").value = all > 0 ? (all - open) / all : 0;
  cancel.hidden = !run.active;
  again.hidden = run.active || open === 0;
  again.textContent = write("again", { count: open });
  const old = rows.filter((row) => row.model && row.model !== model.value);
  renew.hidden = run.active || old.length === 0 || model.value === "";
  renew.textContent = write("renew", { model: model.value });
  part("look-count").textContent = rows.filter((row) => row.look).length;
  countFindings();
  compareWithFolders();
  filterRows();
}

/** Offer each finding as a filter, with how often it was made. */
function countFindings() {
  const counts = new Map([["", rows.length]]);
  for (const { finding } of rows) if (finding) counts.set(finding, (counts.get(finding) ?? 0) + 1);
  const offered = new Map(
    [...filters.querySelectorAll("[name=label]")].map((choice) => [choice.value, choice]),
  );
  for (const finding of [...counts.keys()].filter((one) => !offered.has(one)).sort()) {
    const chip = document.importNode(part("chip").content, true).firstElementChild;
    offered.set(finding, chip.querySelector("input"));
    offered.get(finding).value = finding;
    chip.querySelector("span").textContent = finding;
    const following = [...offered.keys()].filter((other) => other > finding).sort()[0];
    part("findings").insertBefore(chip, offered.get(following)?.parentElement ?? null);
  }
  for (const [finding, choice] of offered) {
    const count = counts.get(finding) ?? 0;
    choice.parentElement.querySelector("b").textContent = count;
    choice.parentElement.hidden = count === 0 && !choice.checked;
  }
}

/** Compare the answers with what the folders' names say, where they are names of classes. */
function compareWithFolders() {
  const judged = rows.filter((row) => row.judgement);
  const count = (judgement) => judged.filter((row) => row.judgement === judgement).length;
  const [right, wrong, open] = [RIGHT, WRONG, OPEN].map(count);
  part("truth").hidden = mistake.parentElement.hidden = judged.length === 0;
  part("judged").textContent = write("judged", { right, wrong, open, all: judged.length });
  part("mistake-count").textContent = wrong;
  const { findings, classes } = countAnswers(judged);
  const cell = (kind, text, properties = {}) =>
    Object.assign(document.createElement(kind), { textContent: text, ...properties });
  part("matrix").tHead.rows[0].replaceChildren(
    cell("th", write("folder"), { scope: "col" }),
    ...findings.map((finding) => cell("th", finding, { scope: "col", className: "number" })),
  );
  part("matrix").tBodies[0].replaceChildren(
    ...[...classes].map(([name, counts]) => {
      const line = document.createElement("tr");
      const most = [...counts.values()].reduce((sum, one) => sum + one, 0);
      const shade = (number) => `number shade-${Math.ceil((5 * number) / most)}`;
      line.append(
        cell("th", classNames[name], { scope: "row" }),
        ...[...counts.values()].map((number) => cell("td", number, { className: shade(number) })),
      );
      return line;
    }),
  );
}

function filterRows() {
  const sought = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const finding = new FormData(filters).get("label");
  let shown = 0;
  for (const row of rows) {
    row.element.hidden = !(
      ["", row.finding].includes(finding) &&
      (row.look || !look.checked) &&
      (row.judgement === WRONG || !mistake.checked) &&
      (sought.length === 0 || sought.every((word) => row.text.includes(word)))
    );
    if (!row.element.hidden) shown += 1;
  }
  part("shown").textContent = write("shown", { shown, all: rows.length });
  part("nothing").hidden = shown > 0 || rows.length === 0;
  refreshPager();
}

/** List the rows that are shown, in the order of the table. */
function listShown() {
  const byElement = new Map(rows.map((row) => [row.element, row]));
  const shown = [...table.tBodies[0].rows].filter((element) => !element.hidden);
  return shown.map((element) => byElement.get(element));
}

/** Give what a file holds: the rows that are shown. */
const listRecords = () => listShown().map((row) => row.record());

/** Say where in the table the scan on the stage is. */
function refreshPager() {
  const shown = current ? listShown() : [];
  const place = shown.indexOf(current);
  pager.hidden = place < 0; // none is on the stage, or a filter hides its row
  if (pager.hidden) return;
  pager.querySelector("span").textContent = write("place", { place: place + 1, all: shown.length });
  previous.ariaDisabled = place === 0; // a button that is disabled would lose the focus
  next.ariaDisabled = place === shown.length - 1;
}

/** Show the scan so many rows further down by itself. */
function turn(step) {
  const shown = listShown();
  shown[shown.indexOf(current) + step]?.open();
}

function clear() {
  run.stop();
  table.tBodies[0].replaceChildren();
  rows = [];
  current = null;
  filters.reset();
  refresh();
  section.hidden = true;
  document.getElementById("image").focus();
}

headers.forEach((header, position) => {
  header.firstElementChild.addEventListener("click", () => {
    const flipped = header.ariaSort === "ascending" ? "descending" : "ascending";
    sortRows(table, position, header.ariaSort ? flipped : "ascending");
    refreshPager();
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
  predictRows(rows.filter((row) => row.isOpen));
});
renew.addEventListener("click", () => {
  part("title").focus();
  predictRows(rows.filter((row) => row.isOpen || (row.model && row.model !== model.value)));
});
model.addEventListener("change", refresh);
part("clear").addEventListener("click", clear);
part("csv").addEventListener("click", () => {
  download("predictions.csv", writeCsv(listRecords()), "text/csv");
});
part("json").addEventListener("click", () => {
  download("predictions.json", writeJson(listRecords()), "application/json");
});
part("matrix-csv").addEventListener("click", () => {
  const judged = rows.filter((row) => row.judgement);
  download("confusion-matrix.csv", writeMatrix(countAnswers(judged)), "text/csv");
});
previous.addEventListener("click", () => turn(-1));
next.addEventListener("click", () => turn(1));
back.addEventListener("click", () => {
  const opener = current.element.querySelector(".open");
  opener.focus({ preventScroll: true });
  opener.scrollIntoView({ block: "center" });
});
document.addEventListener("keydown", (event) => {
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  // In a list of choices these keys open it.
  if (!step || !event.altKey || !current || event.target.matches("select, [type=search]")) return;
  event.preventDefault();
  turn(step);
});
addEventListener("online", () => {
  const unanswered = rows.filter((row) => row.state === "unanswered");
  if (!run.active && unanswered.length > 0) predictRows(unanswered);
});
document.addEventListener("predicted", ({ detail }) => {
  for (const row of rows) row.mark(row.scan === detail.scan);
  current = rows.find((row) => row.scan === detail.scan) ?? null;
  refreshPager();
});
