// The API's page: Swagger UI, once somebody wants it, in the browser's theme.

const place = document.getElementById("operations");
const dark = matchMedia("(prefers-color-scheme: dark)");

const followTheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);

// Ends when the file is there.
const load = (name, properties) =>
  new Promise((resolve, reject) => {
    const element = Object.assign(document.createElement(name), properties);
    element.addEventListener("load", resolve);
    element.addEventListener("error", reject);
    document.head.prepend(element); // before the sheet of this page, which has the last word
  });

const showOperations = async () => {
  await Promise.all([
    load("link", { rel: "stylesheet", href: place.dataset.sheet }),
    load("script", { src: place.dataset.script }),
  ]);
  dark.addEventListener("change", followTheme);
  followTheme();
  globalThis.SwaggerUIBundle({
    url: place.dataset.document,
    domNode: place,
    deepLinking: false, // its links would stand inside buttons, where no keyboard reaches them
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
    // Its list of servers, which is there below a path, has no name of its own.
    onComplete: () => document.getElementById("servers")?.setAttribute("aria-label", place.dataset.servers),
  });
};

const button = document.getElementById("try");

button.addEventListener("click", async () => {
  button.disabled = true; // it is 1.7 MB
  try {
    await showOperations();
  } catch {
    button.disabled = false;
  }
});
