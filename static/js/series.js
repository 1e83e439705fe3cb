// Files that are slices of one head: DICOM files of one series are given together, as one scan.

import { nameScan } from "./intake.js";

const ENDINGS = [".dcm", ".ima"];
const BEGINNING = 132; // bytes, which end in "DICM"
const HEADER = 2 ** 16; // bytes; what names a series comes long before the pixels
// SeriesInstanceUID and ImageOrientationPatient, with or without their type.
const SERIES = /\x20\0\x0e\0(?:UI..|..\0\0)([\d.]+)/s;
const ORIENTATION = /\x20\0\x37\0(?:DS..|..\0\0)([-+\d.eE\\ ]+)/s;

/**
 * Gather files: those of one series become one scan, `{files, paths, name, size, lastModified}`, in
 * the place of the first of them; the others stay as they are.
 */
export async function gatherSeries(files) {
  const keys = await Promise.all(files.map(identifySeries));
  const groups = new Map();
  files.forEach((file, index) => {
    const key = keys[index] ?? index;
    groups.set(key, [...(groups.get(key) ?? []), file]);
  });
  return [...groups.values()].map((group) => (group.length > 1 ? join(group) : group[0]));
}

async function identifySeries(file) {
  if (file.files) return null; // it is one already
  const read = async (bytes) =>
    new TextDecoder("latin1").decode(await file.slice(0, bytes).arrayBuffer());
  try {
    const named = ENDINGS.some((ending) => file.name.toLowerCase().endsWith(ending));
    if (!named && !(await read(BEGINNING)).endsWith("DICM")) return null;
    const header = await read(HEADER);
    const series = SERIES.exec(header);
    if (!series) return null;
    const directions = ORIENTATION.exec(header)?.[1].split("\\") ?? [];
    return [series[1], ...directions.map((number) => Number(number).toFixed(1))].join();
  } catch (error) {
    if (error instanceof DOMException) return null; // it is gone; to send it says so
    throw error;
  }
}

function join(files) {
  const collator = new Intl.Collator(undefined, { numeric: true });
  const paths = files.map(nameScan);
  const sorted = paths.toSorted(collator.compare);
  return {
    files,
    paths,
    name: `${sorted[0]} … ${sorted.at(-1).split("/").at(-1)}`,
    size: files.reduce((sum, file) => sum + file.size, 0),
    lastModified: Math.max(...files.map((file) => file.lastModified)),
  };
}
