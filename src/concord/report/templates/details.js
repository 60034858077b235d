// One sample as large as the window lets, and its details, in a dialog: the browser keeps the focus inside, and gives it
// back on closing.
const dialog = document.getElementById("dialog");
let open = null;
let row = []; // of places: what the arrows go along

/** The page's copy of an image; the file beside the page takes its place where it may hold more. */
function shot(uri, name, file) {
  const copy = picture(uri, "own");
  const said = el("span", { class: "soft" });
  const size = (image) => `${image.naturalWidth} × ${image.naturalHeight} pixels`;
  copy.addEventListener("load", () => {
    said.textContent = size(copy);
    if (data.beside || Math.max(copy.naturalWidth, copy.naturalHeight) < data.exactBelow) return;
    const whole = el("img", { class: "own", alt: "" });
    whole.addEventListener("load", () => {
      copy.replaceWith(whole);
      said.textContent = size(whole);
    });
    whole.addEventListener("error", () => (said.textContent = `${size(copy)}, the page’s copy: ${file} is not beside the page`));
    whole.src = address(file);
  });
  return el("figure", {}, el("div", { class: "still" }, copy), el("figcaption", {}, name, " ", said));
}

function tracks(klass, sample) {
  const list = el("ol", { class: "tracks", "aria-label": "percentiles among the class's real images" });
  klass.phrases.forEach((text, k) => {
    const now = sample.after.percentiles[k] ?? null;
    const was = sample.before?.percentiles[k] ?? null;
    const mark = sample.after.marks[k] ?? " ";
    const track = el("span", { class: "track", "aria-hidden": "true" });
    track.style.setProperty("--miss", `${100 * data.missingBelow}%`);
    for (const [value, name] of [[was, "was"], [now, "now"]]) {
      if (value === null) continue;
      const dot = el("i", { class: name });
      dot.style.left = `${100 * value}%`;
      track.append(dot);
    }
    const figures = was === null ? ordinal(now) : `${ordinal(was)} → ${ordinal(now)}`;
    list.append(el("li", {},
      el("span", { class: `mark ${mark.trim()}`, "aria-hidden": "true" }, String(k + 1)),
      el("span", {}, data.texts[text], el("span", { class: "hidden" }, `: ${WORDS[mark]}`)),
      track, el("span", { class: "figure" }, figures)));
  });
  return list;
}

function facts(klass, sample) {
  const list = el("dl", { class: "facts" });
  const add = (name, ...value) => list.append(el("dt", {}, name), el("dd", {}, ...value));
  const lines = (ids) => el("ul", {}, ...ids.map((id) => el("li", {}, data.texts[id])));
  if (sample.seed !== null) add("Seed", el("code", {}, String(sample.seed)));
  if (sample.prompt !== undefined) add("Prompt", data.texts[sample.prompt]);
  if (sample.negative_prompt !== undefined) add("Negative prompt", data.texts[sample.negative_prompt]);
  if (sample.source !== undefined) add(data.after === "chosen" ? "Source" : data.started ? "Real image that it began from" : "Condition image", el("code", {}, data.texts[sample.source]));
  if (sample.start !== undefined) add("Began from", el("code", {}, data.texts[sample.start]));
  if (sample.checkpoint !== undefined) add("Checkpoint", el("code", {}, data.texts[sample.checkpoint]));
  if (sample.positives.length) add("Informed by", lines(sample.positives));
  if (sample.negatives.length) add("Negatives", lines(sample.negatives));
  if (sample.near) {
    const { nearest, similarity, same_file: same, flagged } = sample.near;
    const words = typeof similarity === "number" ? `, similarity ${similarity.toFixed(3)}` : "";
    add("Nearest real", el("code", {}, String(nearest ?? "–")), words, same ? ", the same file" : flagged ? ", flagged as a near copy" : "");
  }
  add("File", el("code", {}, sample.file));
  return list;
}

function draw(position, nth) {
  const klass = data.classes[position];
  const sample = klass.samples[nth];
  const [after, before] = picturesOf(position)[nth];
  open = [position, nth];
  document.getElementById("dialog-title").textContent = `${klass.name}, number ${sample.index}`;
  const shots = el("div", { class: "shots" });
  if (sample.before) shots.append(shot(before, "uninformed", partner(sample.file)));
  shots.append(shot(after, data.after, sample.file));
  const body = document.getElementById("dialog-body");
  body.replaceChildren(shots);
  if (klass.phrases.length && sample.after.marks) {
    body.append(el("p", { class: "note" }, sample.before ? "Percentile among the class’s real images: hollow without informing, filled with it." : "Percentile among the class’s real images."), tracks(klass, sample));
  }
  body.append(facts(klass, sample));
  for (const [name, by] of [["previous", -1], ["next", 1]]) {
    const button = document.getElementById(name);
    const ends = step(by) === null;
    if (ends && document.activeElement === button) document.getElementById("close").focus(); // or the focus were lost
    button.disabled = ends;
  }
}

/** The place before or after the open one; null at the ends. */
function step(by) {
  const at = row.findIndex(([position, nth]) => position === open[0] && nth === open[1]);
  return row[at + by] ?? null;
}

function openDetails(position, nth, among) {
  row = among ?? sequence;
  draw(position, nth);
  if (!dialog.open) dialog.showModal();
}

function go(by) {
  const next = step(by);
  if (!next) return;
  draw(...next);
  dialog.scrollTop = 0;
}

document.getElementById("close").addEventListener("click", () => dialog.close());
document.getElementById("previous").addEventListener("click", () => go(-1));
document.getElementById("next").addEventListener("click", () => go(1));
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
document.addEventListener("keydown", (event) => {
  if (!dialog.open) return;
  if (event.key === "ArrowLeft") go(-1);
  if (event.key === "ArrowRight") go(1);
});
