// What happens when the page opens: colours, and pictures as they come into view.
const THEMES = { auto: "as the system", light: "light", dark: "dark" };
const theme = document.getElementById("theme");

function setTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.textContent = name;
  theme.setAttribute("aria-label", `Colours: ${THEMES[name]}`);
}
theme.addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(theme.textContent) + 1) % names.length]);
});

// A wide window has room for both images of a pair.
for (const radio of document.querySelectorAll("input[name=view]")) {
  radio.addEventListener("change", () => (document.body.dataset.view = radio.value));
  if (radio.value === "beside" && matchMedia("(min-width: 46rem)").matches) radio.click();
}

// A link to a folded part unfolds it.
for (const link of document.querySelectorAll(".contents a, .skip")) {
  link.addEventListener("click", () => (document.querySelector(link.getAttribute("href")).open = true));
}

function fillList(node) {
  if (node.dataset.filled !== undefined) return;
  node.dataset.filled = "";
  const listed = data.lists[node.dataset.list];
  node.append(...listed.map(([position, nth]) => tile(position, nth, listed)));
}

const lists = [...document.querySelectorAll("[data-list]")];
const watcher = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    watcher.unobserve(target);
    if (target.dataset.list) fillList(target);
    else fill(target);
  }
}, { rootMargin: "800px 0px" });
for (const node of [...sections, ...lists]) watcher.observe(node);
filter();

// On paper there is no scrolling: all is drawn, of a large set the first classes alone.
const PRINTED = 500;
function forPaper() {
  for (const part of document.querySelectorAll(".part")) part.open = true;
  let tiles = 0;
  for (const section of sections) {
    if (section.hidden) continue;
    if (tiles < PRINTED) fill(section);
    section.classList.toggle("unprinted", tiles >= PRINTED);
    tiles += data.classes[Number(section.dataset.class)].shown;
  }
  document.body.classList.toggle("cut", tiles > PRINTED);
  if (order?.value) while (ranked.childElementCount < Math.min(PRINTED, sequence.length)) more();
  lists.forEach(fillList);
  for (const image of document.querySelectorAll("img[loading]")) image.loading = "eager";
}
addEventListener("beforeprint", () => {
  forPaper();
  document.body.classList.toggle("unloaded", [...document.images].some((image) => !image.complete));
});

// A browser prints what is there: files beside the page are loaded first.
addEventListener("keydown", async (event) => {
  if (!data.beside || event.key.toLowerCase() !== "p" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  forPaper();
  await Promise.allSettled([...document.images].map((image) => image.decode()));
  print();
});
