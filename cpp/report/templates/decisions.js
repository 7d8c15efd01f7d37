"use strict";
// The decisions about clusters: a log of steps, each of one or more decisions, with undo and redo. Knows no buttons.
(() => {
  const { $, number, remembered } = cpp;
  const data = $("workbench-data");
  if (!data) return; // a page without clusters
  const { run, state, clusters } = JSON.parse(data.textContent);
  const key = `cpp-decisions ${run} ${state}`;
  let steps = [];
  let past = []; // for each act that can be undone, the steps before it; null if it added the last step
  let future = []; // the steps after each act that was undone
  let saved = true; // as a file
  const entries = new Map(Object.entries(clusters).map(([k, entry]) => [Number(k), entry]));

  // The browser keeps the decisions with titles and members of their clusters, which other pages of the run may lack.
  // Writing thousands takes long, so it waits for the end of the act; a page that is left writes at once.
  let stored = true;
  let waiting = 0;
  const store = () => {
    clearTimeout(waiting);
    if (!waiting) return stored;
    waiting = 0;
    const numbers = new Set(steps.flatMap((step) => step.flatMap((decision) => decision.clusters)));
    const text = JSON.stringify({ steps, clusters: [...numbers].map((k) => [k, entries.get(k)]) });
    const before = stored;
    stored = remembered(key, text) === text;
    if (stored !== before) document.dispatchEvent(new Event("decided"));
    return stored;
  };
  const load = () => {
    clearTimeout(waiting);
    waiting = 0;
    let content = {};
    try {
      content = JSON.parse(remembered(key) ?? "{}");
    } catch {} // another program's value
    steps = content.steps ?? [];
    for (const [k, entry] of content.clusters ?? []) entries.set(k, entry);
    [past, future, saved] = [steps.map(() => null), [], steps.length === 0];
  };
  const keep = (log) => {
    steps = log;
    saved = steps.length === 0;
    clearTimeout(waiting);
    waiting = setTimeout(store, 300);
    document.dispatchEvent(new Event("decided"));
  };

  // What holds after all decisions, by cluster: its name, tags, pictures that do not belong, and what becomes of it.
  const apply = (result, step) => {
    const effect = (k) => {
      if (!result.has(k)) result.set(k, { group: new Set([k]), tags: new Set(), images: new Set() });
      return result.get(k);
    };
    for (const { action, clusters: numbers, name, tag, images } of step) {
      const named = numbers.map(effect);
      if (action === "merge") {
        const group = new Set(named.flatMap((one) => [...one.group]));
        for (const k of group) Object.assign(effect(k), { group }, name && { name });
      }
      for (const k of named[0].group) {
        const one = effect(k);
        if (action === "rename") one.name = name;
        if (action === "split") one.split = true;
        if (action === "drop") one.dropped = true;
        if (action === "tag") one.tags.add(tag);
      }
      if (action === "not_member") images.forEach((image) => named[0].images.add(image));
    }
  };
  let applied = { log: steps, result: new Map() };
  const effects = () => {
    if (applied.log !== steps) {
      applied = { log: steps, result: new Map() };
      for (const step of steps) apply(applied.result, step);
    }
    return applied.result;
  };

  // Why a decision cannot stand beside those before it; empty if it can.
  const objection = ({ action, clusters: numbers }, now) => {
    const named = numbers.map((k) => now.get(k)).filter(Boolean);
    const [split, dropped] = [named.some((one) => one.split), named.some((one) => one.dropped)];
    const merged = named.some((one) => one.group.size > 1);
    if (action === "merge" && split)
      return "A cluster that is marked for splitting cannot be merged. Undo the split first.";
    if (action === "merge" && dropped) return "A dropped cluster cannot be merged. Undo the drop first.";
    if (action === "split" && merged) return "A merged cluster cannot be split in the same file. Undo the merge first.";
    if (action === "split" && dropped) return "A dropped cluster cannot be split. Undo the drop first.";
    if (action === "drop" && split)
      return "A cluster that is marked for splitting cannot be dropped. Undo the split first.";
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
    const step = decisions.filter((decision) => !repeated(decision, now)).map((decision) => ({ ...decision, date }));
    const reason = step.map((decision) => objection(decision, now)).find(Boolean);
    if (reason || !step.length) return reason ?? "";
    past.push(null);
    future = [];
    const log = [...steps, step];
    apply(now, step);
    applied = { log, result: now };
    keep(log);
    return "";
  };
  const undo = () => {
    if (!past.length) return;
    future.push(steps);
    keep(past.pop() ?? steps.slice(0, -1));
  };
  const redo = () => {
    if (!future.length) return;
    past.push(steps);
    keep(future.pop());
  };
  // Put others in the place of a decision; without others, it is removed.
  const change = (decision, ...others) => {
    past.push(steps);
    future = [];
    const log = steps.map((step) => step.flatMap((one) => (one === decision ? others : [one])));
    keep(log.filter((step) => step.length));
  };

  const all = () => steps.flat();

  // A sentence about all decisions.
  const sums = {
    rename: "renamed",
    merge: "merged",
    split: "to be split",
    drop: "dropped",
    tag: "tagged",
    not_member: "picture removed",
  };
  const sum = () => {
    const counts = {};
    for (const { action } of all()) counts[action] = (counts[action] ?? 0) + 1;
    const parts = Object.entries(sums).filter(([action]) => counts[action]);
    if (!parts.length) return "No decisions yet";
    const text = parts.map(([action, done]) => `${number(counts[action])} ${done}`).join(", ");
    const kept = stored ? "not saved as a file yet" : "this browser keeps nothing: save the file";
    return `Decided: ${text}${saved ? "" : ` (${kept})`}`;
  };
  const yaml = () => cpp.decisionsYaml(run, state, all(), (k) => entries.get(k));
  const save = () => {
    cpp.download("decisions.yaml", "application/yaml", [yaml()]);
    saved = true;
    document.dispatchEvent(new Event("decided"));
  };

  // Another page of the run may have changed what is stored: in another tab, or before the reader came back here.
  const reload = () => {
    load();
    document.dispatchEvent(new Event("decided"));
  };
  load();
  addEventListener("pagehide", store);
  addEventListener("pageshow", (event) => {
    if (event.persisted && stored) reload();
  });
  addEventListener("storage", (event) => {
    if (event.key === key) reload();
  });

  Object.assign(cpp, {
    decide,
    decisions: {
      all,
      effects,
      change,
      undo,
      redo,
      store,
      title: (k) => entries.get(k)?.title ?? `cluster ${k}`,
      yaml,
      sum,
      save,
      canUndo: () => past.length > 0,
      canRedo: () => future.length > 0,
      saved: () => saved,
    },
  });
})();
