"use strict";
const list = document.getElementById("pairs");
const order = document.getElementById("order");
const wanted = document.getElementById("class");
const count = document.getElementById("count");
const cards = [...list.children];
const said = count.textContent;
const number = (card, key) => Number(card.dataset[key]);
const by = {
  n: () => 0,
  gain: (a, b) => number(b, "gain") - number(a, "gain"),
  loss: (a, b) => number(a, "loss") - number(b, "loss"),
  class: (a, b) => a.dataset.class.localeCompare(b.dataset.class) || number(a, "index") - number(b, "index"),
};
const show = () => {
  const first = by[order.value] || by.n;
  cards.sort((a, b) => first(a, b) || number(a, "n") - number(b, "n"));
  let shown = 0;
  for (const card of cards) {
    card.hidden = wanted.value !== "" && card.dataset.class !== wanted.value;
    shown += !card.hidden;
  }
  list.append(...cards);
  count.textContent = wanted.value === "" ? said : `${shown} of ${cards.length} shown here`;
};
order.addEventListener("change", show);
wanted.addEventListener("change", show);
document.querySelector(".tools").hidden = false; // they do nothing without this script
show();
