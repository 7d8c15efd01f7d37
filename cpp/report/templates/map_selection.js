"use strict";
// The selected images of the page of the map: their clusters, their keys as CSV, and tags for the clusters.
(() => {
  const { $, number } = cpp;
  const LISTED = 20; // clusters

  // `select(holds)` selects the images for whose number `holds` is true, and calls `changed`.
  cpp.selectImages = ({ n, keys, clusterOf, shardOf, shards, clusters }, changed) => {
    const { decisions } = cpp;
    const chosen = new Uint8Array(n);
    let tagged = []; // the clusters of which more than half is selected

    const item = ([k, count]) => {
      const { title, points } = clusters.get(k);
      const link = Object.assign(document.createElement("a"), { href: `report.html#cluster-${k}`, textContent: title });
      link.dir = "auto";
      const result = document.createElement("li");
      result.append(link, ` #${k}: ${number(count)} of ${number(points)}`);
      return result;
    };
    const sentence = (images, of) =>
      `${number(images)} of ${number(n)} images in ${number(of)} cluster${of > 1 ? "s" : ""} ${images > 1 ? "are" : "is"} selected.`;
    const select = (holds) => {
      const counts = new Map();
      let images = 0;
      for (let i = 0; i < n; i++) {
        chosen[i] = holds(i) ? 1 : 0;
        if (!chosen[i]) continue;
        images++;
        counts.set(clusterOf[i], (counts.get(clusterOf[i]) ?? 0) + 1);
      }
      const largest = [...counts].sort((a, b) => b[1] - a[1]);
      tagged = largest.filter(([k, count]) => 2 * count > clusters.get(k).points).map(([k]) => k);
      $("selected").textContent = images ? sentence(images, counts.size) : "No image is selected.";
      $("selected-clusters").replaceChildren(...largest.slice(0, LISTED).map(item));
      const more = counts.size - LISTED;
      $("more-clusters").textContent = more > 0 ? `and ${number(more)} more cluster${more > 1 ? "s" : ""}` : "";
      $("actions").hidden = !images;
      $("notice").textContent = "";
      $("tagged").textContent = tagged.length
        ? `for the ${number(tagged.length)} cluster${tagged.length > 1 ? "s" : ""} of which more than half is selected`
        : "No cluster is selected by more than half, so there is none to tag.";
      $("actions").querySelector("[type=submit]").disabled = !tagged.length;
      selection.images = images;
      changed();
    };

    const csvLine = (i) => {
      const { title } = clusters.get(clusterOf[i]);
      return cpp.csvLine([clusterOf[i], title, keys[i], shards[shardOf[i]]]);
    };
    $("csv").addEventListener("click", () => {
      const rows = [cpp.csvLine(["cluster", "title", "key", "image_shard"])];
      for (let i = 0; i < n; i++) if (chosen[i]) rows.push(csvLine(i));
      cpp.download("keys.csv", "text/csv", rows);
    });
    $("actions").addEventListener("submit", (event) => {
      event.preventDefault();
      const tag = $("tag").value.trim();
      if (tag) $("notice").textContent = cpp.decide(tagged.map((k) => ({ action: "tag", clusters: [k], tag })));
    });

    // The decisions are those of the main page too.
    const show = () => {
      $("decided").hidden = !decisions.all().length && !decisions.canRedo();
      $("sum").textContent = decisions.sum();
      $("save").disabled = !decisions.all().length;
    };
    cpp.offerUndo();
    $("save").addEventListener("click", decisions.save);
    document.addEventListener("decided", show);
    show();

    const selection = { images: 0, has: (i) => chosen[i] === 1, select };
    return selection;
  };
})();
