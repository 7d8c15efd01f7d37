"use strict";
// The workbench: buttons and keys that decide about the chosen clusters, and save the decisions.
(() => {
  const { $, decisions, chosen } = cpp;
  if (!decisions) return; // a page without clusters
  const { title } = decisions;
  const notice = (text) => {
    $("notice").textContent = text;
    if (text) $("bar").hidden = false;
  };

  // A text and a reason from the reader; nothing if the question was cancelled.
  const ask = (heading, text, required) =>
    new Promise((done) => {
      $("ask-title").textContent = heading;
      $("ask-text").value = text;
      $("ask-text").required = required;
      $("ask-reason").value = "";
      $("ask").returnValue = "";
      $("ask").showModal();
      $("ask-text").select();
      $("ask").onclose = () => {
        const [answer, reason] = [$("ask-text").value.trim(), $("ask-reason").value.trim()];
        const agreed = $("ask").returnValue === "yes" && (answer || !required);
        done(agreed ? { text: answer, why: reason ? { reason } : {} } : undefined);
      };
    });

  const csv = (numbers) => {
    const rows = new Map();
    for (const k of numbers) {
      const { node } = cpp.byId.get(k);
      for (const { dataset } of node.querySelectorAll("[data-key]")) {
        const { key, score, margin, shard } = dataset;
        rows.set(`${k} ${shard} ${key}`, [k, title(k), key, score, margin, shard]);
      }
      for (const { textContent } of node.querySelectorAll(".keys code"))
        rows.set(`${k} ${textContent}`, [k, title(k), textContent, "", "", ""]);
    }
    return [["cluster", "title", "key", "score", "margin", "image_shard"], ...rows.values()].map(cpp.csvLine);
  };

  const each = (action, more = {}) => notice(cpp.decide(chosen().map((k) => ({ action, clusters: [k], ...more }))));
  const acts = {
    rename: async () => {
      const [k, second] = chosen();
      if (k === undefined || second !== undefined) return notice("Select the one cluster to rename.");
      const answer = await ask(`Rename ${title(k)}`, decisions.effects().get(k)?.name ?? title(k), true);
      if (answer) notice(cpp.decide([{ action: "rename", clusters: [k], name: answer.text, ...answer.why }]));
    },
    merge: async () => {
      const clusters = chosen();
      if (clusters.length < 2) return notice("Select two or more clusters to merge.");
      const answer = await ask(`Merge ${clusters.length} clusters; a name, if you like`, "", false);
      if (!answer) return;
      const name = answer.text ? { name: answer.text } : {};
      notice(cpp.decide([{ action: "merge", clusters, ...name, ...answer.why }]));
    },
    tag: async () => {
      const clusters = chosen();
      if (!clusters.length) return notice("Select the clusters to tag.");
      const what = clusters.length === 1 ? title(clusters[0]) : `${clusters.length} clusters`;
      const answer = await ask(`Tag ${what}`, "", true);
      if (answer) each("tag", { tag: answer.text, ...answer.why });
    },
    split: () => each("split"),
    drop: () => each("drop"),
    clear: () => cpp.select([]),
    csv: () => cpp.download("keys.csv", "text/csv", csv(chosen())),
    save: decisions.save,
    copy: async () => {
      try {
        await navigator.clipboard.writeText(decisions.yaml());
        notice("The text of decisions.yaml is in the clipboard.");
      } catch {
        // no permission
        $("text").querySelector("textarea").value = decisions.yaml();
        $("text").showModal();
        $("text").querySelector("textarea").select();
      }
    },
    help: () => cpp.openDialog($("help")),
  };
  const act = (name) => {
    notice("");
    const { disabled } = $("bar").querySelector(`[data-act="${name}"]`);
    if (!disabled || (name === "csv" && chosen().length)) acts[name]();
  };
  for (const button of document.querySelectorAll("[data-act]"))
    button.addEventListener("click", () => act(button.dataset.act));

  const letters = {
    e: "rename",
    m: "merge",
    s: "split",
    d: "drop",
    t: "tag",
    S: "save",
    c: "csv",
    "?": "help",
  };
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || cpp.isTyping(event)) return;
    const outsider = document.querySelector("#viewer[open] [data-outsider]");
    if (event.key === "n" && outsider) outsider.click();
    if (document.querySelector("dialog[open]")) return;
    const here = document.querySelector(".card.here");
    if (event.key in letters) {
      event.preventDefault();
      act(letters[event.key]);
    } else if ((event.key === "x" || event.key === "X") && here) cpp.toggle(here, event.key === "X");
    else if (event.key === "Escape") cpp.select([]);
  });

  // An enlarged picture of a cluster can be marked as not belonging to it.
  const outsider = Object.assign(document.createElement("button"), { type: "button" });
  outsider.dataset.outsider = "";
  let viewed;
  document.addEventListener("viewed", ({ detail }) => {
    viewed = detail;
    const marked = viewed.classList.contains("outsider");
    outsider.textContent = marked ? "Marked: does not belong" : "Does not belong (n)";
    outsider.ariaDisabled = marked; // a button that is disabled, or moved, would lose the focus
    if (!viewed.closest(".card")) outsider.remove();
    else if (!outsider.isConnected) $("viewer").querySelector(".buttons").append(outsider);
  });
  outsider.addEventListener("click", () => {
    const cluster = Number(viewed.closest(".card").id.slice("cluster-".length));
    notice(cpp.decide([{ action: "not_member", clusters: [cluster], images: [viewed.dataset.key] }]));
    cpp.view(viewed);
  });

  cpp.offerUndo();
  document.dispatchEvent(new Event("decided")); // those that the browser kept
})();
