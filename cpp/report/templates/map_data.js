"use strict";
// The data of the page of the map: images with their places and clusters, and the image nearest to a place.
(() => {
  const CELLS = 256; // of a side of the grid that finds the nearest image

  const read = async (name, decode) => {
    try {
      const bytes = Uint8Array.from(atob(cpp.$(`data-${name}`)?.textContent ?? ""), (letter) => letter.charCodeAt(0));
      return await decode(new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))));
    } catch (cause) {
      throw new Error(`block “${name}”`, { cause });
    }
  };
  const json = (name) => read(name, (response) => response.json());
  const numbers = (name, type) => read(name, async (response) => new type(await response.arrayBuffer()));

  // A function that returns the number of the image nearest to a place within `reach`; -1 without one. All are in the
  // unit of the places, 65,535 for the side of the map.
  const grid = (places, n) => {
    const cellOf = (i) => (places[2 * i] >> 8) * CELLS + (places[2 * i + 1] >> 8);
    const starts = new Uint32Array(CELLS * CELLS + 1);
    for (let i = 0; i < n; i++) starts[cellOf(i) + 1]++;
    for (let c = 0; c < CELLS * CELLS; c++) starts[c + 1] += starts[c];
    const next = starts.slice();
    const byCell = new Uint32Array(n);
    for (let i = 0; i < n; i++) byCell[next[cellOf(i)]++] = i;
    const cell = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor(value) >> 8));
    return (x, y, reach) => {
      let [best, least] = [-1, reach * reach];
      for (let a = cell(x - reach); a <= cell(x + reach); a++) {
        for (let c = starts[a * CELLS + cell(y - reach)]; c < starts[a * CELLS + cell(y + reach) + 1]; c++) {
          const i = byCell[c];
          const far = (places[2 * i] - x) ** 2 + (places[2 * i + 1] - y) ** 2;
          if (far < least) [best, least] = [i, far];
        }
      }
      return best;
    };
  };

  // Of each image, its `keys`, its place in `places` (x and y), the number of its cluster in `clusterOf`, and that of its
  // shard in `shardOf`; `clusters` by number, the largest first.
  cpp.readMap = async () => {
    if (!window.DecompressionStream)
      throw new cpp.BrowserError("this browser is too old to read its data: update it, or use another browser");
    // The blocks follow the script, so that it also runs in a file that was cut off.
    if (document.readyState === "loading")
      await new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
    const content = await json("content");
    const keys = await json("keys");
    const places = await numbers("places", Uint16Array);
    return {
      keys,
      places,
      n: keys.length,
      clusterOf: await numbers("clusters", Int32Array),
      shardOf: await numbers("shards", Int32Array),
      shards: content.shards,
      pictures: content.pictures,
      clusters: new Map(content.clusters.map((cluster) => [cluster.cluster, cluster])),
      nearest: grid(places, keys.length),
    };
  };
})();
