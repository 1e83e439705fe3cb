// A row of the table of many scans: its scan, what became of it, and its cells.

import { nameScan } from "./intake.js";
import { outlineThumbnail } from "./thumbnails.js";
import { findTruth, judge, RIGHT, WRONG } from "./truth.js";

const template = document.getElementById("many-row");
const texts = new Map(
  [...document.getElementById("many-words").content.children].map((word) => [
    word.dataset.name,
    word.textContent,
  ]),
);
// States in which a scan can be sent (again), and those that a person should look at.
const OPEN = ["waiting", "sent", "stopped", "unanswered"];
const FAILED = ["large", "gone", "unanswered", "failed", "refused"];
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

/** Write one of the page's texts, with values in the place of `{names}`. */
export function write(name, values = {}) {
  return texts.get(name).replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

/** Tell apart two scans: the same file given twice is one. */
export function identify(scan) {
  return [nameScan(scan), scan.size, scan.lastModified].join("/");
}

/** Put scans in the natural order of their names: scan 10 comes after scan 9. */
export function orderScans(scans) {
  return [...scans].sort((one, other) => collator.compare(nameScan(one), nameScan(other)));
}

export class Row {
  state = "waiting";
  prediction = null;
  #made = {}; // the model and its version
  #error = null; // its code and its detail
  #cells;

  constructor(scan, onRetry) {
    this.scan = scan;
    this.name = nameScan(scan);
    this.truth = findTruth(this.name);
    this.element = document.importNode(template.content, true).firstElementChild;
    this.#cells = this.element.cells;
    const opener = this.element.querySelector(".open");
    opener.textContent = this.name;
    opener.addEventListener("click", () => this.open());
    this.element.querySelector(".again").addEventListener("click", () => {
      opener.focus(); // the button goes away
      onRetry(this);
    });
    // Digits are filled up, so that scan 10 comes after scan 9.
    const natural = this.name.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(12, "0"));
    this.#cells[0].dataset.key = natural;
    this.#cells[2].dataset.key = "";
    this.#say("");
  }

  /** Whether it is not predicted yet, and could be. */
  get isOpen() {
    return OPEN.includes(this.state);
  }

  /** Whether somebody should look at it: the model warns, or there is no prediction. */
  get look() {
    return FAILED.includes(this.state) || (this.prediction?.warnings.length ?? 0) > 0;
  }

  /** What its cell says was found: a finding, that there is none, or nothing yet. */
  get finding() {
    return this.#cells[1].firstElementChild.textContent;
  }

  /** The name of the model that answered, if one did. */
  get model() {
    return this.#made.model;
  }

  /** Whether the answer is right, wrong or open; null where that is not known. */
  get judgement() {
    return this.truth && this.prediction && judge(this.truth, this.prediction);
  }

  /** What the search looks in. */
  get text() {
    return this.element.textContent.toLowerCase();
  }

  /** Put it into a state: one of the page's texts, or with an `error` that the server told. */
  set(state, error = null) {
    this.state = state;
    this.#error = error ?? (FAILED.includes(state) ? { code: state, detail: write(state) } : null);
    this.#find(FAILED.includes(state) ? write("none") : "");
    this.#say(error?.detail ?? write(state));
  }

  /** Show what the server answered about this scan. */
  fill({ model, version }, { words, error, filename, thumbnail, ...prediction }) {
    this.#made = { model, version };
    if (error) return this.set("refused", error);
    this.state = "predicted";
    this.#error = null;
    this.prediction = { ...prediction, words };
    this.#rate(words);
    this.#find(words.finding, model);
    this.#say(words.remarks);
    this.element.classList.toggle("mistake", this.judgement === WRONG);
    this.element.querySelector("img").src = thumbnail;
    outlineThumbnail(this.element.querySelector(".framed"), prediction.lesion?.outline ?? []);
  }

  /** Mark it as the one that is shown by itself, or not. */
  mark(shown) {
    this.element.querySelector(".open").ariaCurrent = shown ? "true" : null;
  }

  /** Show its scan by itself. */
  open() {
    document.dispatchEvent(new CustomEvent("chosen", { detail: { scan: this.scan } }));
  }

  /** Give it as a file holds it. */
  record() {
    const { words, ...prediction } = this.prediction ?? {}; // the words are the page's
    return {
      file: this.name,
      ...(this.truth && { truth: this.truth, right: this.judgement && this.judgement === RIGHT }),
      ...this.#made,
      ...(this.prediction && { prediction }),
      ...(this.#error && { error: this.#error }),
    };
  }

  #find(finding, note = "") {
    const cell = this.#cells[1];
    cell.dataset.key = note && finding; // without a model's note it is not a finding
    cell.firstElementChild.textContent = finding;
    cell.lastElementChild.textContent = note;
  }

  #rate({ share, confidence, of }) {
    const cell = this.#cells[2];
    cell.dataset.key = share ?? "";
    cell.firstElementChild.textContent = confidence;
    cell.lastElementChild.textContent = of;
  }

  #say(remark) {
    const cell = this.#cells[3];
    this.element.dataset.state = this.state;
    cell.dataset.key = remark;
    cell.firstElementChild.textContent = remark;
    cell.lastElementChild.hidden = !["failed", "gone", "stopped", "unanswered"].includes(this.state);
    this.element.classList.toggle("look", this.look);
  }
}
