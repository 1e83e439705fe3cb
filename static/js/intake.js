// How a scan gets into the page: the file field, a drop, or a paste. The field always holds the
// scan in use, so the form could also be sent as it is.

/** Call `onScan` with each File that the visitor gives; of several the first. */
export function receiveScans(field, onScan) {
  field.addEventListener("change", () => {
    if (field.files.length > 0) onScan(field.files[0]);
  });

  const root = document.documentElement;
  const give = (event, files) => {
    if (files.length === 0) return;
    event.preventDefault();
    holdScan(field, files[0]);
    onScan(files[0]);
  };
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault(); // without this a browser opens the file in place of the page
    event.dataTransfer.dropEffect = "copy";
    root.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) root.classList.remove("dragging");
  });
  document.addEventListener("drop", (event) => {
    root.classList.remove("dragging");
    give(event, event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => give(event, event.clipboardData.files));
}

/** Put a File, or nothing, into the file field. */
export function holdScan(field, file) {
  const list = new DataTransfer();
  if (file) list.items.add(file);
  field.files = list.files;
}
