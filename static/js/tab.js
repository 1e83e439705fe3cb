// The scan in hand, for the page of its steps and the way back: in sessionStorage, which is this
// tab's alone and gone with it.

const KEY = "scan";

/** Keep a scan and the name of its model; one that is too large for the storage is not kept. */
export async function keepScan(scan, model) {
  const reader = new FileReader();
  const read = new Promise((resolve) => {
    reader.onloadend = resolve;
  });
  reader.readAsDataURL(scan);
  await read;
  const { name, type } = scan;
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ name, type, model, data: reader.result }));
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    forgetScan();
  }
}

/** Give what was kept, as `{scan, model}`, or null. */
export function recallScan() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY));
    if (!kept?.data) return null;
    const { name, type, model, data } = kept;
    const bytes = Uint8Array.from(atob(data.split(",")[1]), (letter) => letter.charCodeAt(0));
    return { scan: new File([bytes], name, { type }), model };
  } catch (error) {
    if (error instanceof DOMException) return null; // the browser lets no page keep anything
    throw error;
  }
}

export function forgetScan() {
  try {
    sessionStorage.removeItem(KEY);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
  }
}
