"use strict";
// The selected clusters: by boxes, clicks on the free area of a card, and ranges.
(() => {
  if (!cpp.decisions) return; // a page without clusters
  const selected = new Set();
  let last; // the card that was selected last, where a range begins
  const id = (node) => Number(node.id.slice("cluster-".length));

  const mark = (node, on) => {
    node.classList.toggle("selected", on);
    node.querySelector(".pick").checked = on;
    selected[on ? "add" : "delete"](id(node));
  };
  const announce = () => document.dispatchEvent(new Event("selected"));
  const select = (numbers) => {
    const asked = new Set(numbers);
    for (const k of [...selected]) if (!asked.has(k)) mark(cpp.byId.get(k).node, false);
    for (const k of asked) if (!selected.has(k) && cpp.byId.has(k)) mark(cpp.byId.get(k).node, true);
    announce();
  };
  const toggle = (node, range, on = !selected.has(id(node))) => {
    const shown = range ? cpp.shown() : [];
    const [a, b] = [shown.indexOf(last), shown.indexOf(node)].sort((p, q) => p - q);
    const ranged = range && a >= 0;
    for (const one of ranged ? shown.slice(a, b + 1) : [node]) mark(one, range || on);
    last = node;
    announce();
  };

  document.addEventListener("click", (event) => {
    const node = event.target.closest(".card");
    if (!node || event.defaultPrevented) return;
    if (event.shiftKey) getSelection().removeAllRanges(); // the browser selects the text up to here
    const box = event.target.closest(".pick");
    const free = !event.target.closest("a, button, summary, input, [data-key]") && getSelection().isCollapsed;
    if (box) toggle(node, event.shiftKey, box.checked);
    else if (free) toggle(node, event.shiftKey);
  });

  // The clusters that an act is about: the selected ones or, without a selection, the one that the reader went to.
  const chosen = () => (selected.size ? [...selected] : [...document.querySelectorAll(".card.here")].map(id));

  Object.assign(cpp, { selected, select, toggle, chosen });
})();
