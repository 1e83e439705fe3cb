// How scans get into the page: the file field, a folder, a drop, or a paste. The field always holds
// the scan in use, so the form could also be sent as it is.

import { copyParts, placeParts } from "./parts.js";

const endings = document.getElementById("image").dataset.endings.split(" ");
const INVISIBLE = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu; // as tumorapp/file_names.py has it
const ADDRESS = "text/uri-list"; // the type of an address that is dragged
const paths = new WeakMap(); // where in a dropped folder a File was

/**
 * Call `onScans` with an array of the Files that the visitor gives at once; it is empty where a
 * folder without images was dropped.
 */
export function receiveScans(field, onScans) {
  field.multiple = true; // without this script one is sent
  field.addEventListener("change", () => {
    if (field.files.length > 0) onScans([...field.files]);
  });

  const root = document.documentElement;
  const isTaken = ({ types }) => types.includes("Files") || types.includes(ADDRESS);
  document.addEventListener("dragover", (event) => {
    if (!isTaken(event.dataTransfer)) return;
    event.preventDefault(); // without this a browser opens the file in place of the page
    event.dataTransfer.dropEffect = "copy";
    root.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) root.classList.remove("dragging");
  });
  document.addEventListener("drop", async (event) => {
    root.classList.remove("dragging");
    const { dataTransfer } = event;
    if (!isTaken(dataTransfer)) return;
    event.preventDefault();
    // An image of another page comes as its address, and as a file if it is of that page's site.
    const hasAddress = dataTransfer.types.includes(ADDRESS);
    const scans = await readDrop(dataTransfer);
    if (scans.length === 0 && hasAddress) refuseAddress();
    else onScans(scans);
  });
  document.addEventListener("paste", ({ clipboardData, target }) => {
    const scans = [...clipboardData.files];
    if (scans.length > 0) onScans(scans);
    else if (target.matches("[type=search]")) return;
    else if (/^\s*(https?|data):\S+\s*$/.test(clipboardData.getData("text"))) refuseAddress();
  });
}

/** Say that nothing is loaded from an address: the page's policy lets it reach its server only. */
function refuseAddress() {
  placeParts(copyParts("address"));
}

/** Call `onScans` with the images of a folder that the visitor chooses with this button. */
export function receiveFolder(button, onScans) {
  const field = button.nextElementSibling;
  button.hidden = !("webkitdirectory" in field);
  button.addEventListener("click", () => field.click());
  field.addEventListener("change", async () => {
    const files = [...field.files];
    field.value = ""; // so that the same folder can be chosen again
    const taken = await Promise.all(files.map(isImage));
    onScans(files.filter((_, index) => taken[index]));
  });
}

/** Tell whether a file of a folder is taken: by its name, or one without an ending if it is DICOM. */
async function isImage(file) {
  const name = file.name.toLowerCase();
  if (name.startsWith(".") || name === "dicomdir") return false; // a disc has an index
  if (endings.some((ending) => name.endsWith(ending))) return true;
  if (/\.[^.]*\D[^.]*$/.test(name)) return false;
  return (await file.slice(128, 132).text()) === "DICM";
}

/** Put a scan, or nothing, into the file field. */
export function holdScan(field, scan) {
  const list = new DataTransfer();
  for (const file of scan?.files ?? [scan]) if (file) list.items.add(file);
  field.files = list.files;
}

/** Name a File by its place in the folder that it came with, visibly. */
export function nameScan(file) {
  const name = paths.get(file) ?? (file.webkitRelativePath || file.name);
  return name.replace(INVISIBLE, "\ufffd");
}

/** Give the files that were dropped, and the images of the folders that were. */
async function readDrop(data) {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.());
  const files = [...data.files]; // both are gone after the event, so they are taken before any wait
  if (!entries.some((entry) => entry?.isDirectory)) return files;
  const found = await Promise.all(entries.filter(Boolean).map((entry) => readEntry(entry)));
  return found.flat();
}

/** Give the file of an entry, or the images in and below a folder; what cannot be read is left out. */
async function readEntry(entry, inside = false) {
  const fetched = (method, ...given) =>
    new Promise((resolve, reject) => method.call(...given, resolve, reject));
  try {
    if (entry.isFile) {
      const file = await fetched(entry.file, entry);
      if (inside && !(await isImage(file))) return [];
      paths.set(file, entry.fullPath.slice(1));
      return [file];
    }
    const reader = entry.createReader();
    const found = [];
    for (;;) {
      const some = await fetched(reader.readEntries, reader); // a hundred at most each time
      if (some.length === 0) return found;
      for (const below of some) found.push(...(await readEntry(below, true)));
    }
  } catch (error) {
    if (error instanceof DOMException) return [];
    throw error;
  }
}
