"use strict";
// Undo and redo of decisions by buttons and keys: the same on the main page and on the page of the map.
(() => {
  const { $, decisions } = cpp;
  const KEYS = { u: "undo", U: "redo" };

  cpp.offerUndo = () => {
    const act = (name) => {
      $("notice").textContent = ""; // an objection to a decision may no longer hold
      decisions[name]();
    };
    const show = () => {
      $("undo").disabled = !decisions.canUndo();
      $("redo").disabled = !decisions.canRedo();
    };
    for (const name of Object.values(KEYS)) $(name).addEventListener("click", () => act(name));
    addEventListener("keydown", (event) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || cpp.isTyping(event)) return;
      if (!(event.key in KEYS) || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      act(KEYS[event.key]);
    });
    document.addEventListener("decided", show);
    show();
  };
})();
