// Puts the rows of a table in order by what one column's cells hold in data-key.

/** Sort a table by a column: rows without a value last, equal ones by their first cell. */
export function sortRows(table, position, order) {
  const headers = [...table.tHead.rows[0].cells];
  const number = headers[position].classList.contains("number");
  const sign = order === "descending" ? -1 : 1;
  const key = (row, cell) => row.cells[cell].dataset.key;
  const compare = (one, other) => Number(one > other) - Number(one < other);
  const rows = [...table.tBodies[0].rows].sort((one, other) => {
    const keys = [key(one, position), key(other, position)];
    const known = keys.map((value) => value !== "");
    if (known[0] !== known[1]) return known[0] ? -1 : 1;
    const [a, b] = number ? keys.map(Number) : keys;
    return sign * compare(a, b) || compare(key(one, 0), key(other, 0));
  });
  table.tBodies[0].append(...rows);
  for (const header of headers) header.removeAttribute("aria-sort");
  headers[position].setAttribute("aria-sort", order);
}
