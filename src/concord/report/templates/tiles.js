// Tiles: an image, its uninformed partner of the same seed under it, and a mark for each concept of its class.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const data = read("data");
const WORDS = { p: "present", w: "weak", m: "likely missing", " ": "not judged" };
const pictureCache = new Map();

/** The samples of a class are text until they are asked for: there may be many, and few come into view. */
data.classes.forEach((klass, position) => {
  let samples = null;
  Object.defineProperty(klass, "samples", { get: () => (samples ??= read(`samples-${position}`)) });
});

/** An element with attributes and children; text becomes text, never markup. */
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** A file of the run as an address beside the page. */
function address(file) {
  return file.split("/").map(encodeURIComponent).join("/");
}

/** The file of the same sample without informing. */
function partner(file) {
  return file.replace(/^[^/]*/, "uninformed");
}

/** A class's pictures, [after, before] a sample: files beside the page, or data URIs, which stay text until the class
    comes into view. Those of its first sample are markup that shows without scripts; with them, a noscript holds it as
    text. */
function picturesOf(position) {
  if (data.beside) {
    return data.classes[position].samples.map(({ file, before }) => [address(file), before ? address(partner(file)) : ""]);
  }
  if (!pictureCache.has(position)) {
    const markup = document.querySelector(`#class-${position} > noscript`)?.textContent ?? "";
    const first = [...markup.matchAll(/ src="([^"]*)"/g)].map(([, uri]) => uri);
    const others = read(`pictures-${position}`);
    pictureCache.set(position, first.length ? [first, ...others] : others);
  }
  return pictureCache.get(position);
}

function picture(uri, className) {
  const gone = el("span", { class: `gone ${className}` }, "image missing");
  if (!uri) return gone;
  const image = el("img", { class: className, alt: "", decoding: "async", loading: data.beside ? "lazy" : null, src: uri });
  image.addEventListener("error", () => image.replaceWith(gone));
  return image;
}

function ordinal(percentile) {
  return percentile === null ? "–" : percentile.toFixed(2);
}

function markList(klass, judged, side) {
  const list = el("ol", { class: "marks", "aria-label": `concepts, ${side}` });
  [...judged.marks].forEach((mark, k) => {
    const phrase = data.texts[klass.phrases[k]];
    const words = `${phrase}: ${WORDS[mark]} (percentile ${ordinal(judged.percentiles[k])})`;
    list.append(el("li", { class: `mark ${mark.trim()}`, title: words, "aria-label": words }, String(k + 1)));
  });
  return list;
}

function inWords(judged) {
  const count = (mark) => judged.marks.split(mark).length - 1;
  if (!judged.marks) return "";
  return `: ${count("p")} present, ${count("w")} weak, ${count("m")} likely missing`;
}

/** One sample. among: the list of places that it stands in outside its class; the class's name is in it then. */
function tile(position, nth, among) {
  const named = Boolean(among);
  const enlarge = () => openDetails(position, nth, among);
  const klass = data.classes[position];
  const sample = klass.samples[nth];
  const [after, before] = picturesOf(position)[nth];
  const two = Boolean(sample.before);
  const flip = el("button", { type: "button", class: "flip" }, picture(after, "own"), two ? picture(before, "other") : null);
  const which = el("span", { class: "which" });
  const side = el("div", { class: "side after" }, flip);
  const node = el("figure", { class: "tile", "data-side": "after", "data-place": `${position}/${nth}` });
  if (sample.after.marks.includes("m")) node.dataset.missing = "";
  let pinned = false;

  function show(name) {
    node.dataset.side = name;
    const judged = sample[name];
    const label = name === "after" ? data.after : "uninformed";
    which.textContent = label;
    flip.setAttribute("aria-label", `${klass.name}, number ${sample.index}, ${label}${inWords(judged)}`);
    side.querySelector(".marks")?.remove();
    if (judged.marks) flip.after(markList(klass, judged, label));
  }

  if (two) {
    flip.setAttribute("aria-pressed", "false");
    flip.addEventListener("click", (event) => {
      if (event.detail && document.body.dataset.view === "beside") return enlarge(); // a click of the mouse, not the space bar
      pinned = !pinned;
      flip.setAttribute("aria-pressed", String(pinned));
      show(pinned ? "before" : "after");
    });
    flip.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && show("before"));
    flip.addEventListener("pointerleave", () => show(pinned ? "before" : "after"));
  } else {
    flip.addEventListener("click", enlarge);
  }
  flip.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      enlarge();
    }
  });
  const more = el("button", { type: "button", class: "more", "aria-haspopup": "dialog", "aria-label": `${klass.name}, number ${sample.index}: details` }, named ? `${klass.name} · ${sample.index}` : `No. ${sample.index}`);
  more.addEventListener("click", enlarge);
  const sides = el("div", { class: two ? "sides two" : "sides" });
  if (two) {
    const partner = el("div", { class: "still" }, picture(before, "own"));
    partner.addEventListener("click", enlarge);
    const still = el("div", { class: "side before" }, partner);
    if (sample.before.marks) still.append(markList(klass, sample.before, "uninformed"));
    still.append(el("div", { class: "under" }, el("span", { class: "which" }, "uninformed")));
    sides.append(still);
  }
  side.append(el("div", { class: "under" }, which, named ? null : more));
  sides.append(side);
  node.append(sides, named ? el("figcaption", { class: "under" }, more) : "");
  if (sample.near?.flagged) node.append(el("div", { class: "copy" }, "near copy"));
  show("after");
  return node;
}

/** The kept and dropped concepts of a class with their activations, folded. */
function ratedConcepts(klass) {
  const list = el("ol");
  const high = Math.max(...klass.concepts.map(([, activation]) => activation), 1e-9);
  const low = Math.min(...klass.concepts.map(([, activation]) => activation), 0);
  for (const [text, activation, kept] of klass.concepts) {
    const bar = el("i");
    bar.style.width = `${(100 * (activation - low)) / (high - low)}%`;
    list.append(
      el("li", { class: kept ? "kept" : "dropped" },
        el("span", {}, data.texts[text], kept === 2 ? " (pinned)" : ""),
        el("span", { class: "bar-of", "aria-hidden": "true" }, bar),
        el("span", { class: "figure" }, activation.toFixed(3).replace("-", "\u2212"))),
    );
  }
  const kept = klass.concepts.filter(([, , k]) => k).length;
  return el("details", { class: "rated" },
    el("summary", {}, `concepts: ${kept} kept, ${klass.concepts.length - kept} dropped, by activation`), list);
}

/** Put a class's tiles into its section, once. */
function fill(section) {
  if (section.dataset.filled !== undefined) return;
  section.dataset.filled = "";
  const position = Number(section.dataset.class);
  const klass = data.classes[position];
  const some = klass.shown < klass.count ? `${klass.shown} of ${klass.count} images shown` : "";
  const failed = klass.helped === false ? "informing did not help" : "";
  const remark = [some, failed].filter(Boolean).join(" · ");
  if (remark) section.querySelector("h3").append(" ", el("span", { class: "soft" }, remark));
  if (klass.phrases.length) {
    const phrases = el("ol", { class: "phrases" });
    klass.phrases.forEach((text, k) => phrases.append(el("li", {}, el("span", { class: "mark", "aria-hidden": "true" }, String(k + 1)), data.texts[text])));
    section.append(phrases);
  }
  section.append(el("div", { class: "tiles" }, ...klass.samples.map((_, nth) => tile(position, nth, null))));
  if (klass.concepts.length) section.append(ratedConcepts(klass));
}
