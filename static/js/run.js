// Predicts rows of scans by a few requests at a time, until all are done or it is stopped.

import { write } from "./rows.js";
import { askServer, readScan, RefusedError, takeBatch, UnansweredError } from "./sending.js";

const LANES = 2; // requests at once: one is sent while the other is answered
// Why a run may end early, which its rows then say.
export const [STOPPED, UNANSWERED] = ["stopped", "unanswered"];

export class Run {
  #controller = new AbortController();
  #waiting = [];
  #lanes = 0;
  #silence = 0; // requests without an answer since the last that had one
  #options;

  /**
   * Options: `address`, `maxImages`; `chooseModel()` names the model; `onProgress()`, `onPause(seconds)`
   * and `onEnd(reason)` are called, the last without a reason where all scans were sent.
   */
  constructor(options) {
    this.#options = options;
  }

  /** Whether it still takes rows. */
  get active() {
    return this.#lanes > 0 && !this.#controller.signal.aborted;
  }

  /** Predict these rows after those that wait. */
  add(rows) {
    for (const row of rows) row.set("waiting");
    this.#waiting.push(...rows);
    while (this.#lanes < LANES && this.#waiting.length > 0) this.#work();
  }

  stop(reason = STOPPED) {
    this.#controller.abort(reason);
  }

  async #work() {
    const { signal } = this.#controller;
    this.#lanes += 1;
    while (this.#waiting.length > 0 && !signal.aborted) {
      await this.#predict(takeBatch(this.#waiting, this.#options.maxImages), signal);
      if (this.#silence >= LANES) this.stop(UNANSWERED); // it was more than one bad connection
      this.#options.onProgress();
    }
    this.#lanes -= 1;
    if (this.#lanes > 0) return;
    for (const row of this.#waiting.splice(0)) row.set(signal.reason);
    this.#options.onEnd(signal.reason);
  }

  async #predict(batch, signal) {
    for (const row of batch) row.set("sent");
    const scans = await Promise.all(batch.map((row) => readScan(row.scan)));
    const rows = batch.filter((row, index) => scans[index]);
    for (const row of batch) if (!rows.includes(row)) row.set("gone");
    if (rows.length === 0) return;
    const { address, chooseModel, onPause } = this.#options;
    try {
      const options = { model: chooseModel(), signal, onPause };
      const answer = await askServer(address, scans.filter(Boolean), options);
      rows.forEach((row, index) => row.fill(answer, answer.results[index]));
      this.#silence = 0;
    } catch (error) {
      if (error instanceof RefusedError && error.status === 413 && rows.length > 1) {
        for (const row of rows) await this.#predict([row], signal); // each by itself may be accepted
      } else if (error instanceof RefusedError) {
        const { status, message } = error;
        const byProxy = status === 413 ? "proxy-too-large" : "proxy";
        const detail = message || write(byProxy, { status });
        for (const row of rows) row.set("failed", { code: "failed", detail });
      } else if (error instanceof UnansweredError) {
        this.#silence += 1;
        for (const row of rows) row.set(UNANSWERED);
      } else if (signal.aborted) {
        for (const row of rows) row.set(signal.reason);
      } else throw error;
    }
  }
}
