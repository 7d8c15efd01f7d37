"use strict";
// The map: points on a canvas, with names as far as they fit.
(() => {
  const { $ } = cpp;
  const canvas = $("canvas");
  if (!canvas) return;
  const points = JSON.parse($("points").textContent);
  const hover = $("hover");
  const pen = canvas.getContext("2d");
  const hues = [250, 30, 145, 85, 310, 190, 5, 115, 275, 55, 220, 340];
  const centres = new Map(points.centres.map((centre) => [centre.cluster, centre]));
  const view = { x: 500, y: 500, zoom: 1 };
  let [width, height, scale, pointed, waiting] = [0, 0, [1, 1], -1, false];
  const colour = (cluster) => {
    const { colour: i } = centres.get(cluster);
    return `oklch(${cpp.dark() ? 0.72 : 0.58} ${i % 2 ? 0.11 : 0.16} ${hues[i]})`;
  };
  const place = (x, y) => [
    width / 2 + (x - view.x) * scale[0] * view.zoom,
    height / 2 + (y - view.y) * scale[1] * view.zoom,
  ];
  const draw = () => {
    waiting = false;
    const style = getComputedStyle(canvas);
    const radius = Math.min(7, Math.max(2, 2.4 * Math.sqrt(view.zoom)));
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.globalAlpha = 0.75;
    for (const { cluster } of points.centres) {
      pen.fillStyle = colour(cluster);
      pen.beginPath();
      for (const i of members.get(cluster)) {
        const [x, y] = place(points.x[i], points.y[i]);
        if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
        pen.moveTo(x + radius, y);
        pen.arc(x, y, radius, 0, 7);
      }
      pen.fill();
    }
    pen.globalAlpha = 1;
    if (pointed >= 0) {
      pen.strokeStyle = style.color;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(...place(points.x[pointed], points.y[pointed]), radius + 3, 0, 7);
      pen.stroke();
    }
    pen.font = `600 13px ${style.fontFamily}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    const taken = [];
    for (const { x, y, name, points: n } of points.centres) {
      const [left, middle] = place(x, y);
      const top = n < 40 ? middle - 15 : middle; // the name would hide so few points
      const half = pen.measureText(name).width / 2 + 4;
      if (left < half || top < 12 || left > width - half || top > height - 12) continue;
      const box = [left - half, top - 10, left + half, top + 10];
      if (taken.some((b) => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3])) continue;
      taken.push(box);
      pen.strokeStyle = cpp.dark() ? "#191f26" : "#fff";
      pen.lineWidth = 4;
      pen.strokeText(name, left, top);
      pen.fillStyle = style.color;
      pen.fillText(name, left, top);
    }
  };
  const members = new Map(points.centres.map((centre) => [centre.cluster, []]));
  points.cluster.forEach((cluster, i) => members.get(cluster).push(i));
  const redraw = () => {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  };
  const resize = () => {
    ({ clientWidth: width, clientHeight: height } = canvas);
    canvas.width = width * devicePixelRatio;
    canvas.height = height * devicePixelRatio;
    scale = [width / 1100, height / 1080]; // the axes have no meaning, so the points may be stretched to the frame
    redraw();
  };
  const zoom = (factor, x = width / 2, y = height / 2) => {
    const before = view.zoom;
    view.zoom = factor ? Math.min(60, Math.max(0.7, view.zoom * factor)) : 1;
    const gained = 1 / before - 1 / view.zoom;
    view.x = factor ? view.x + ((x - width / 2) * gained) / scale[0] : 500;
    view.y = factor ? view.y + ((y - height / 2) * gained) / scale[1] : 500;
    redraw();
  };
  const move = (dx, dy) => {
    view.x -= dx / (scale[0] * view.zoom);
    view.y -= dy / (scale[1] * view.zoom);
    redraw();
  };
  const nearest = (x, y) => {
    let [best, least] = [-1, 14 * 14];
    for (let i = 0; i < points.x.length; i++) {
      const [a, b] = place(points.x[i], points.y[i]);
      const away = (a - x) ** 2 + (b - y) ** 2;
      if (away < least) [best, least] = [i, away];
    }
    return best;
  };
  const point = (x, y) => {
    const found = nearest(x, y);
    if (found !== pointed) {
      pointed = found;
      hover.hidden = found < 0;
      canvas.style.cursor = found < 0 ? "grab" : "pointer";
      if (found >= 0) {
        const parts = [];
        if (points.picture[found]) {
          const image = new Image();
          image.alt = "";
          image.src = `data:image/webp;base64,${points.picture[found]}`;
          parts.push(image);
        }
        const name = document.createElement("b");
        name.textContent = centres.get(points.cluster[found]).name;
        parts.push(name, document.createElement("br"), points.key[found]);
        hover.replaceChildren(...parts);
      }
      redraw();
    }
    if (found >= 0) {
      const left = x + 16 + 168 > width ? x - 16 - 168 : x + 16;
      const top = Math.min(y + 12, height - hover.offsetHeight - 8);
      hover.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
    }
  };
  const fingers = new Map();
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  let dragged = 0;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, at(event));
    dragged = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    const before = fingers.get(event.pointerId);
    if (!before) return point(x, y);
    dragged += Math.abs(x - before[0]) + Math.abs(y - before[1]);
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const away = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      zoom(away([x, y]) / Math.max(away(before), 1), other[0], other[1]);
    } else {
      move(x - before[0], y - before[1]);
    }
    fingers.set(event.pointerId, [x, y]);
  });
  canvas.addEventListener("pointerup", (event) => {
    fingers.delete(event.pointerId);
    point(...at(event));
    if (dragged >= 6 || pointed < 0) return;
    const hash = `#cluster-${points.cluster[pointed]}`;
    if (hash === location.hash) cpp.arrive();
    else location.hash = hash;
  });
  canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => point(-99, -99));
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (document.activeElement !== canvas && !event.ctrlKey) return; // without focus the wheel scrolls the page
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 400), ...at(event));
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    const step = 60;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.key in moves) move(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(1.6);
    else if (event.key === "-") zoom(0.625);
    else if (event.key === "0") zoom(0);
    else return;
    event.preventDefault();
  });
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => zoom(Number(button.dataset.zoom)));
  }
  document.addEventListener("theme", redraw);
  new ResizeObserver(resize).observe(canvas);
})();
