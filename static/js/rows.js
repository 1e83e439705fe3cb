// A row of the table of many scans: its scan, what became of it, and its cells.

import { nameScan } from "./intake.js";
import { hideThumbnail, outlineThumbnail, showThumbnail, shrinkPicture } from "./thumbnails.js";

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

let pictures = Promise.resolve(); // one is drawn after the other

/** Write one of the page's texts, with values in the place of `{names}`. */
export function write(name, values = {}) {
  return texts.get(name).replace(/\{(\w+)\}/g, (_, key) => values[key]);
}

export class Row {
  state = "waiting";
  prediction = null;
  #made = {}; // the model and its version
  #error = null; // its code and its detail
  #cells;
  #discarded = false;

  constructor(scan, onRetry) {
    this.scan = scan;
    this.name = nameScan(scan);
    this.element = document.importNode(template.content, true).firstElementChild;
    this.#cells = this.element.cells;
    const opener = this.element.querySelector(".open");
    opener.textContent = this.name;
    opener.addEventListener("click", () => {
      document.dispatchEvent(new CustomEvent("chosen", { detail: { scan } }));
    });
    this.element.querySelector(".again").addEventListener("click", () => {
      opener.focus(); // the button goes away
      onRetry(this);
    });
    // Digits are filled up, so that scan 10 comes after scan 9.
    const natural = this.name.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(12, "0"));
    this.#cells[0].dataset.key = natural;
    this.#cells[2].dataset.key = "";
    this.#say("");
    pictures = pictures.then(() => this.#draw());
  }

  /** Whether it is not predicted yet, and could be. */
  get open() {
    return OPEN.includes(this.state);
  }

  /** Whether somebody should look at it: the model warns, or there is no prediction. */
  get look() {
    return FAILED.includes(this.state) || (this.prediction?.warnings.length ?? 0) > 0;
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
  fill({ model, version }, { words, error, filename, ...prediction }) {
    this.#made = { model, version };
    if (error) return this.set("refused", error);
    this.state = "predicted";
    this.#error = null;
    this.prediction = { ...prediction, words };
    this.#rate(words);
    this.#find(words.finding, model);
    this.#say(words.remarks);
    this.#outline();
  }

  /** Mark it as the one that is shown by itself, or not. */
  mark(shown) {
    this.element.querySelector(".open").ariaCurrent = shown ? "true" : null;
  }

  /** Give it as a file holds it. */
  record() {
    const { words, ...prediction } = this.prediction ?? {}; // the words are the page's
    return {
      file: this.name,
      ...this.#made,
      ...(this.prediction && { prediction }),
      ...(this.#error && { error: this.#error }),
    };
  }

  /** Take it from the page. */
  discard() {
    this.#discarded = true;
    hideThumbnail(this.element.querySelector("img"));
    this.element.remove();
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

  async #draw() {
    if (this.#discarded) return;
    const thumbnail = await shrinkPicture(this.scan);
    if (this.#discarded) return;
    showThumbnail(this.element.querySelector("img"), thumbnail);
    this.#outline();
  }

  /** Outline what the model marks, once both the small picture and the answer are there. */
  #outline() {
    outlineThumbnail(this.element.querySelector(".framed"), this.prediction?.lesion?.outline ?? []);
  }
}
