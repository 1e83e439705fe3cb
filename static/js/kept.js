// The results that this browser keeps: scans, small pictures and what was found, in IndexedDB.

const STORE = "results";
const MOST = 50;
const MOST_BYTES = 200 * 2 ** 20;

/** Add a result `{scan, name, model, …}`; it takes the place of one of the same scan and model. */
export async function addResult(result) {
  const results = await listResults();
  const store = await open("readwrite");
  const { name, model, scan } = result;
  const isSame = (old) => old.name === name && old.model === model && old.scan.size === scan.size;
  let bytes = scan.size;
  let kept = 1;
  for (const old of results) {
    bytes += old.scan.size;
    kept += 1;
    if (isSame(old) || kept > MOST || bytes > MOST_BYTES) {
      store.delete(old.id);
      bytes -= old.scan.size;
      kept -= 1;
    }
  }
  store.add(result);
  await finish(store.transaction);
}

/** Give all results, the newest first, each with its `id`. */
export async function listResults() {
  const request = (await open("readonly")).getAll();
  await finish(request.transaction);
  return request.result.reverse();
}

export const deleteResult = (id) => change((store) => store.delete(id));

export const deleteAll = () => change((store) => store.clear());

async function change(action) {
  const store = await open("readwrite");
  action(store);
  await finish(store.transaction);
}

let database = null;

/** Give the store, in a transaction that ends when nothing more is asked of it. */
async function open(mode) {
  database ??= connect();
  try {
    return (await database).transaction(STORE, mode).objectStore(STORE);
  } catch (error) {
    database = null; // closed, or refused: the next attempt starts from scratch
    throw error;
  }
}

function connect() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("tumorapp", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(STORE, { keyPath: "id", autoIncrement: true });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function finish(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });
}
