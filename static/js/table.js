// Sorts and filters the leaderboard without leaving the page: the server does both, and its answer
// takes the place of what was shown. The address is always the one of what is shown.

const form = document.getElementById("filters");
const DELAY = 150; // milliseconds after the last key
let attempt = new AbortController();
let timer;

async function show(address) {
  attempt.abort();
  attempt = new AbortController();
  let page;
  try {
    const response = await fetch(address, { signal: attempt.signal });
    page = new DOMParser().parseFromString(await response.text(), "text/html");
  } catch {
    return; // a newer request has taken over, or the server cannot be reached
  }
  if (!page.getElementById("leaderboard")) return location.assign(address);
  for (const id of ["leaderboard", "count", "nothing"]) {
    const [old, found] = [document, page].map((side) => side.getElementById(id));
    old.replaceChildren(...found.childNodes);
    old.hidden = found.hidden;
  }
  for (const name of ["sort", "order"]) {
    form.elements[name].value = page.getElementById("filters").elements[name].value;
  }
  history.replaceState(null, "", address);
}

function showFiltered() {
  const given = [...new FormData(form)].filter(([, value]) => value !== "");
  show(`${form.action}?${new URLSearchParams(given)}`);
}

form?.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(showFiltered, DELAY);
});
form?.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("leaderboard")?.addEventListener("click", async (event) => {
  const link = event.target.closest("a.sort");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const { name } = link.closest("th").dataset;
  await show(link.href);
  document.querySelector(`#leaderboard [data-name="${name}"] a`).focus();
});
