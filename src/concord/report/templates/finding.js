// Finding: search and jump by class name, and filters.
const LISTED = 12;
const SETTLING = 20; // frames
const search = document.getElementById("search");
const found = document.getElementById("found");
const sections = [...document.querySelectorAll(".class")];
const folded = data.classes.map((klass) => fold(klass.name));
let matches = [];
let chosen = 0;

/** Case, accents and separators do not count. */
function fold(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/[\s_-]+/g, " ").trim();
}

/** Classes with every word of the query in their name: those that begin with it first. */
function find(query) {
  const words = fold(query).split(" ").filter(Boolean);
  if (!words.length) return [];
  const hits = folded.map((name, i) => i).filter((i) => words.every((word) => folded[i].includes(word)));
  const early = (i) => (folded[i].startsWith(words.join(" ")) ? 0 : folded[i].split(" ").some((w) => w.startsWith(words[0])) ? 1 : 2);
  return hits.sort((a, b) => early(a) - early(b) || a - b);
}

function list() {
  const shown = matches.slice(0, LISTED);
  found.replaceChildren(...shown.map((position, k) => {
    const option = el("li", { role: "option", id: `found-${k}`, "aria-selected": String(k === chosen) }, data.classes[position].name);
    option.addEventListener("pointerdown", (event) => event.preventDefault());
    option.addEventListener("click", () => jump(position));
    return option;
  }));
  if (matches.length > shown.length) found.append(el("li", { class: "soft", role: "presentation" }, `and ${matches.length - shown.length} more`));
  if (!matches.length && search.value.trim()) found.append(el("li", { class: "soft", role: "presentation" }, "no such class"));
  found.hidden = !search.value.trim();
  search.setAttribute("aria-expanded", String(!found.hidden));
  if (shown.length) search.setAttribute("aria-activedescendant", `found-${chosen}`);
  else search.removeAttribute("aria-activedescendant");
}

/** Bring a class into view, whatever was folded away or filtered out. */
function jump(position) {
  const section = sections[position];
  if (section.hidden) for (const box of document.querySelectorAll(".filter input")) box.checked = false;
  if (order) order.value = "";
  filter();
  document.getElementById("samples").open = true;
  fill(section);
  found.hidden = true;
  search.setAttribute("aria-expanded", "false");
  section.focus({ preventScroll: true });
  hold(section, SETTLING);
}

/** Keep a class in view for some frames, in which those above it come to their true height. */
function hold(section, frames) {
  section.scrollIntoView();
  if (frames) requestAnimationFrame(() => hold(section, frames - 1));
}

search.addEventListener("input", () => {
  matches = find(search.value);
  chosen = 0;
  list();
});
search.addEventListener("keydown", (event) => {
  const last = Math.min(matches.length, LISTED) - 1;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    chosen = Math.max(0, Math.min(last, chosen + (event.key === "ArrowDown" ? 1 : -1)));
    list();
  } else if (event.key === "Enter" && matches.length) {
    event.preventDefault();
    jump(matches[chosen]);
  } else if (event.key === "Escape") {
    search.value = "";
    matches = [];
    list();
  }
});
search.addEventListener("blur", () => (found.hidden = true));
search.addEventListener("focus", list);
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
  if (event.key === "/" && !typing && !dialog.open) {
    event.preventDefault();
    search.focus();
  }
});

/** Show the classes and images that pass, and say how many there are. */
function filter() {
  const missing = document.getElementById("only-missing")?.checked ?? false;
  const failed = document.getElementById("only-failed")?.checked ?? false;
  document.body.toggleAttribute("data-only-missing", missing);
  sequence = [];
  let classes = 0;
  data.classes.forEach((klass, position) => {
    const all = failed && klass.helped !== false ? [] : Array.from({ length: klass.shown }, (_, nth) => [position, nth]);
    const passing = missing ? all.filter(([, nth]) => klass.samples[nth].after.marks.includes("m")) : all;
    sections[position].hidden = !passing.length;
    for (const place of passing) sequence.push(place);
    classes += passing.length ? 1 : 0;
  });
  const words = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
  document.getElementById("count").textContent = `${words(sequence.length, "image", "images")}, ${words(classes, "class", "classes")}`;
  document.getElementById("nothing").hidden = sequence.length > 0;
  arrange();
}
for (const box of document.querySelectorAll(".filter input")) box.addEventListener("change", filter);
