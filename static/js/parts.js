// The parts of the page that change: the server renders them, here they take their places.

const PARTS = ["scan", "heat", "lesion", "crop", "caption", "slices", "result", "comparison"];

/** An answer came that does not belong to this page: mostly a proxy's own. */
export class ForeignAnswerError extends Error {
  constructor(status) {
    super(`Status ${status}`);
    this.status = status;
  }
}

/**
 * Send the form with this scan, or with what the form itself gives of it.
 *
 * Gives the parts to place and whether the scan was predicted; throws a ForeignAnswerError, or
 * another where no answer came at all (no connection, an aborted request).
 */
export async function fetchParts(form, scan, { address = form.dataset.parts, preview, signal }) {
  const body = new FormData(form);
  if (scan) {
    for (const name of ["image", "frame"]) body.delete(name);
    appendScan(body, scan);
  }
  body.set("heatmap", "1"); // showing and hiding it then needs no second request
  if (!preview) body.delete("preview"); // the scan is on the page already
  const headers = { Accept: "text/html" };
  const response = await fetch(address, { method: "POST", body, headers, signal });
  const template = document.createElement("template");
  template.innerHTML = await response.text();
  const parts = [...template.content.children];
  if (!parts.some((part) => part.id === "error")) {
    throw new ForeignAnswerError(response.status);
  }
  return { predicted: response.ok, parts };
}

/** Add the files of a scan to a form; those of a series by their places in its folder. */
export function appendScan(body, scan) {
  if (!scan.files) return body.append("image", scan);
  scan.files.forEach((file, index) => body.append("image", file, scan.paths[index]));
}

/** Copy the parts that a `<template>` of the page holds. */
export function copyParts(id) {
  // Imported, for what still belongs to a template loads no pictures.
  return [...document.importNode(document.getElementById(id).content, true).children];
}

/** Give the parts that say why there is no answer: by an error of `fetchParts`. */
export function explainFailure(error) {
  const parts = copyParts("unreachable");
  if (!(error instanceof ForeignAnswerError)) return parts;
  const [told] = copyParts(error.status === 413 ? "proxy-too-large" : "proxy");
  const detail = told.lastElementChild;
  detail.textContent = detail.textContent.replace("{status}", error.status);
  return [told, ...parts.filter((part) => part.id !== "error")];
}

/** Give the parts that show an answer, as they are now. */
export function currentParts() {
  return PARTS.map((id) => document.getElementById(id));
}

/** Put each part in the place of the one with its id. */
export function placeParts(parts) {
  for (const part of parts) {
    const old = document.getElementById(part.id);
    if (old !== part) old.replaceWith(part);
  }
}
