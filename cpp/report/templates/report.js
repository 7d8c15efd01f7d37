"use strict";
// The script of the pages begins here: what its files share, the theme, folding. The text can be read without it.
const cpp = {};
(() => {
  const $ = (id) => document.getElementById(id);
  const number = (value) => value.toLocaleString("en-US");

  // Store a value, if there is one, and return what is stored; null in a browser that has no storage for files.
  const remembered = (key, value) => {
    try {
      if (value !== undefined) localStorage.setItem(key, value);
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  };

  // Light or dark: the theme of the system until the button changes it.
  const system = matchMedia("(prefers-color-scheme: dark)");
  let theme = remembered("cpp-theme") || (system.matches ? "dark" : "light");
  const show = () => {
    document.documentElement.style.colorScheme = theme;
    $("theme").textContent = theme === "dark" ? "Light" : "Dark";
    $("theme").setAttribute("aria-label", `Switch to ${theme === "dark" ? "light" : "dark"} colours`);
    document.dispatchEvent(new Event("theme"));
  };
  $("theme").addEventListener("click", () => {
    theme = theme === "dark" ? "light" : "dark";
    remembered("cpp-theme", theme);
    show();
  });
  show();

  // Whether a key goes into a field, and is no command.
  const isTyping = ({ target }) => target.matches("select, textarea, input:not([type=checkbox])");

  // Open a dialog at its beginning, where the focus on its first button would scroll to the end of a long one.
  const openDialog = (dialog) => {
    dialog.showModal();
    dialog.scrollTop = 0;
  };

  for (const button of document.querySelectorAll("[data-fold]")) {
    button.addEventListener("click", () => {
      for (const part of document.querySelectorAll(".tree details")) part.open = button.dataset.fold === "open";
    });
  }

  Object.assign(cpp, { $, number, remembered, isTyping, openDialog, dark: () => theme === "dark" });
})();
