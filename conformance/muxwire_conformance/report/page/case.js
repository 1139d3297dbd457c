// One case opened: its rule, what each target did, and the annotated octets.
// Everything from a target goes through text nodes only; nothing is ever parsed as HTML.

// Show what has no shape of its own: controls, direction marks, lone surrogates.
const HIDDEN = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

function visible(text) {
  return String(text).replace(HIDDEN, (c) => {
    const n = c.charCodeAt(0);
    return n < 256 ? "\\x" + n.toString(16).padStart(2, "0") : "\\u" + n.toString(16).padStart(4, "0");
  });
}

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === undefined) continue;
    node.setAttribute(name, value === true ? "" : visible(value));
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === "") continue;
    node.append(child instanceof Node ? child : visible(child));
  }
  return node;
}

function verdictClass(verdict) {
  return "v-" + verdict.toLowerCase().replace("/", "");
}

function verdictWord(verdict) {
  return el("span", { class: "verdict " + verdictClass(verdict) }, verdict);
}

function casePanel(report, one) {
  const rule = report.rules[one.requirement];
  const quote = el("blockquote", { class: "rule" },
    el("p", {}, rule.text),
    el("cite", {}, `${one.requirement} ${rule.level}${rule.source ? ", " + rule.source : ""}`));
  const sides = report.runs.map((run, index) => {
    const result = run.results[one.id];
    if (!result) return report.runs.length > 1 ? el("div", { class: "side" }, el("h4", {}, run.target), el("p", { class: "hint" }, "not run")) : null;
    return side(report, run, result, index);
  });
  return [quote, el("div", { class: "sides" }, sides)];
}

function side(report, run, result) {
  const facts = el("dl", { class: "facts" });
  const fact = (name, value, style) => {
    if (!value || value.length === 0) return;
    facts.append(el("dt", {}, name), el("dd", { class: style }, value));
  };
  fact("verdict", [verdictWord(result.verdict), ` in ${result.seconds.toFixed(2)} s`]);
  fact("reason", result.reason);
  fact("expected", result.expected, "expected");
  fact("actual", result.actual, "actual");
  fact("probably", result.cause);
  fact("known", result.known);
  if (result.requirement !== undefined) fact("broke", `${result.requirement}: ${report.rules[result.requirement].text}`);
  fact("attempts", (result.attempts || []).join(", "));
  fact("checks", result.checks.length ? [el("ul", { class: "checks" }, result.checks.map(check))] : "");
  fact("also", (result.violations || []).map((seen) => `${seen.requirement}: ${seen.text}`).join("\n"));
  if (result.rerun) fact("run it again", [command(result.rerun)]);
  if (result.replay) fact("say the same octets again", [command(result.replay)]);
  const box = el("div", { class: "side" });
  if (report.runs.length > 1) box.append(el("h4", {}, run.target));
  box.append(facts);
  if (result.traceback) box.append(el("pre", { class: "trace" }, result.traceback));
  for (const connection of result.connections || []) box.append(dialogue(connection));
  if (result.left_out) box.append(el("p", { class: "hint" }, result.left_out));
  return box;
}

function check(one) {
  const mark = one.held ? (one.warning ? "⚠ " : "✓ ") : "✗ ";
  const word = one.held ? (one.warning ? "warned: " : "held: ") : "did not hold: ";
  return el("li", {}, el("span", { "aria-hidden": "true" }, mark), el("span", { class: "unseen" }, word), el("code", {}, one.name));
}

function command(text) {
  const button = el("button", { type: "button", class: "quiet" }, "Copy");
  const code = el("code", { tabindex: "0" }, text);
  button.addEventListener("click", () => {
    const range = document.createRange();
    range.selectNodeContents(code);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
  });
  return el("div", { class: "command" }, code, button);
}

function dialogue(connection) {
  const list = el("ol", { class: "entries" });
  let far = [];
  const fold = () => {
    if (far.length > 2) list.append(folded(far)); else list.append(...far.map(entry));
    far = [];
  };
  for (const one of connection.entries) {
    if (one.far) { far.push(one); continue; }
    fold();
    list.append(entry(one));
  }
  fold();
  return el("section", { class: "dialogue" }, el("h5", {}, connection.label), list);
}

function folded(entries) {
  const button = el("button", { type: "button", class: "quiet" }, `Show ${entries.length} more entries`);
  const row = el("li", { class: "fold" }, button);
  button.addEventListener("click", () => {
    const shown = entries.map(entry);
    row.replaceWith(...shown);
    shown[0].querySelector("summary")?.focus();
  });
  return row;
}

const WHO = { judge: "judge →", target: "← target", event: "" };

function entry(one) {
  const said = el("span", { class: "said" }, one.text, one.note && el("span", { class: "note" }, ` (${one.note})`));
  const head = [el("span", { class: "at" }, `+${one.ms.toFixed(1)} ms`), el("span", { class: "who" }, WHO[one.who] ?? one.who), said];
  if (!one.hex) return el("li", {}, el("div", { class: "event" }, head));
  const details = el("details", { open: one.marked }, el("summary", {}, head));
  const fill = () => { if (details.children.length === 1) details.append(octets(one)); };
  if (one.marked) fill(); else details.addEventListener("toggle", fill, { once: true });
  return el("li", { class: one.marked ? "marked" : undefined }, details);
}

function hexRows(hex, width) {
  const pairs = hex.match(/../g) || [], rows = [];
  for (let start = 0; start < pairs.length; start += width) rows.push(pairs.slice(start, start + width).join(" "));
  return rows;
}

function octets(one) {
  const kept = one.hex.length / 2;
  const box = el("div", { class: "octets", tabindex: "0", role: "region", "aria-label": "octets of " + one.text });
  if (!one.fields) {
    const rest = one.length > kept ? [`… ${one.length - kept} octets more`] : [];
    box.append(el("pre", {}, [...hexRows(one.hex, 16), ...rest].join("\n")));
    return box;
  }
  const body = el("tbody");
  for (const [at, size, name, value, fault] of one.fields) {
    const rows = hexRows(one.hex.slice(at * 2, (at + Math.min(size, 64)) * 2), 8);
    if (size > 64) rows.push(`… ${size - 64} octets more`);
    body.append(el("tr", { class: fault ? "faulty" : undefined },
      el("td", { class: "offset" }, at.toString(16).padStart(2, "0")), el("td", {}, rows.join("\n")), el("td", {}, name), el("td", {}, value)));
    if (fault) body.append(el("tr", { class: "fault" }, el("td"), el("td", { colspan: "3" }, `↑ ${fault}`)));
  }
  if (one.length > kept) body.append(el("tr", {}, el("td"), el("td", { colspan: "3" }, `… ${one.length - kept} octets not kept`)));
  const headings = ["offset", "octets", "field", "meaning"].map((name) => el("th", { scope: "col" }, name));
  box.append(el("table", {}, el("thead", {}, el("tr", {}, headings)), body));
  return box;
}
