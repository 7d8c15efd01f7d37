"use strict";
// The script of the pages: theme, search and filter, keys, folding, the map. The text can be read without it.
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

  // Search, sort and filter: the list holds the matching cards in order.
  const list = $("cards");
  if (!list) return; // a page without clusters
  const cards = [...list.children].map((node) => ({
    node,
    id: Number(node.id.slice("cluster-".length)),
    words: node.dataset.words,
    size: Number(node.dataset.size),
    sure: Number(node.dataset.sure),
    status: node.dataset.status,
    wary: "wary" in node.dataset,
  }));
  const byId = new Map(cards.map((card) => [card.id, card]));
  const orders = {
    size: (a, b) => b.size - a.size || a.id - b.id,
    small: (a, b) => a.size - b.size || a.id - b.id,
    sure: (a, b) => b.sure - a.sure || a.id - b.id,
    doubt: (a, b) => a.sure - b.sure || a.id - b.id,
    name: (a, b) => (a.words < b.words ? -1 : Number(a.words > b.words)),
    number: (a, b) => a.id - b.id,
  };
  const fits = (asked) => (card) =>
    asked.words.every((word) => card.words.includes(word)) &&
    card.size >= asked.least &&
    (asked.most >= 100 || 100 * card.sure <= asked.most) &&
    (!asked.status || card.status === asked.status) &&
    (!asked.wary || card.wary);
  const update = () => {
    const asked = {
      words: $("search").value.toLowerCase().split(/\s+/).filter(Boolean),
      least: Number($("least").value),
      most: $("most").value === "" ? 100 : Number($("most").value),
      status: $("status")?.value,
      wary: Boolean($("wary")?.checked),
    };
    shown = cards.filter(fits(asked)).sort(orders[$("sort").value]);
    list.replaceChildren();
    more();
    $("none").hidden = shown.length > 0;
    const part = shown.length < cards.length ? `${number(shown.length)} of ` : "";
    $("found").textContent = `${part}${number(cards.length)} clusters`;
  };
  // The list grows as the reader scrolls: a browser lays out hundreds of cards at once, but not thousands.
  let shown = cards;
  const more = (until = list.childElementCount + 60) => {
    list.append(...shown.slice(list.childElementCount, until).map((card) => card.node));
    near.unobserve($("end"));
    near.observe($("end")); // check again: on a tall screen the end may still be near
  };
  // It does not grow while its end is in the upper half of the screen: the reader is then at what follows the list.
  const near = new IntersectionObserver((seen) => {
    if (seen.at(-1).isIntersecting && list.childElementCount < shown.length) more();
  }, { rootMargin: "-50% 0px 2000px" });
  if ($("end")) near.observe($("end"));
  if ($("tools")) {
    $("tools").addEventListener("input", update);
    $("tools").addEventListener("submit", (event) => event.preventDefault());
    $("reset").addEventListener("click", () => {
      $("tools").reset();
      update();
    });
    if (cards.length > 200 || $("search").value || $("sort").value !== "size") update(); // the browser may have kept the form
  }

  // A link to a cluster works with any filter, and leads to another page if the cluster is not on this one.
  const arrive = () => {
    const found = /^#cluster-(\d+)$/.exec(location.hash);
    if (!found) return;
    const card = byId.get(Number(found[1]));
    if (!card && $("tools")) {
      const page = Math.floor(Number(found[1]) / Number(list.dataset.of));
      location.replace(`pages/clusters-${String(page).padStart(5, "0")}.html${location.hash}`);
    } else if (card && !card.node.isConnected) {
      if (!shown.includes(card)) {
        $("tools").reset();
        update();
      }
      more(shown.indexOf(card) + 20);
      location.replace(location.hash); // the browser now keeps the card in view while the cards above it are laid out
    }
    if (card) go(card.node);
  };
  const go = (node) => {
    document.querySelector(".card.here")?.classList.remove("here");
    node.classList.add("here");
    node.scrollIntoView({ block: "start" });
    node.querySelector("h3 a").focus({ preventScroll: true });
  };
  addEventListener("hashchange", arrive);
  document.addEventListener("click", (event) => { // a link to the current hash fires no hashchange
    if (event.target.closest("a")?.getAttribute("href") === location.hash) arrive();
  });
  arrive();

  // Keys: / searches, j and k go from card to card, a shows attention.
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "Escape" && event.target === $("search")) {
      $("search").value = "";
      update();
    } else if (event.key === "/" && !typing && $("search")) {
      event.preventDefault();
      $("search").focus();
    } else if (event.key === "a" && !typing) {
      $("attention")?.click();
    } else if ((event.key === "j" || event.key === "k") && !typing) {
      const here = shown.findIndex((card) => card.node.classList.contains("here"));
      const next = shown[Math.min(shown.length - 1, Math.max(0, here + (event.key === "j" ? 1 : -1)))];
      if (next && !next.node.isConnected) more();
      if (next) go(next.node);
    }
  });
  for (const button of document.querySelectorAll("[data-fold]")) {
    button.addEventListener("click", () => {
      for (const part of document.querySelectorAll(".tree details")) part.open = button.dataset.fold === "open";
    });
  }

  // The map: points on a canvas, with names as far as they fit.
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
    return `oklch(${theme === "dark" ? 0.72 : 0.58} ${i % 2 ? 0.11 : 0.16} ${hues[i]})`;
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
      pen.strokeStyle = theme === "dark" ? "#191f26" : "#fff";
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
    if (hash === location.hash) arrive();
    else location.hash = hash;
  });
  canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => point(-99, -99));
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas && !event.ctrlKey) return; // without focus the wheel scrolls the page
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), ...at(event));
  }, { passive: false });
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
