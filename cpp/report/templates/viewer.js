"use strict";
// The viewer: an enlarged picture with its key, caption, scores and place. The arrow keys go to its neighbours.
(() => {
  const { $ } = cpp;
  const viewer = $("viewer");
  const enlarged = viewer.querySelector("img");
  const facts = viewer.querySelector("dl");
  let frame; // the element with the picture's data

  const entries = ({ key, score, margin, shard }, text) => [
    ["key", key],
    ["caption", text === key ? "" : text],
    ["similarity to the centre of its cluster", score],
    ["margin to the next cluster", margin],
    ["kind", frame.closest(".typical, .borderline, .odd")?.classList[0]],
    ["place", shard],
  ];
  const text = () => frame.querySelector("img")?.alt ?? frame.textContent.trim();
  // The larger picture lies beside the page. Where the page was sent without it, the copy on the page stays.
  const showFile = (address) => {
    const larger = new Image();
    const shown = frame;
    larger.addEventListener("load", () => {
      if (frame === shown) enlarged.src = address;
    });
    larger.src = address;
  };
  const show = (next) => {
    frame = next;
    const picture = frame.querySelector("img");
    enlarged.hidden = !picture;
    if (picture) enlarged.src = picture.src;
    if (frame.dataset.file) showFile(`${viewer.dataset.folder}${frame.dataset.file}`);
    const rows = entries(frame.dataset, text()).filter(([, value]) => value);
    facts.replaceChildren(
      ...rows.map(([name, value]) => {
        const [row, term, description] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
        term.textContent = name;
        description.textContent = value;
        description.dir = "auto";
        row.append(term, description);
        return row;
      }),
    );
    if (!viewer.open) cpp.openDialog(viewer);
    document.dispatchEvent(new CustomEvent("viewed", { detail: frame }));
  };
  const turn = (steps) => {
    const scope = frame.closest(".card, .group, section");
    const frames = [...scope.querySelectorAll("[data-key]")];
    show(frames[Math.min(frames.length - 1, Math.max(0, frames.indexOf(frame) + steps))] ?? frame);
  };
  viewer.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.turn) turn(Number(button.dataset.turn));
    else if (button?.hasAttribute("data-close") || event.target === viewer) viewer.close();
  });
  addEventListener("keydown", (event) => {
    // of the page, because a click on the picture takes the focus out of the viewer
    if (!viewer.open || (event.key !== "ArrowLeft" && event.key !== "ArrowRight")) return;
    event.preventDefault();
    turn(event.key === "ArrowLeft" ? -1 : 1);
  });
  document.addEventListener("click", (event) => {
    const clicked = event.target.closest("[data-key]");
    if (clicked && !event.defaultPrevented) show(clicked);
  });
  document.addEventListener("pointerover", (event) => {
    // what a reader sees without a click
    const pointed = event.target.closest("[data-key]");
    if (pointed && !pointed.title)
      pointed.title = [...new Set([pointed.querySelector("img")?.alt, pointed.dataset.key])].filter(Boolean).join("\n");
  });

  Object.assign(cpp, { view: show });
})();
