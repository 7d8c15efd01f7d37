"use strict";
// The bar: how many clusters are selected, what was decided, and the list of decisions with their reasons.
(() => {
  const { $, number, decisions } = cpp;
  if (!decisions) return; // a page without clusters
  const LISTED = 200; // decisions in the list, the last first

  const words = {
    rename: ({ name }) => `renamed ${name}`,
    merge: ({ name }) => `merged${name ? ` as ${name}` : ""}`,
    split: () => "to be split",
    drop: () => "dropped",
    tag: ({ tag }) => `tagged ${tag}`,
    not_member: ({ images }) => `does not contain ${images.join(", ")}`,
  };
  const sentence = (decision) =>
    `${decision.clusters.map(decisions.title).join(" + ")}: ${words[decision.action](decision)}`;

  const button = (text, label, press) => {
    const result = Object.assign(document.createElement("button"), { type: "button", textContent: text });
    result.setAttribute("aria-label", label);
    result.addEventListener("click", press);
    return result;
  };
  let editing = false; // a reason in the list, which then keeps its fields and the focus
  const item = (written) => {
    let decision = written;
    const text = Object.assign(document.createElement("span"), { textContent: sentence(decision), dir: "auto" });
    const reason = document.createElement("input");
    Object.assign(reason, { value: decision.reason ?? "", placeholder: "reason", dir: "auto" });
    reason.setAttribute("aria-label", `Reason: ${sentence(decision)}`);
    reason.addEventListener("change", () => {
      const before = decision;
      decision = { ...before, reason: reason.value.trim() };
      editing = true;
      decisions.change(before, decision);
      editing = false;
    });
    const remove = button("Remove", `Remove: ${sentence(decision)}`, () => {
      decisions.change(decision);
      $("sum").focus();
    });
    const result = document.createElement("li");
    result.append(text, reason, remove);
    return result;
  };
  const showLog = () => {
    if (!$("log").open || editing) return;
    const last = decisions.all().slice(-LISTED).reverse();
    $("log")
      .querySelector("ol")
      .replaceChildren(...last.map(item));
  };
  $("log").addEventListener("toggle", showLog);

  const show = () => {
    const { size } = cpp.selected;
    const all = decisions.all();
    $("chosen").textContent = size
      ? `${number(size)} cluster${size > 1 ? "s" : ""} selected`
      : "No cluster is selected";
    $("sum").textContent = decisions.sum();
    $("bar").hidden = !size && !all.length && !decisions.canUndo() && !decisions.canRedo();
    const possible = {
      merge: size > 1,
      clear: size,
      csv: size,
      save: all.length,
      copy: all.length,
    };
    for (const [act, on] of Object.entries(possible)) $("bar").querySelector(`[data-act="${act}"]`).disabled = !on;
  };
  document.addEventListener("selected", show);
  document.addEventListener("decided", () => {
    show();
    showLog();
  });
})();
