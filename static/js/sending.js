// Sends scans to the server in requests of a few, and continues where it can.

import { appendScan } from "./parts.js";

const TOGETHER = 8; // fewer requests for a slow network, and still a steady progress
const BYTES_TOGETHER = 4 * 2 ** 20;
const PAUSES = [1000, 4000]; // milliseconds before a request without an answer is sent again
const PAUSE_IF_BUSY = 5; // seconds, where the server does not say how many

/** No answer came that belongs to this page. */
export class UnansweredError extends Error {}

/** A request was refused as a whole; the message says why, or is empty where a proxy refused it. */
export class RefusedError extends Error {
  constructor(status, detail = "") {
    super(detail);
    this.status = status;
  }
}

/** Take from `waiting` the next scans to send together: at least one, if there are any. */
export function takeBatch(waiting, maxImages) {
  const batch = [];
  let bytes = 0;
  while (waiting.length > 0 && batch.length < Math.min(TOGETHER, maxImages)) {
    const { files, size } = waiting[0].scan;
    bytes += size;
    if (batch.length > 0 && (files || bytes > BYTES_TOGETHER)) break;
    batch.push(waiting.shift());
    if (files) break; // a series is a request of its own
  }
  return batch;
}

/**
 * Read a scan into memory: a File whose file is gone fails here, not in the middle of a request.
 *
 * Gives null where it cannot be read.
 */
export async function readScan(scan) {
  if (scan.files) {
    const files = await Promise.all(scan.files.map(readScan));
    return files.includes(null) ? null : { ...scan, files };
  }
  try {
    return new File([await scan.arrayBuffer()], scan.name, { type: scan.type });
  } catch (error) {
    if (error instanceof DOMException) return null;
    throw error;
  }
}

/**
 * Ask for the predictions of scans that were read, and give the server's answer.
 *
 * Sends again after a broken connection, and after as long as a busy server asks for; `onPause` is
 * told the seconds. Throws UnansweredError, RefusedError, or what `signal` was aborted with.
 */
export async function askServer(address, scans, { model, signal, onPause }) {
  const body = new FormData();
  body.set("model", model);
  for (const scan of scans) appendScan(body, scan);
  if (scans.some(({ files }) => files)) body.set("series", "1");
  for (let failures = 0; ; ) {
    const { status, retryAfter, answer } = await post(address, body, signal);
    if (status === 200 && answer?.results) return answer;
    if (retryAfter !== null) {
      onPause(retryAfter);
      await pause(retryAfter * 1000, signal);
    } else if (answer?.detail) {
      throw new RefusedError(status, answer.detail);
    } else if (status >= 400 && status < 500) {
      throw new RefusedError(status);
    } else if (failures < PAUSES.length) {
      await pause(PAUSES[failures], signal);
      failures += 1;
    } else {
      throw new UnansweredError();
    }
  }
}

async function post(address, body, signal) {
  try {
    const headers = { Accept: "application/json" };
    const response = await fetch(address, { method: "POST", body, headers, signal });
    const { status } = response;
    const after = response.headers.get("Retry-After");
    const busy = status === 429 || (status === 503 && after !== null);
    const retryAfter = busy ? Number(after) || PAUSE_IF_BUSY : null; // it may be a date, too
    return { status, retryAfter, answer: busy ? null : await readAnswer(response) };
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof TypeError)) throw error;
    return { status: 0, retryAfter: null, answer: null }; // no connection
  }
}

async function readAnswer(response) {
  try {
    return await response.json();
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return null; // a proxy's own page
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const timer = setTimeout(resolve, milliseconds);
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    signal.addEventListener("abort", stop, { once: true });
  });
}
