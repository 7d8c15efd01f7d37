"use strict";
// The list of clusters: views, search, sort, filters, links to a cluster, and keys that go from cluster to cluster.
(() => {
  const { $, number } = cpp;
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
    unsettled: Number(node.dataset.unsettled),
    tags: JSON.parse(node.dataset.tags ?? "[]"),
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
    (!asked.wary || card.wary) &&
    100 * card.unsettled >= asked.margin &&
    (!asked.tag || card.tags.includes(asked.tag) || Boolean(decided().get(card.id)?.tags.has(asked.tag))) &&
    (!asked.caption || captions(card).includes(asked.caption));
  const decided = () => cpp.decisions.effects(); // by cluster, what was decided on the page
  const alts = (node) => [...node.querySelectorAll("img")].map((image) => image.alt.toLowerCase());
  const captions = (card) => (card.captions ??= alts(card.node).join("\n"));
  const matching = () => {
    const asked = {
      words: $("search").value.toLowerCase().split(/\s+/).filter(Boolean),
      least: Number($("least").value),
      most: $("most").value === "" ? 100 : Number($("most").value),
      status: $("status")?.value,
      wary: Boolean($("wary")?.checked),
      margin: Number($("margin").value),
      caption: $("caption").value.trim().toLowerCase(),
      tag: $("tag").value,
    };
    return cards.filter(fits(asked)).sort(orders[$("sort").value]);
  };
  const update = () => {
    shown = matching();
    list.replaceChildren();
    more();
    $("none").hidden = shown.length > 0;
    const part = shown.length < cards.length ? `${number(shown.length)} of ` : "";
    $("found").textContent = `${part}${number(cards.length)} clusters`;
  };
  const reset = () => {
    $("tools").reset();
    $("view").value = list.dataset.view;
  };
  // The list grows as the reader scrolls: a browser lays out hundreds of cards at once, but not thousands.
  let shown = cards;
  const more = (until = list.childElementCount + 60) => {
    const nodes = shown.slice(list.childElementCount, until).map((card) => card.node);
    list.append(...nodes);
    document.dispatchEvent(new CustomEvent("listed", { detail: nodes }));
    near.unobserve($("end"));
    near.observe($("end")); // check again: on a tall screen the end may still be near
  };
  // It does not grow while its end is in the upper half of the screen: the reader is then at what follows the list.
  const near = new IntersectionObserver(
    (seen) => {
      if (seen.at(-1).isIntersecting && list.childElementCount < shown.length) more();
    },
    { rootMargin: "-50% 0px 2000px" },
  );
  if ($("end")) near.observe($("end"));
  if ($("tools")) {
    $("tools").addEventListener("input", update);
    $("tools").addEventListener("submit", (event) => event.preventDefault());
    $("reset").addEventListener("click", () => {
      reset();
      update();
    });
    if (cards.length > 200) update();
    addEventListener("pageshow", () => {
      // by now a browser that goes back has filled in the form as it was
      const kept = matching();
      if (kept.length !== shown.length || kept.some((card, i) => card !== shown[i])) update();
    });
  }

  // The tags of the run, and those that were decided on the page.
  document.addEventListener("decided", () => {
    if (!$("tag")) return;
    const tags = new Set(cards.flatMap((card) => card.tags));
    for (const effect of decided().values()) for (const tag of effect.tags) tags.add(tag);
    const value = tags.has($("tag").value) ? $("tag").value : "";
    $("tag").replaceChildren(...["", ...[...tags].sort()].map((tag) => new Option(tag || "any", tag)));
    $("tag").value = value;
  });

  // A cluster in a list of tiles or rows opens to its whole card; one at a time.
  const closing = document.createElement("button");
  Object.assign(closing, { type: "button", textContent: "Close", className: "closing" });
  let opened = null; // which a filter may have taken out of the list, as `here`
  const open = (node) => {
    opened?.classList.remove("open");
    opened = null;
    closing.remove();
    if (!node || list.dataset.view === "cards") return;
    opened = node;
    node.classList.add("open");
    node.querySelector("header").append(closing);
  };
  document.addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (event.target === closing) {
      open(null);
      go(card);
    } else if (
      card &&
      list.dataset.view === "tiles" &&
      !card.classList.contains("open") &&
      event.target.closest("[data-key]")
    ) {
      event.preventDefault(); // the picture of a tile is not enlarged
      open(card);
      go(card);
    }
  });
  $("view")?.addEventListener("change", () => {
    open(null);
    list.dataset.view = cpp.remembered("cpp-view", $("view").value) ?? $("view").value;
  });
  if ($("view")) list.dataset.view = $("view").value = cpp.remembered("cpp-view") ?? list.dataset.view;

  // A link to a cluster works with any filter, and leads to another page if the cluster is not on this one.
  const arrive = () => {
    const [, cluster] = /^#cluster-(\d+)$/.exec(location.hash) ?? [];
    if (cluster === undefined) return;
    const card = byId.get(Number(cluster));
    if (!card && Number(cluster) < Number(list.dataset.clusters)) {
      const page = Math.floor(Number(cluster) / Number(list.dataset.of));
      document.dispatchEvent(new Event("leaving"));
      location.replace(`pages/clusters-${String(page).padStart(5, "0")}.html${location.hash}`);
    } else if (card && !card.node.isConnected) {
      if (!shown.includes(card)) {
        reset();
        update();
      }
      more(shown.indexOf(card) + 20);
      location.replace(location.hash); // the browser now keeps the card in view while the cards above it are laid out
    }
    if (!card) return;
    open(card.node);
    go(card.node);
  };
  let here = null; // the cluster that the reader went to
  const go = (node) => {
    here?.classList.remove("here");
    here = node;
    node.classList.add("here");
    node.scrollIntoView({ block: "start" });
    node.querySelector("h3 a").focus({ preventScroll: true });
  };
  addEventListener("hashchange", arrive);
  document.addEventListener("click", (event) => {
    // a link to the current hash fires no hashchange
    if (event.target.closest("a")?.getAttribute("href") === location.hash) arrive();
  });
  arrive();

  // Keys: / searches, j and k go from card to card, a shows attention.
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = cpp.isTyping(event);
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape" && event.target === $("search")) {
      $("search").value = "";
      update();
    } else if (event.key === "/" && !typing && $("search")) {
      event.preventDefault();
      $("search").focus();
    } else if (event.key === "Escape" && closing.isConnected) {
      event.preventDefault(); // the selection stays
      closing.click();
    } else if ((event.key === "o" || event.key === "v") && !typing) {
      const node = here?.isConnected ? here : null;
      const picture = node?.querySelector("[data-key]");
      if (event.key === "o" && node) open(node === opened ? null : node);
      else if (event.key === "v" && picture) cpp.view(picture);
    } else if (event.key === "a" && !typing) {
      $("attention")?.click();
    } else if ((event.key === "j" || event.key === "k") && !typing) {
      const i = shown.findIndex((card) => card.node === here) + (event.key === "j" ? 1 : -1);
      const next = shown[Math.min(shown.length - 1, Math.max(0, i))];
      if (next && !next.node.isConnected) more(shown.indexOf(next) + 20);
      if (next) go(next.node);
    }
  });

  Object.assign(cpp, { arrive, byId, shown: () => shown.map((card) => card.node) });
})();
