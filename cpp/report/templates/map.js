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
    const names = points.centres.map(({ x, y, name, points: n }) => {
      const [left, top] = place(x, y);
      return { text: name, left, top, n };
    });
    cpp.drawNames(pen, names, width, height, style);
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
  const zoom = (factor, x, y) => {
    const before = view.zoom;
    view.zoom = factor ? Math.min(60, Math.max(0.7, view.zoom * factor)) : 1;
    const gained = 1 / before - 1 / view.zoom;
    view.x = factor ? view.x + ((x - width / 2) * gained) / scale[0] : 500;
    view.y = factor ? view.y + ((y - height / 2) * gained) / scale[1] : 500;
    redraw();
  };
  const pan = (dx, dy) => {
    view.x -= dx / (scale[0] * view.zoom);
    view.y -= dy / (scale[1] * view.zoom);
    redraw();
  };
  const nearest = (x, y, reach) => {
    let [best, least] = [-1, reach * reach];
    for (let i = 0; i < points.x.length; i++) {
      const [a, b] = place(points.x[i], points.y[i]);
      const away = (a - x) ** 2 + (b - y) ** 2;
      if (away < least) [best, least] = [i, away];
    }
    return best;
  };
  const point = (x, y, reach) => {
    const i = nearest(x, y, reach);
    if (i !== pointed) {
      pointed = i;
      hover.hidden = i < 0;
      canvas.style.cursor = i < 0 ? "grab" : "pointer";
      if (i >= 0) cpp.fillHover(hover, points.picture[i], centres.get(points.cluster[i]).name, points.key[i]);
      redraw();
    }
    if (i >= 0) cpp.placeHover(hover, x, y, width, height);
  };
  const choose = () => {
    if (pointed < 0) return;
    const hash = `#cluster-${points.cluster[pointed]}`;
    if (hash === location.hash) cpp.arrive();
    else location.hash = hash;
  };
  const takesWheel = (event) => document.activeElement === canvas || event.ctrlKey; // else it scrolls the page
  cpp.moveMap(canvas, { pan, zoom, point, leave: () => point(0, 0, 0), choose, takesWheel });
  document.addEventListener("theme", redraw);
  new ResizeObserver(resize).observe(canvas);
})();
