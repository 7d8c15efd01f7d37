"use strict";
// Moves of both maps: by pointer, two fingers, wheel, keys, and the buttons beside the map.
(() => {
  const STEP = 60; // pixels that an arrow key moves
  const CLICK = 6; // pixels that a pointer may move during a click
  const REACH = 14; // pixels from the pointer to the image that it points at
  const AIM = 60; // pixels from the middle of the map to the image that the keys point at
  const ARROWS = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
  const ZOOMS = { "+": 1.6, "=": 1.6, "-": 0.625, 0: 0 };

  // A map can `pan(dx, dy)`, `zoom(factor, x, y)`, where the factor 0 shows all, `point(x, y, reach)` at the nearest
  // image, `leave()` it, and `choose()` it. `lasso`, if there is one, can `begin(x, y, event)`, which tells whether the
  // pointer draws from now on, go `to(x, y)`, and `end()`. `takesWheel(event)` tells whether the wheel zooms.
  cpp.moveMap = (canvas, { pan, zoom, point, leave, choose, takesWheel, lasso }) => {
    const fingers = new Map();
    let dragged = 0;
    let drawing = false;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const drag = (event, before, [x, y]) => {
      dragged += Math.abs(x - before[0]) + Math.abs(y - before[1]);
      if (dragged >= CLICK) leave();
      const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
      if (drawing) lasso.to(x, y);
      else if (other) {
        const away = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
        zoom(away([x, y]) / Math.max(away(before), 1), other[0], other[1]);
      } else pan(x - before[0], y - before[1]);
      fingers.set(event.pointerId, [x, y]);
    };
    const release = (event) => {
      fingers.delete(event.pointerId);
      if (drawing) lasso.end();
      const free = !drawing;
      drawing = false;
      return free;
    };

    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return; // of a menu
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, at(event));
      dragged = 0;
      if (fingers.size === 1) drawing = Boolean(lasso?.begin(...at(event), event));
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (before) drag(event, before, at(event));
      else point(...at(event), REACH);
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!fingers.has(event.pointerId) || !release(event)) return; // or it went down elsewhere
      point(...at(event), REACH);
      if (dragged < CLICK) choose();
    });
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("pointerleave", leave);
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (!takesWheel(event)) return;
        event.preventDefault();
        zoom(Math.exp(-event.deltaY / 400), ...at(event));
      },
      { passive: false },
    );
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in ARROWS) pan(...ARROWS[event.key]);
      else if (event.key in ZOOMS) zoom(ZOOMS[event.key], canvas.clientWidth / 2, canvas.clientHeight / 2);
      else if (event.key !== "Enter") return;
      event.preventDefault();
      if (event.key === "Enter") choose();
      else if (event.key === "0") leave();
      else point(canvas.clientWidth / 2, canvas.clientHeight / 2, AIM);
    });
    for (const button of document.querySelectorAll("[data-zoom]"))
      button.addEventListener("click", () =>
        zoom(Number(button.dataset.zoom), canvas.clientWidth / 2, canvas.clientHeight / 2),
      );
  };
})();
