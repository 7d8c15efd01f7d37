"use strict";
// Cards show what was decided about them; those that the list does not show yet, as soon as it does.
(() => {
  const { $, number, decisions } = cpp;
  if (!decisions) return; // a page without clusters
  const LISTED = 3; // titles of other clusters on a card

  const merged = (group, k) => {
    const others = [];
    for (const other of group) if (other !== k && others.push(decisions.title(other)) === LISTED) break;
    const more = group.size - 1 - others.length;
    return `merged with ${others.join(", ")}${more ? ` and ${number(more)} more` : ""}`;
  };
  const sentence = (k, { group, name, split, dropped, tags, images }) =>
    [
      name && `now ${name}`,
      group.size > 1 && merged(group, k),
      split && "to be split",
      dropped && "dropped",
      ...[...tags].map((tag) => `tag: ${tag}`),
      images.size && `${images.size} not belonging`,
    ]
      .filter(Boolean)
      .join(" · ");

  const texts = new WeakMap(); // the sentence of each card that has one
  const show = (node) => {
    const k = Number(node.id.slice("cluster-".length));
    const effect = decisions.effects().get(k);
    const text = effect ? sentence(k, effect) : "";
    if (text === (texts.get(node) ?? "")) return;
    texts.set(node, text);
    let line = node.querySelector(".decided");
    if (!line) {
      line = Object.assign(document.createElement("p"), { className: "decided", dir: "auto" });
      node.querySelector("header").append(line);
    }
    line.textContent = text;
    line.hidden = !text;
    node.classList.toggle("dropped", Boolean(effect?.dropped));
    if (!effect?.images.size && !node.querySelector(".outsider")) return;
    for (const frame of node.querySelectorAll("[data-key]"))
      frame.classList.toggle("outsider", Boolean(effect?.images.has(frame.dataset.key)));
  };
  document.addEventListener("decided", () => [...$("cards").children].forEach(show));
  document.addEventListener("listed", (event) => event.detail.forEach(show));
})();
