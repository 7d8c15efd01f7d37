"use strict";
// The files that a page offers for download: a list of keys as CSV, and decisions.yaml.
(() => {
  const download = (name, type, parts) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(parts, { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  };

  const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const csvLine = (values) => `${values.map((value) => cell(String(value ?? ""))).join(",")}\r\n`;

  // Every text in decisions.yaml is a JSON string, which YAML reads unchanged once these characters are escaped.
  const quote = (text) =>
    JSON.stringify(text).replace(
      /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g,
      (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
  const list = (texts) => `[${texts.map(quote).join(", ")}]`;

  const TEXTS = ["name", "tag", "reason", "date"]; // of a decision

  // A function that computes the value of an argument once: thousands of decisions share a cluster, a tag or a date.
  const once = (compute) => {
    const values = new Map();
    return (argument) => {
      if (!values.has(argument)) values.set(argument, compute(argument));
      return values.get(argument);
    };
  };

  // The content of decisions.yaml. Decisions name clusters by number; `entry` has the members and the title of one.
  const decisionsYaml = (run, state, decisions, entry) => {
    const quoted = once(quote);
    const clusterLines = once((k) => {
      const { members, title } = entry(k);
      return `  - cluster: ${k}\n    members: ${list(members)}\n    title: ${quote(title)}\n`;
    });
    const lines = (decision) => {
      let text = `- action: ${decision.action}\n  clusters:\n`;
      for (const k of decision.clusters) text += clusterLines(k);
      if (decision.images) text += `  images: ${list(decision.images)}\n`;
      for (const name of TEXTS) if (decision[name]) text += `  ${name}: ${quoted(decision[name])}\n`;
      return text;
    };
    return `run: ${quote(run)}\nstate: ${quote(state)}\ndecisions:\n${decisions.map(lines).join("")}`;
  };

  Object.assign(cpp, { download, csvLine, decisionsYaml });
})();
