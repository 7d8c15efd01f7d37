"use strict";
// A reader who leaves with decisions that are in no file is asked first, except on the way to another page of the run.
(() => {
  const { decisions } = cpp;
  if (!decisions) return; // a page without clusters
  let within = false;
  document.addEventListener(
    "click",
    (event) => {
      const link = event.target.closest("a[href]:not([href^='#'])");
      within = Boolean(link && decisions.store());
    },
    true,
  );
  document.addEventListener("leaving", () => {
    within = decisions.store();
  });
  addEventListener("beforeunload", (event) => {
    if (!decisions.saved() && !within) event.preventDefault();
  });
})();
