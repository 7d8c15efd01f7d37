"use strict";
// If the page of the map fails before the map is drawn, it says in one sentence why, and what to do.
(() => {
  // An error of a browser that cannot show the map. Its message gives the reason and the remedy.
  cpp.BrowserError = class extends Error {};

  // The script fails for two reasons only: the browser lacks something, or the file is not as it was written.
  const show = (error) => {
    if (!error || document.documentElement.dataset.ready === "") return; // the map is drawn
    const reason =
      error instanceof cpp.BrowserError
        ? error.message
        : `map_page.html is incomplete or damaged (${error.message}): copy the file again or, if it is damaged in the run folder, delete the folder cache/map_page there and run “cpp-at-scale run CONFIG”, which writes it again`;
    const text = Object.assign(document.createElement("p"), { id: "map", className: "warning" });
    text.setAttribute("role", "alert");
    text.textContent = `The map cannot be shown because ${reason}.`;
    document.querySelector("main").replaceChildren(text); // the controls would do nothing
  };
  addEventListener("error", ({ error }) => show(error));
  addEventListener("unhandledrejection", ({ reason }) => show(reason));
})();
