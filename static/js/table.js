// Sorts and filters the leaderboard in place. The form holds the whole state, so that its address
// is the one the server would be asked by without this script.

import { sortRows } from "./sort.js";

const form = document.getElementById("filters");
const table = document.getElementById("leaderboard");

if (form && table) {
  const headers = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  const { text, document: paper, protocol, budget, sort, order } = form.elements;

  headers.forEach((header, position) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...header.firstElementChild.childNodes);
    header.replaceChildren(button);
    button.addEventListener("click", () => {
      const flipped = order.value === "ascending" ? "descending" : "ascending";
      order.value = sort.value === header.dataset.name ? flipped : header.dataset.initial;
      sort.value = header.dataset.name;
      sortRows(table, position, order.value);
      keepAddress();
    });
  });
  form.addEventListener("input", () => {
    filterRows();
    keepAddress();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  filterRows(); // a browser may have kept what was typed over a reload

  /** Show the rows that pass; tumorapp/pages/leaderboard.py asks the same of them. */
  function filterRows() {
    const words = text.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      const { dataset } = row;
      row.hidden = !(
        words.every((word) => dataset.text.includes(word)) &&
        ["", ...dataset.document.split(", ")].includes(paper.value) &&
        ["", dataset.protocol].includes(protocol.value) &&
        ["", dataset.budget].includes(budget.value)
      );
      if (!row.hidden) shown += 1;
    }
    document.getElementById("shown").textContent = shown;
    document.getElementById("nothing").hidden = shown > 0;
  }

  /** Let the address say what is shown: it can be kept, sent, and come back to. */
  function keepAddress() {
    const given = [...new FormData(form)].filter(([, value]) => value !== "");
    history.replaceState(null, "", `${form.action}?${new URLSearchParams(given)}`);
  }
}
