// Order: by class and number, in sections; or all images by a score, in one list that grows as it is scrolled.
const CHUNK = 48;
const order = document.getElementById("order");
const direction = document.getElementById("direction");
const ranked = document.getElementById("ranked");
const rest = document.getElementById("rest");
const sum = (values) => values.reduce((all, value) => all + value, 0);
const count = (marks, mark) => marks.split(mark).length - 1;
let sequence = []; // the places that pass the filters, in the order shown

/** Scores that marks and percentiles give: of one sample, null where it was not judged; and in words. */
const JUDGED = {
  missing: [({ marks }) => count(marks, "m"), (value) => `${value} missing`],
  found: [({ marks }) => count(marks, "p") / marks.replaceAll(" ", "").length, (value) => `${Math.round(100 * value)} % present`],
  mean: [({ percentiles }) => sum(percentiles) / percentiles.filter((p) => p !== null).length, (value) => `mean ${value.toFixed(2)}`],
};

function score(key, position, nth) {
  const klass = data.classes[position];
  if (!JUDGED[key]) return klass.scores[key.slice("score:".length)][nth];
  const judged = klass.samples[nth].after;
  return judged.marks.trim() ? JUDGED[key][0](judged) : null;
}

/** Put the sequence into the order chosen; samples without the score come last. */
function arrange() {
  const key = order?.value ?? "";
  document.getElementById("classes").hidden = Boolean(key);
  if (!order) return;
  ranked.hidden = rest.hidden = direction.hidden = !key;
  ranked.replaceChildren();
  if (!key) return;
  const sign = direction.dataset.first === "highest" ? -1 : 1;
  const of = new Map(sequence.map((place) => [place, score(key, ...place)]));
  const known = sequence.filter((place) => of.get(place) !== null).sort((a, b) => sign * (of.get(a) - of.get(b)));
  sequence = [...known, ...sequence.filter((place) => of.get(place) === null)];
  more();
}

/** Draw the next images of the list, and watch for its end. */
function more() {
  const key = order.value;
  const drawn = ranked.childElementCount;
  for (const [position, nth] of sequence.slice(drawn, drawn + CHUNK)) {
    const node = tile(position, nth, sequence);
    const value = score(key, position, nth);
    const words = value === null ? "–" : JUDGED[key] ? JUDGED[key][1](value) : String(value);
    node.querySelector("figcaption").append(el("span", { class: "which" }, words));
    ranked.append(node);
  }
  ends.unobserve(rest);
  if (ranked.childElementCount < sequence.length) ends.observe(rest); // anew: it may still be in view
}
const ends = new IntersectionObserver((entries) => entries.at(-1).isIntersecting && more(), { rootMargin: "800px 0px" });

function setDirection(first) {
  direction.dataset.first = first;
  direction.textContent = `${first} first`;
}
order?.addEventListener("change", () => {
  setDirection(order.value === "found" || order.value === "mean" ? "lowest" : "highest"); // the worst first
  filter();
});
direction?.addEventListener("click", () => {
  setDirection(direction.dataset.first === "lowest" ? "highest" : "lowest");
  filter();
});
