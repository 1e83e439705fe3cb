// What is known of a scan from the folder that it lies in, and what a model makes of it.

const folders = JSON.parse(document.getElementById("many").dataset.folders);
const classOf = new Map(
  Object.entries(folders).flatMap(([name, spellings]) => spellings.map((one) => [one, name])),
);
export const [RIGHT, WRONG, OPEN] = ["right", "wrong", "open"];

/** Name the class that a folder of a path says; null where none does. The nearest one counts. */
export function findTruth(path) {
  const spell = (part) => part.toLowerCase().replace(/[^a-z]/g, "").replaceAll("tumour", "tumor");
  const plain = path.split("/").map(spell);
  return plain.slice(0, -1).map((part) => classOf.get(part)).findLast(Boolean) ?? null;
}

/** Tell whether a prediction is right, wrong, or leaves open what was asked. */
export function judge(truth, { verdict, label }) {
  const healthy = truth === "notumor";
  if (verdict === "no-tumor") return healthy ? RIGHT : WRONG;
  if (verdict === "tumor" && !healthy) {
    return [truth, label].includes("tumor") || truth === label ? RIGHT : WRONG;
  }
  return healthy && verdict.startsWith("tumor") ? WRONG : OPEN;
}

/**
 * Count the answers to the scans of each class: `{findings, classes}`, where `classes` has for each
 * name a Map of how often each finding was given.
 */
export function countAnswers(rows) {
  const findings = [...new Set(rows.map((row) => row.finding))].sort();
  const classes = new Map();
  for (const name of Object.keys(folders)) {
    const own = rows.filter((row) => row.truth === name);
    if (own.length === 0) continue;
    const count = (finding) => own.filter((row) => row.finding === finding).length;
    classes.set(name, new Map(findings.map((finding) => [finding, count(finding)])));
  }
  return { findings, classes };
}
