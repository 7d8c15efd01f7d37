"use strict";
// The map of all images: points by WebGL, names above them, search, and a lasso that selects images.
// Libraries that draw with WebGL build code from text, which the policy of the page forbids.
(async () => {
  const { $, number } = cpp;
  const read = async (name) => {
    const bytes = Uint8Array.from(atob($(`data-${name}`).textContent), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
  };
  const [content, keys] = [await (await read("content")).json(), await (await read("keys")).json()];
  const places = new Uint16Array(await (await read("places")).arrayBuffer());
  const of = new Int32Array(await (await read("of")).arrayBuffer());
  const shards = new Int32Array(await (await read("in")).arrayBuffer());
  const n = keys.length;
  const clusters = new Map(content.clusters.map((cluster) => [cluster.cluster, cluster]));
  const palette = ["#3b6fd4", "#d9534f", "#2f9e68", "#c58a12", "#9657c7", "#1495a8", "#e0679f", "#7d9b1f", "#6a6fe0", "#b4693a", "#3d8fce", "#a85a86"]
    .map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));

  // Points by cell of a grid, so that the one under the pointer is found at once.
  const CELLS = 256;
  const cellOf = (i) => (places[2 * i] >> 8) * CELLS + (places[2 * i + 1] >> 8);
  const starts = new Uint32Array(CELLS * CELLS + 1);
  for (let i = 0; i < n; i++) starts[cellOf(i) + 1]++;
  for (let c = 0; c < CELLS * CELLS; c++) starts[c + 1] += starts[c];
  const next = starts.slice();
  const byCell = new Uint32Array(n);
  for (let i = 0; i < n; i++) byCell[next[cellOf(i)]++] = i;

  // WebGL: a buffer with the places, and one with the colours, which search and selection change.
  const [canvas, above, hover] = [$("points"), $("above"), $("hover")];
  const gl = canvas.getContext("webgl", { antialias: false, preserveDrawingBuffer: true });
  if (!gl) {
    $("found").textContent = "this browser does not draw with WebGL";
    return;
  }
  const program = gl.createProgram();
  const shaders = [
    [gl.VERTEX_SHADER, `attribute vec2 place; attribute vec4 colour; uniform vec4 view; uniform float size; varying vec4 c;
      void main() { gl_Position = vec4((place - view.xy) * view.zw, 0., 1.); gl_PointSize = size; c = colour; }`],
    [gl.FRAGMENT_SHADER, `precision mediump float; varying vec4 c;
      void main() { if (distance(gl_PointCoord, vec2(.5)) > .5) discard; gl_FragColor = vec4(c.rgb * c.a, c.a); }`],
  ];
  for (const [kind, text] of shaders) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  const attribute = (name, data, size, type) => {
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
    const at = gl.getAttribLocation(program, name);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, size, type, true, 0, 0);
  };
  const colours = new Uint8Array(4 * n);
  attribute("place", places, 2, gl.UNSIGNED_SHORT);
  attribute("colour", colours, 4, gl.UNSIGNED_BYTE); // bound from here on
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);

  let matching = null; // the clusters that the search finds; null: all
  const chosen = new Uint8Array(n);
  let selected = 0;
  const paint = () => {
    for (let i = 0; i < n; i++) {
      const strong = selected ? chosen[i] : !matching || matching.has(of[i]);
      colours.set(palette[clusters.get(of[i]).colour % palette.length], 4 * i);
      colours[4 * i + 3] = strong ? 190 : 22;
    }
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, colours);
    draw();
  };

  // The view: its centre in the unit square of the map, and pixels for its side.
  const view = { x: 0.5, y: 0.5, side: 1 };
  let [width, height] = [0, 0];
  const toScreen = (x, y) => [width / 2 + (x - view.x) * view.side, height / 2 + (y - view.y) * view.side];
  const toMap = (left, top) => [view.x + (left - width / 2) / view.side, view.y + (top - height / 2) / view.side];
  const fit = () => Object.assign(view, { x: 0.5, y: 0.5, side: 0.94 * Math.min(width, height) });
  let path = []; // of the lasso, in the map
  let pointed = -1;
  const drawNow = () => {
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const scale = [(2 * view.side) / width, (-2 * view.side) / height];
    gl.uniform4f(gl.getUniformLocation(program, "view"), view.x, view.y, ...scale);
    const crowd = Math.min(7, Math.max(1.5, (view.side * 1.6) / Math.sqrt(n)));
    gl.uniform1f(gl.getUniformLocation(program, "size"), crowd * devicePixelRatio);
    gl.drawArrays(gl.POINTS, 0, n);
    drawAbove();
  };
  let waiting = false;
  const draw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      drawNow();
    });
  };
  const drawAbove = () => {
    const pen = above.getContext("2d");
    const style = getComputedStyle(above);
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = `600 13px ${style.fontFamily}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    const taken = [];
    for (const { cluster, x, y, title } of content.clusters) {
      if (matching && !matching.has(cluster)) continue;
      const [left, top] = toScreen(x / 1000, y / 1000);
      const name = title.slice(0, 40);
      const half = pen.measureText(name).width / 2 + 6;
      const box = [left - half, top - 11, left + half, top + 11];
      if (box[0] < 0 || box[1] < 0 || box[2] > width || box[3] > height) continue;
      if (taken.some((b) => box[0] < b[2] && b[0] < box[2] && box[1] < b[3] && b[1] < box[3])) continue;
      taken.push(box);
      pen.strokeStyle = cpp.dark() ? "#191f26" : "#fff";
      pen.lineWidth = 4;
      pen.strokeText(name, left, top);
      pen.fillStyle = style.color;
      pen.fillText(name, left, top);
    }
    pen.strokeStyle = style.color;
    pen.lineWidth = 2;
    pen.beginPath();
    path.forEach(([x, y], i) => pen[i ? "lineTo" : "moveTo"](...toScreen(x, y)));
    if (path.length) pen.closePath();
    pen.stroke();
    if (pointed < 0) return;
    pen.beginPath();
    pen.arc(...toScreen(places[2 * pointed] / 65535, places[2 * pointed + 1] / 65535), 6, 0, 7);
    pen.stroke();
  };
  const resize = () => {
    const first = !width;
    ({ width, height } = canvas.getBoundingClientRect());
    for (const sheet of [canvas, above]) [sheet.width, sheet.height] = [width * devicePixelRatio, height * devicePixelRatio];
    if (first) fit();
    draw();
  };

  // The image under the pointer.
  const nearest = (left, top) => {
    const [x, y] = toMap(left, top).map((value) => value * 65535);
    const reach = (8 / view.side) * 65535;
    let [best, least] = [-1, reach * reach];
    const cell = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor(value) >> 8));
    for (let a = cell(x - reach); a <= cell(x + reach); a++) {
      for (let c = starts[a * CELLS + cell(y - reach)]; c < starts[a * CELLS + cell(y + reach) + 1]; c++) {
        const i = byCell[c];
        const far = (places[2 * i] - x) ** 2 + (places[2 * i + 1] - y) ** 2;
        if (far < least) [best, least] = [i, far];
      }
    }
    return best;
  };
  const show = (left, top) => {
    const i = nearest(left, top);
    hover.hidden = i < 0;
    if (i >= 0 && i !== pointed) {
      const picture = content.pictures[i];
      const text = [clusters.get(of[i]).title, ` #${of[i]}`, document.createElement("br"), keys[i]];
      if (picture) text.unshift(Object.assign(new Image(), { src: `data:image/webp;base64,${picture}`, alt: "" }));
      hover.replaceChildren(...text);
    }
    if (i >= 0) {
      hover.style.left = `${Math.max(0, Math.min(width - 172, left + 14))}px`;
      hover.style.top = `${Math.max(0, Math.min(height - hover.offsetHeight - 4, top + 14))}px`;
    }
    if (i !== pointed) {
      pointed = i;
      drawAbove();
    }
  };

  // Selection: by the lasso, or all images of the clusters found.
  const inside = (x, y) => {
    let odd = false;
    for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
      const [[a, b], [c, d]] = [path[i], path[j]];
      if (b > y !== d > y && x < ((c - a) * (y - b)) / (d - b) + a) odd = !odd;
    }
    return odd;
  };
  const select = (holds) => {
    const counts = new Map();
    selected = 0;
    for (let i = 0; i < n; i++) {
      chosen[i] = holds(i) ? 1 : 0;
      if (!chosen[i]) continue;
      selected++;
      counts.set(of[i], (counts.get(of[i]) || 0) + 1);
    }
    const largest = [...counts].sort((a, b) => b[1] - a[1]);
    const most = largest.filter(([k, count]) => 2 * count > clusters.get(k).points).map(([k]) => k);
    $("actions").hidden = !selected;
    $("actions").clusters = most;
    $("selected").textContent = selected ? `${number(selected)} of ${number(n)} images in ${number(counts.size)} cluster${counts.size > 1 ? "s" : ""} are selected.` : "No image is selected.";
    $("selected-clusters").replaceChildren(...largest.slice(0, 20).map(([k, count]) => {
      const item = document.createElement("li");
      item.textContent = `${clusters.get(k).title} #${k}: ${number(count)} of ${number(clusters.get(k).points)}`;
      return item;
    }));
    $("tagged").textContent = most.length
      ? `tags the ${number(most.length)} clusters of which more than half of the images on the map are selected`
      : "no cluster is selected by more than half, so that there is none to tag";
    $("actions").querySelector("[type=submit]").disabled = !most.length;
    paint();
  };
  const selectPath = () => {
    const [xs, ys] = [path.map(([x]) => x), path.map(([, y]) => y)];
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    select((i) => {
      const [x, y] = [places[2 * i] / 65535, places[2 * i + 1] / 65535];
      return x >= left && x <= right && y >= low && y <= high && inside(x, y);
    });
  };

  // Files to download.
  const download = (name, type, parts) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(parts, { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  };
  const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  $("csv").addEventListener("click", () => {
    const rows = ["key,image_shard,cluster,title\n"];
    for (let i = 0; i < n; i++) {
      if (chosen[i]) rows.push(`${cell(keys[i])},${cell(content.shards[shards[i]] ?? "")},${of[i]},${cell(clusters.get(of[i]).title)}\n`);
    }
    download("keys.csv", "text/csv", rows);
  });
  $("actions").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = JSON.stringify; // a JSON string is one of YAML
    const decisions = event.target.clusters.map((k) => {
      const { examples, title } = clusters.get(k);
      return `- action: tag\n  clusters:\n  - cluster: ${k}\n    members: ${text(examples)}\n    title: ${text(title)}\n  tag: ${text($("tag").value.trim())}\n  date: ${text(new Date().toISOString())}\n`;
    });
    download("decisions.yaml", "text/yaml", [`run: ${text(content.run)}\nstate: ${text(document.getElementById("actions").dataset.state)}\ndecisions:\n`, ...decisions]);
  });

  // Search.
  $("search").addEventListener("input", () => {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = ({ cluster, title }) => words.every((word) => `${title} #${cluster}`.toLowerCase().includes(word));
    matching = words.length ? new Set(content.clusters.filter(fits).map(({ cluster }) => cluster)) : null;
    $("found").textContent = `${matching ? `${number(matching.size)} of ` : ""}${number(clusters.size)} clusters`;
    paint();
  });
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  $("select").addEventListener("click", () => {
    path = [];
    select((i) => matching && matching.has(of[i]));
  });

  // Pointer, wheel and keys.
  const zoom = (factor, left = width / 2, top = height / 2) => {
    const [x, y] = toMap(left, top);
    view.side = Math.min(400 * width, Math.max(0.4 * Math.min(width, height), view.side * factor));
    view.x = x - (left - width / 2) / view.side;
    view.y = y - (top - height / 2) / view.side;
    draw();
  };
  const pan = (left, top) => {
    view.x -= left / view.side;
    view.y -= top / view.side;
    draw();
  };
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = $("lasso").checked || event.shiftKey ? "lasso" : "pan";
    if (drag === "lasso") path = [toMap(event.offsetX, event.offsetY)];
    canvas.setPointerCapture(event.pointerId);
    hover.hidden = true;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) show(event.offsetX, event.offsetY);
    else if (drag === "pan") pan(event.movementX, event.movementY);
    else {
      path.push(toMap(event.offsetX, event.offsetY));
      drawAbove();
    }
  });
  canvas.addEventListener("pointerup", () => {
    if (drag === "lasso") {
      if (path.length < 3) path = [];
      selectPath();
    }
    drag = null;
  });
  canvas.addEventListener("pointerleave", () => {
    hover.hidden = true;
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (moves[event.key]) pan(...moves[event.key]);
    else if (event.key === "+") zoom(1.6);
    else if (event.key === "-") zoom(0.625);
    else if (event.key === "0") {
      fit();
      draw();
    } else return;
    event.preventDefault();
  });
  document.addEventListener("theme", draw);
  new ResizeObserver(resize).observe(canvas);
  resize();
  $("search").disabled = false;
  $("found").textContent = `${number(clusters.size)} clusters`;
  paint();
  document.documentElement.dataset.ready = "";
})();
