"use strict";
// The map of all images: its view, names, the search for clusters, and a lasso that selects images.
(async () => {
  const { $, number } = cpp;
  const UNIT = 65_535; // of the places
  const [STRONG, FAINT] = [190, 22]; // opacity, of 255
  const PALETTE = ["3b6fd4", "d9534f", "2f9e68", "c58a12", "9657c7", "1495a8"]
    .concat(["e0679f", "7d9b1f", "6a6fe0", "b4693a", "3d8fce", "a85a86"])
    .map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));

  const data = await cpp.readMap();
  const { n, places, clusterOf, clusters } = data;
  const [canvas, above, hover] = [$("points"), $("above"), $("hover")];
  const cloud = cpp.drawPoints(canvas, places);

  // The view: its centre in the unit square of the map, and pixels for its side.
  const view = { x: 0.5, y: 0.5, side: 1 };
  let [width, height] = [0, 0];
  let path = []; // of the lasso, in the unit square
  let pointed = -1;
  let matching = null; // the clusters that the search finds; null: all
  const toScreen = (x, y) => [width / 2 + (x - view.x) * view.side, height / 2 + (y - view.y) * view.side];
  const toMap = (left, top) => [view.x + (left - width / 2) / view.side, view.y + (top - height / 2) / view.side];
  const placeOf = (i) => [places[2 * i] / UNIT, places[2 * i + 1] / UNIT];
  const fit = () => Object.assign(view, { x: 0.5, y: 0.5, side: 0.94 * Math.min(width, height) });

  const drawAbove = () => {
    const pen = above.getContext("2d");
    const style = getComputedStyle(above);
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const named = [...clusters.values()].filter(({ cluster }) => !matching || matching.has(cluster));
    const names = named.map(({ x, y, title, points }) => {
      const [left, top] = toScreen(x / 1000, y / 1000);
      return { text: title.slice(0, 40), left, top, n: points };
    });
    cpp.drawNames(pen, names, width, height, style);
    pen.strokeStyle = style.color;
    pen.lineWidth = 2;
    pen.beginPath();
    path.forEach(([x, y], i) => pen[i ? "lineTo" : "moveTo"](...toScreen(x, y)));
    if (path.length) pen.closePath();
    pen.stroke();
    if (pointed < 0) return;
    pen.beginPath();
    pen.arc(...toScreen(...placeOf(pointed)), 6, 0, 7);
    pen.stroke();
  };
  let waiting = false;
  const draw = () => {
    if (!waiting)
      requestAnimationFrame(() => {
        waiting = false;
        cloud.draw(view, width, height);
        drawAbove();
      });
    waiting = true;
  };
  const colours = new Uint8Array(4 * n);
  const paint = () => {
    for (let i = 0; i < n; i++) {
      const strong = selection.images ? selection.has(i) : !matching || matching.has(clusterOf[i]);
      colours.set(PALETTE[clusters.get(clusterOf[i]).colour % PALETTE.length], 4 * i);
      colours[4 * i + 3] = strong ? STRONG : FAINT;
    }
    cloud.paint(colours);
    draw();
  };
  const resize = () => {
    const first = !width;
    ({ width, height } = canvas.getBoundingClientRect());
    for (const sheet of [canvas, above])
      [sheet.width, sheet.height] = [width * devicePixelRatio, height * devicePixelRatio];
    if (first) fit();
    draw();
  };

  // Selection: what the lasso surrounds, what is in view, the clusters found, or the cluster of one image.
  const selection = cpp.selectImages(data, paint);
  const inside = (x, y) => {
    let odd = false;
    for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
      const [[a, b], [c, d]] = [path[i], path[j]];
      if (b > y !== d > y && x < ((c - a) * (y - b)) / (d - b) + a) odd = !odd;
    }
    return odd;
  };
  const selectPath = () => {
    const [xs, ys] = [path.map(([x]) => x), path.map(([, y]) => y)];
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    selection.select((i) => {
      const [x, y] = placeOf(i);
      return x >= left && x <= right && y >= low && y <= high && inside(x, y);
    });
  };
  const selectOnly = (holds) => {
    path = [];
    selection.select(holds);
  };
  $("select").addEventListener("click", () => selectOnly((i) => !matching || matching.has(clusterOf[i])));
  $("in-view").addEventListener("click", () => {
    const [[left, low], [right, high]] = [toMap(0, 0), toMap(width, height)];
    selectOnly((i) => {
      const [x, y] = placeOf(i);
      return x >= left && x <= right && y >= low && y <= high && (!matching || matching.has(clusterOf[i]));
    });
  });
  $("clear").addEventListener("click", () => selectOnly(() => false));
  $("lasso").addEventListener("change", () => {
    canvas.style.touchAction = $("lasso").checked ? "none" : ""; // a finger draws, and does not scroll the page
    canvas.style.cursor = $("lasso").checked ? "crosshair" : "";
  });

  $("search").addEventListener("input", () => {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = ({ cluster, title }) => words.every((word) => `${title} #${cluster}`.toLowerCase().includes(word));
    const found = [...clusters.values()].filter(fits).map(({ cluster }) => cluster);
    matching = words.length ? new Set(found) : null;
    $("found").textContent = `${matching ? `${number(matching.size)} of ` : ""}${number(clusters.size)} clusters`;
    paint();
  });
  $("tools").addEventListener("submit", (event) => event.preventDefault());

  cpp.moveMap(canvas, {
    pan: (left, top) => {
      view.x -= left / view.side;
      view.y -= top / view.side;
      draw();
    },
    zoom: (factor, left, top) => {
      const [x, y] = toMap(left, top);
      view.side = Math.min(400 * width, Math.max(0.4 * Math.min(width, height), view.side * factor));
      view.x = x - (left - width / 2) / view.side;
      view.y = y - (top - height / 2) / view.side;
      if (!factor) fit();
      draw();
    },
    point: (left, top, reach) => {
      const [x, y] = toMap(left, top).map((value) => value * UNIT);
      const i = data.nearest(x, y, (reach / view.side) * UNIT);
      hover.hidden = i < 0;
      if (i >= 0 && i !== pointed) {
        const { title } = clusters.get(clusterOf[i]);
        cpp.fillHover(hover, data.pictures[i], `${title} #${clusterOf[i]}`, data.keys[i]);
      }
      if (i >= 0) cpp.placeHover(hover, left, top, width, height);
      if (i !== pointed) {
        pointed = i;
        drawAbove();
      }
    },
    leave: () => {
      hover.hidden = true;
      pointed = -1;
      drawAbove();
    },
    choose: () => {
      const k = clusterOf[pointed];
      if (pointed >= 0) selectOnly((i) => clusterOf[i] === k);
    },
    takesWheel: () => true,
    lasso: {
      begin: (left, top, event) => {
        if (!$("lasso").checked && !event.shiftKey) return false;
        path = [toMap(left, top)];
        return true;
      },
      to: (left, top) => {
        path.push(toMap(left, top));
        drawAbove();
      },
      end: () => {
        if (path.length < 3) path = [];
        selectPath();
      },
    },
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Escape") selectOnly(() => false);
  });

  document.addEventListener("theme", draw);
  new ResizeObserver(resize).observe(canvas);
  resize();
  $("search").disabled = false;
  $("found").textContent = `${number(clusters.size)} clusters`;
  paint();
  document.documentElement.dataset.ready = "";
})();
