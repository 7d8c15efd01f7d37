"use strict";
// The decisions about clusters: a log of steps, each of one or more decisions, with undo and redo. Knows no buttons.
(() => {
  const { $, remembered } = cpp;
  const data = $("workbench-data");
  if (!data) return; // a page without clusters
  const { run, state, clusters } = JSON.parse(data.textContent);
  const key = `cpp-decisions ${run} ${state}`;
  let [steps, past, future, saved, stored] = [[], [], [], true, true];

  const copies = (log) => log.map((_, i) => log.slice(0, i)); // what undo goes back to after a reload
  const load = () => {
    try {
      steps = JSON.parse(remembered(key) ?? "[]");
    } catch {
      steps = [];
    }
    [past, future, saved] = [copies(steps), [], steps.length === 0];
  };
  const keep = (log) => {
    steps = log;
    saved = steps.length === 0;
    stored = remembered(key, JSON.stringify(steps)) === JSON.stringify(steps);
    document.dispatchEvent(new Event("decided"));
  };

  // What holds after all decisions, by cluster: its name, tags, pictures that do not belong, and what becomes of it.
  const effects = () => {
    const result = new Map();
    const effect = (k) => {
      if (!result.has(k)) result.set(k, { group: new Set([k]), tags: new Set(), images: new Set() });
      return result.get(k);
    };
    for (const { action, clusters: named, name, tag, images } of steps.flat()) {
      const of = named.map((entry) => effect(entry.cluster));
      if (action === "merge") {
        const group = new Set(of.flatMap((one) => [...one.group]));
        for (const k of group) Object.assign(effect(k), { group }, name && { name });
      }
      const whole = [...of[0].group].map(effect);
      for (const one of whole) {
        if (action === "rename") one.name = name;
        if (action === "split") one.split = true;
        if (action === "drop") one.dropped = true;
        if (action === "tag") one.tags.add(tag);
      }
      if (action === "not_member") images.forEach((image) => of[0].images.add(image));
    }
    return result;
  };

  // Why a decision cannot stand beside those before it; empty if it can.
  const objection = ({ action, clusters: numbers }, now) => {
    const of = numbers.map((k) => now.get(k)).filter(Boolean);
    if (action === "merge" && of.some((one) => one.split)) return "A cluster that is marked for splitting cannot be merged. Undo the split first.";
    if (action === "merge" && of.some((one) => one.dropped)) return "A dropped cluster cannot be merged. Undo the drop first.";
    if (action === "split" && of.some((one) => one.group.size > 1)) return "A merged cluster cannot be split in the same file. Undo the merge first.";
    if (action === "split" && of.some((one) => one.dropped)) return "A dropped cluster cannot be split. Undo the drop first.";
    if (action === "drop" && of.some((one) => one.split)) return "A cluster that is marked for splitting cannot be dropped. Undo the split first.";
    return "";
  };
  const repeated = ({ action, clusters: [k], tag, images }, now) => {
    const one = now.get(k);
    if (!one) return false;
    if (action === "tag") return one.tags.has(tag);
    if (action === "not_member") return images.every((image) => one.images.has(image));
    return Boolean((action === "split" && one.split) || (action === "drop" && one.dropped));
  };

  // Add decisions as one step. Each has an `action`, cluster numbers, and what the action needs. Returns an objection.
  const decide = (decisions) => {
    const now = effects();
    const date = `${new Date().toISOString().slice(0, 19)}Z`;
    const step = decisions.filter((decision) => !repeated(decision, now));
    const reason = step.map((decision) => objection(decision, now)).find(Boolean);
    if (reason || !step.length) return reason ?? "";
    past.push(steps);
    future = [];
    const entry = (cluster) => ({ cluster, ...clusters[cluster] });
    keep([...steps, step.map((decision) => ({ ...decision, clusters: decision.clusters.map(entry), date }))]);
    return "";
  };
  const turn = (from, to) => {
    if (!from.length) return;
    to.push(steps);
    keep(from.pop());
  };
  const change = (decision, other) => { // replace a decision, or remove it
    past.push(steps);
    future = [];
    const log = steps.map((step) => step.flatMap((one) => (one !== decision ? [one] : other ? [other] : [])));
    keep(log.filter((step) => step.length));
  };

  // decisions.yaml: every text is a JSON string, which YAML reads as it is once these characters are escaped.
  const quote = (text) => JSON.stringify(text).replace(
    /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g,
    (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  const list = (texts) => `[${texts.map(quote).join(", ")}]`;
  const lines = ({ action, clusters: named, images, ...texts }) => [
    `- action: ${action}`,
    "  clusters:",
    ...named.flatMap(({ cluster, members, title }) => [
      `  - cluster: ${cluster}`, `    members: ${list(members)}`, `    title: ${quote(title)}`,
    ]),
    ...(images ? [`  images: ${list(images)}`] : []),
    ...["name", "tag", "reason", "date"].filter((name) => texts[name]).map((name) => `  ${name}: ${quote(texts[name])}`),
  ];
  const yaml = () => `${[`run: ${quote(run)}`, `state: ${quote(state)}`, "decisions:", ...steps.flat().flatMap(lines)].join("\n")}\n`;

  load();
  addEventListener("storage", (event) => { // another page of this run
    if (event.key !== key) return;
    load();
    document.dispatchEvent(new Event("decided"));
  });

  Object.assign(cpp, {
    decide,
    decisions: {
      all: () => steps.flat(), effects, change, yaml,
      undo: () => turn(past, future), redo: () => turn(future, past),
      canUndo: () => past.length > 0, canRedo: () => future.length > 0,
      saved: () => saved, stored: () => stored, markSaved: () => { saved = true; },
    },
  });
})();
