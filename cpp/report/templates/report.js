"use strict";
// The script of the pages begins here: what its files share, the theme, folding. The text can be read without it.
const cpp = {};
(() => {
  const $ = (id) => document.getElementById(id);
  const number = (value) => value.toLocaleString("en-US");

  // Light or dark: the theme of the system until the button changes it.
  const remembered = (value) => {
    try {
      if (value) localStorage.setItem("cpp-theme", value);
      return localStorage.getItem("cpp-theme");
    } catch {
      return value; // this browser has no storage for files
    }
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  let theme = remembered() || (system.matches ? "dark" : "light");
  const show = () => {
    document.documentElement.style.colorScheme = theme;
    $("theme").textContent = theme === "dark" ? "Light" : "Dark";
    $("theme").setAttribute("aria-label", `Switch to ${theme === "dark" ? "light" : "dark"} colours`);
    document.dispatchEvent(new Event("theme"));
  };
  $("theme").addEventListener("click", () => {
    theme = remembered(theme === "dark" ? "light" : "dark") || (theme === "dark" ? "light" : "dark");
    show();
  });
  show();

  for (const button of document.querySelectorAll("[data-fold]")) {
    button.addEventListener("click", () => {
      for (const part of document.querySelectorAll(".tree details")) part.open = button.dataset.fold === "open";
    });
  }

  Object.assign(cpp, { $, number, dark: () => theme === "dark" });
})();
