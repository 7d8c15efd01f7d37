"use strict";
// The workbench: clusters are selected, and buttons and keys decide about them; a bar tells what was decided.
(() => {
  const { $, number, decisions } = cpp;
  if (!decisions) return; // a page without clusters
  const selected = new Set();
  let last; // the card that was selected last, where a range begins
  const card = (k) => cpp.byId.get(k)?.node;
  const id = (node) => Number(node.id.slice("cluster-".length));
  const title = (k) => card(k)?.querySelector("h3").textContent ?? `cluster ${k}`;
  const notice = (text) => {
    $("notice").textContent = text;
  };

  const mark = (node, on) => {
    node.classList.toggle("selected", on);
    node.querySelector(".pick").checked = on;
    selected[on ? "add" : "delete"](id(node));
  };
  const select = (numbers) => {
    for (const k of [...selected]) mark(card(k), false);
    for (const k of numbers) if (card(k)) mark(card(k), true);
    showBar();
  };
  const toggle = (node, range, on = !selected.has(id(node))) => {
    const shown = cpp.shown();
    const [a, b] = [shown.indexOf(last), shown.indexOf(node)].sort((p, q) => p - q);
    for (const one of range && a >= 0 ? shown.slice(a, b + 1) : [node]) mark(one, range || on);
    last = node;
    showBar();
  };

  const words = {
    rename: (d) => `renamed ${d.name}`, merge: (d) => `merged${d.name ? ` as ${d.name}` : ""}`, split: () => "to be split",
    drop: () => "dropped", tag: (d) => `tagged ${d.tag}`, not_member: (d) => `does not contain ${d.images.join(", ")}`,
  };
  const sums = { rename: "renamed", merge: "merged", split: "to be split", drop: "dropped", tag: "tagged", not_member: "picture removed" };
  const sentence = (d) => `${d.clusters.map((one) => one.title).join(" + ")}: ${words[d.action](d)}`;
  const sum = (all) => {
    const counts = Object.keys(sums).map((action) => [all.filter((d) => d.action === action).length, sums[action]]);
    const parts = counts.filter(([n]) => n).map(([n, text]) => `${number(n)} ${text}`);
    if (!parts.length) return "No decisions yet";
    return `Decided: ${parts.join(", ")}${decisions.saved() ? "" : decisions.stored() ? " (not saved as a file yet)" : " (this browser keeps nothing: save the file)"}`;
  };
  const showBar = () => {
    const all = decisions.all();
    $("chosen").textContent = selected.size ? `${number(selected.size)} cluster${selected.size > 1 ? "s" : ""} selected` : "No cluster is selected";
    $("sum").textContent = sum(all);
    $("bar").hidden = !selected.size && !all.length && !decisions.canRedo();
    for (const [act, on] of Object.entries({
      merge: selected.size > 1, clear: selected.size, undo: decisions.canUndo(), redo: decisions.canRedo(), save: all.length, copy: all.length,
      csv: selected.size,
    })) $("bar").querySelector(`[data-act="${act}"]`).disabled = !on;
    if ($("log").open) showLog();
  };
  const LISTED = 200; // decisions in the list, the last first
  const showLog = () => {
    const items = decisions.all().slice(-LISTED).reverse().map((decision) => {
      const item = document.createElement("li");
      const text = document.createElement("span");
      text.textContent = sentence(decision);
      text.dir = "auto";
      const reason = document.createElement("input");
      Object.assign(reason, { value: decision.reason ?? "", placeholder: "reason", dir: "auto" });
      reason.setAttribute("aria-label", `Reason: ${sentence(decision)}`);
      reason.addEventListener("change", () => decisions.change(decision, { ...decision, reason: reason.value.trim() }));
      const remove = document.createElement("button");
      Object.assign(remove, { type: "button", textContent: "Remove" });
      remove.setAttribute("aria-label", `Remove: ${sentence(decision)}`);
      remove.addEventListener("click", () => decisions.change(decision));
      item.append(text, reason, remove);
      return item;
    });
    $("log").querySelector("ol").replaceChildren(...items);
  };
  $("log").addEventListener("toggle", showLog);

  // Cards show what was decided about them.
  let touched = new Set();
  const showCards = () => {
    const effects = decisions.effects();
    for (const k of new Set([...touched, ...effects.keys()])) {
      const node = card(k);
      if (!node) continue;
      const one = effects.get(k);
      const others = [...(one?.group ?? [])].filter((other) => other !== k);
      const texts = one ? [
        one.name && `now ${one.name}`, others.length && `merged with ${others.map(title).join(", ")}`, one.split && "to be split",
        one.dropped && "dropped", ...[...one.tags].map((tag) => `tag: ${tag}`), one.images.size && `${one.images.size} not belonging`,
      ].filter(Boolean) : [];
      node.classList.toggle("dropped", Boolean(one?.dropped));
      let line = node.querySelector(".decided");
      if (!line && texts.length) {
        line = Object.assign(document.createElement("p"), { className: "decided", dir: "auto" });
        node.querySelector("header").append(line);
      }
      if (line) line.textContent = texts.join(" · ");
      if (line) line.hidden = !texts.length;
      for (const frame of one?.images.size || node.querySelector(".outsider") ? node.querySelectorAll("[data-key]") : []) {
        frame.classList.toggle("outsider", Boolean(one?.images.has(frame.dataset.key)));
      }
    }
    touched = new Set(effects.keys());
    cpp.tags = new Map([...effects].map(([k, one]) => [k, one.tags]));
    document.dispatchEvent(new Event("tags"));
  };
  document.addEventListener("decided", () => {
    showCards();
    showBar();
  });

  // A text and a reason from the reader; nothing if it was cancelled.
  const ask = (heading, text, required) => new Promise((done) => {
    $("ask-title").textContent = heading;
    $("ask-text").value = text;
    $("ask-text").required = required;
    $("ask-reason").value = "";
    $("ask").returnValue = "";
    $("ask").showModal();
    $("ask-text").select();
    $("ask").onclose = () => {
      const [answer, reason] = [$("ask-text").value.trim(), $("ask-reason").value.trim()];
      done($("ask").returnValue === "yes" && (answer || !required) ? { text: answer, ...(reason && { reason }) } : undefined);
    };
  });
  const download = (name, type, text) => {
    const link = Object.assign(document.createElement("a"), { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };
  const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const csv = (numbers) => {
    const rows = new Map();
    for (const k of numbers) {
      for (const { dataset } of card(k).querySelectorAll("[data-key]")) {
        rows.set(`${k} ${dataset.shard} ${dataset.key}`, [`${k}`, title(k), dataset.key, dataset.score, dataset.margin, dataset.shard]);
      }
      for (const { textContent } of card(k).querySelectorAll(".keys code")) rows.set(`${k} ${textContent}`, [`${k}`, title(k), textContent]);
    }
    return [["cluster", "title", "key", "score", "margin", "image_shard"], ...rows.values()]
      .map((row) => Array.from({ length: 6 }, (_, i) => cell(row[i] ?? "")).join(",")).join("\r\n") + "\r\n";
  };

  const chosen = () => (selected.size ? [...selected] : [...document.querySelectorAll(".card.here")].map(id));
  const each = (action, more = {}) => notice(cpp.decide(chosen().map((k) => ({ action, clusters: [k], ...more }))));
  const acts = {
    rename: async () => {
      const [k] = chosen();
      if (k === undefined || selected.size > 1) return notice("Select the one cluster to rename.");
      const answer = await ask(`Rename ${title(k)}`, decisions.effects().get(k)?.name ?? title(k), true);
      if (answer) notice(cpp.decide([{ action: "rename", clusters: [k], name: answer.text, ...(answer.reason && { reason: answer.reason }) }]));
    },
    merge: async () => {
      const numbers = chosen();
      if (numbers.length < 2) return notice("Select two or more clusters to merge.");
      const answer = await ask(`Merge ${numbers.length} clusters; a name, if you like`, "", false);
      if (answer) {
        const { text, reason } = answer;
        notice(cpp.decide([{ action: "merge", clusters: numbers, ...(text && { name: text }), ...(reason && { reason }) }]));
      }
    },
    tag: async () => {
      if (!chosen().length) return notice("Select the clusters to tag.");
      const answer = await ask(`Tag ${chosen().length === 1 ? title(chosen()[0]) : `${chosen().length} clusters`}`, "", true);
      if (answer) each("tag", { tag: answer.text, ...(answer.reason && { reason: answer.reason }) });
    },
    split: () => each("split"),
    drop: () => each("drop"),
    clear: () => select([]),
    undo: () => decisions.undo(),
    redo: () => decisions.redo(),
    csv: () => download("keys.csv", "text/csv", csv(chosen())),
    save: () => {
      download("decisions.yaml", "application/yaml", decisions.yaml());
      decisions.markSaved();
      showBar();
    },
    copy: async () => {
      try {
        await navigator.clipboard.writeText(decisions.yaml());
        notice("The text of decisions.yaml is in the clipboard.");
      } catch { // no permission
        $("text").querySelector("textarea").value = decisions.yaml();
        $("text").showModal();
        $("text").querySelector("textarea").select();
      }
    },
    help: () => $("help").showModal(),
  };
  const act = (name) => {
    notice("");
    if (!$("bar").querySelector(`[data-act="${name}"]`).disabled || (name === "csv" && chosen().length)) acts[name]();
  };
  for (const button of document.querySelectorAll("[data-act]")) button.addEventListener("click", () => act(button.dataset.act));

  // A click on the box or the free area of a card selects it.
  document.addEventListener("click", (event) => {
    const node = event.target.closest(".card");
    if (!node || event.defaultPrevented) return;
    if (event.shiftKey) getSelection().removeAllRanges(); // which the browser made up to here
    const box = event.target.closest(".pick");
    if (box) toggle(node, event.shiftKey, box.checked);
    else if (!event.target.closest("a, button, summary, input, [data-key]") && getSelection().isCollapsed) toggle(node, event.shiftKey);
  });
  const letters = { e: "rename", m: "merge", s: "split", d: "drop", t: "tag", u: "undo", U: "redo", S: "save", c: "csv", "?": "help" };
  addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    const outsider = document.querySelector("#viewer[open] [data-outsider]");
    if (event.key === "n" && outsider) outsider.click();
    if (document.querySelector("dialog[open]")) return;
    const here = document.querySelector(".card.here");
    if (event.key in letters) {
      event.preventDefault();
      act(letters[event.key]);
    } else if ((event.key === "x" || event.key === "X") && here) toggle(here, event.key === "X");
    else if (event.key === "Escape" && !document.querySelector(".card.open")) select([]);
  });

  // An enlarged picture of a cluster can be marked as not belonging to it.
  const outsider = document.createElement("button");
  outsider.type = "button";
  outsider.dataset.outsider = "";
  let viewed;
  document.addEventListener("viewed", ({ detail }) => {
    viewed = detail;
    const node = viewed.closest(".card");
    outsider.textContent = viewed.classList.contains("outsider") ? "Marked: does not belong" : "Does not belong (n)";
    outsider.disabled = viewed.classList.contains("outsider");
    if (node) $("viewer").querySelector(".buttons").append(outsider);
    else outsider.remove();
  });
  outsider.addEventListener("click", () => {
    notice(cpp.decide([{ action: "not_member", clusters: [id(viewed.closest(".card"))], images: [viewed.dataset.key] }]));
    cpp.view(viewed);
  });

  // A reader who leaves with decisions that are in no file is asked first, except on the way to another page of the run.
  let within = false;
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href]");
    within = Boolean(link && decisions.stored());
  }, true);
  addEventListener("beforeunload", (event) => {
    if (!decisions.saved() && !within) event.preventDefault();
  });

  Object.assign(cpp, { select });
  showCards();
  showBar();
})();
