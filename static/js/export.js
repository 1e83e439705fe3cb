// The table of many scans as a file, made in the browser. The columns are those of
// `flask predict --out`, and of `flask evaluate --csv` where folders name classes. A series has one
// row; its slices are not in the table.

// Where a formula begins in a spreadsheet; tumorapp/prediction_table.py has the reasons.
const FORMULA = /(?:^|[;\t\r\n])[\s"]*(?=[=+\-@\uff1d\uff0b\uff0d\uff20])/g;

const ANSWER = [
  "verdict",
  "label",
  "tumor",
  "tumor_probability",
  "confidence",
  "uncertain",
  "in_distribution",
];
const SERIES = ["strongest", "volume_ml"];
const LESION = ["lesion_x", "lesion_y", "lesion_area", "lesion_score"];

/** Write rows as CSV. */
export function writeCsv(rows) {
  const found = rows.flatMap(({ prediction }) => Object.keys(prediction?.probabilities ?? {}));
  const classes = [...new Set(found)];
  const shares = classes.map((label) => `p_${label}`);
  const known = rows.some((row) => row.truth) ? ["truth", "right"] : [];
  const series = rows.some(({ prediction }) => prediction?.strongest !== undefined);
  const answer = series ? [...SERIES, ...ANSWER] : ANSWER;
  const names = ["file", ...known, "model", "version", ...answer, ...shares, ...LESION];
  const header = [...names, "warnings", "error", "codes"];
  const lines = rows.map(({ file, model, version, prediction, error, ...row }) => [
    file,
    ...known.map((name) => row[name]),
    model,
    version,
    ...answer.map((name) => prediction?.[name]),
    ...classes.map((label) => prediction?.probabilities[label]),
    ...listLesion(prediction?.lesion),
    prediction?.warnings.map(({ detail }) => detail).join(" "),
    error?.detail,
    (error ? [error] : (prediction?.warnings ?? [])).map(({ code }) => code).join(" "),
  ]);
  return writeLines([header, ...lines]);
}

/** Write how often each finding was given to the scans of each class as CSV. */
export function writeMatrix({ findings, classes }) {
  const lines = [...classes].map(([name, counts]) => [name, ...counts.values()]);
  return writeLines([["truth", ...findings], ...lines]);
}

/** Write rows as JSON. */
export function writeJson(rows) {
  const results = rows.map(({ prediction, ...row }) => ({ ...row, ...prediction }));
  return `${JSON.stringify(results, null, 2)}\n`;
}

/** Let the visitor save text as a file. */
export function download(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // a browser may ask where to save it
}

/** Give the cells of a lesion: its outline is for programs, which read the JSON. */
function listLesion(lesion) {
  return lesion ? [...lesion.peak, lesion.area, lesion.score] : LESION.map(() => null);
}

function writeLines(lines) {
  const text = lines.map((cells) => `${cells.map(writeCell).join(",")}\n`).join("");
  return `\ufeff${text}`; // without this mark Excel takes UTF-8 for something else
}

function writeCell(value) {
  if (value === undefined || value === null) return "";
  if (typeof value === "boolean") return value ? "True" : "False"; // as Python does
  if (typeof value === "number") return String(value);
  const text = value.replace(FORMULA, "$&'");
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
