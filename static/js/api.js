// The API's page: Swagger UI, in the browser's theme.

const place = document.getElementById("operations");
const dark = matchMedia("(prefers-color-scheme: dark)");

const followTheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);

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
