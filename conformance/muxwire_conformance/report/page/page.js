// The page: summary, matrix, filters, list and keys. The state is the filters and the open case.

const report = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const ORDER = ["ERROR", "FAIL", "XPASS", "FLAKY", "INCONCLUSIVE", "WARN", "XFAIL", "PASS", "N/A"];
const MEANING = {
  PASS: "passed", FAIL: "failed", WARN: "warnings", FLAKY: "flaky", XFAIL: "known failures",
  XPASS: "unexpectedly passed", INCONCLUSIVE: "inconclusive", ERROR: "suite errors", "N/A": "not applicable",
};
const RED = new Set(["ERROR", "FAIL", "XPASS", "FLAKY", "INCONCLUSIVE"]);
const chosen = new Set();
const several = report.runs.length > 1;

// -- what is known ----------------------------------------------------------------------------

function tally(results) {
  const counts = {};
  for (const result of results) counts[result.verdict] = (counts[result.verdict] || 0) + 1;
  return counts;
}

function worst(one) {
  const found = report.runs.map((run) => run.results[one.id]).filter(Boolean);
  return Math.min(...found.map((result) => ORDER.indexOf(result.verdict)));
}

for (const one of report.cases) {
  one.worst = worst(one);
  one.words = [one.id, one.title, report.rules[one.requirement].text,
    ...report.runs.flatMap((run) => {
      const result = run.results[one.id];
      return result ? [result.verdict, result.reason, result.expected, result.actual] : [];
    })].join("\n").toLowerCase();
}
report.cases.sort((a, b) => a.worst - b.worst || (a.id < b.id ? -1 : 1));

// -- first screen -----------------------------------------------------------------------------

function conclusion(run, counts) {
  if (!run.summary) return ["bad", `Not judged: ${run.trouble || "the run did not end"}`];
  if (run.summary.interrupted) return ["bad", "Interrupted: this report is partial"];
  const red = ORDER.filter((verdict) => RED.has(verdict) && counts[verdict]);
  if (red.length) return ["bad", "Not conformant: " + red.map((verdict) => `${counts[verdict]} ${MEANING[verdict]}`).join(", ")];
  if (!counts.PASS) return ["bad", "Nothing was tried"];
  return ["good", counts.XFAIL ? `Conformant but for ${counts.XFAIL} known failures` : "Conformant in every case that applies"];
}

function targetBlock(run) {
  const counts = tally(Object.values(run.results));
  const info = run.info || {};
  const name = info.name ? `${info.name} ${info.version || ""}` : run.target;
  const [mood, sentence] = conclusion(run, counts);
  const present = ORDER.filter((verdict) => counts[verdict]);
  const bar = el("div", { class: "share", "aria-hidden": "true" });
  for (const verdict of present.slice().sort((a, b) => (a === "PASS" ? -1 : b === "PASS" ? 1 : 0))) {
    const part = el("i", { class: verdictClass(verdict) });
    part.style.flex = counts[verdict];
    bar.append(part);
  }
  const where = [info.name && run.target !== run.address ? run.target : "", run.address, run.role, (run.started || "").replace("T", " ").replace("Z", " UTC")];
  return el("section", { class: "target", "aria-label": run.target },
    el(several ? "h2" : "h1", {}, name),
    el("p", { class: "where" }, where.filter(Boolean).join(" · ")),
    el("p", { class: "conclusion " + mood }, sentence),
    present.length ? bar : "",
    el("ul", { class: "tally" }, present.map((verdict) =>
      el("li", { class: verdictClass(verdict) }, el("b", {}, counts[verdict]), el("span", {}, MEANING[verdict])))),
    run.notes && run.notes.length ? el("ul", { class: "notes" }, run.notes.map((note) => el("li", {}, note))) : "");
}

if (several) $("targets").before(el("h1", { class: "many" }, `${report.runs.length} targets side by side`));
document.body.classList.toggle("several", several);
$("targets").append(...report.runs.map(targetBlock));
const first = report.runs[0] || {};
const environment = first.environment || {};
$("about").append(el("p", {}, [
  `muxwire-conformance ${first.suite_version || ""}`, `spec WMX/${first.spec_version || ""}, checksum ${first.spec_checksum || ""}`,
  `seed ${first.seed ?? ""}`, `Python ${environment.python || ""} on ${environment.platform || ""}`,
  report.runs.map((run) => run.summary ? `${run.summary.seconds.toFixed(1)} s` : "not judged").join(", ")].join(" · ")));

// -- areas ------------------------------------------------------------------------------------

function matrix() {
  const head = el("tr", {}, el("th", { scope: "col" }, "area"));
  for (const run of report.runs) head.append(el("th", { scope: "col" }, several ? run.target : "cases"));
  if (!several) head.append(el("th", { scope: "col", class: "sum" }, "passed"));
  const body = el("tbody");
  for (const area of report.areas) {
    const cases = report.cases.filter((one) => one.id.startsWith(area.code + "-"));
    const button = el("button", { type: "button", "aria-pressed": "false", "data-area": area.code }, el("code", {}, area.code), area.name);
    const row = el("tr", {}, el("th", { scope: "row", class: "name" }, button));
    for (const run of report.runs) {
      const results = cases.map((one) => run.results[one.id]).filter(Boolean);
      const counts = tally(results);
      const applying = results.length - (counts["N/A"] || 0);
      const sum = `${counts.PASS || 0} of ${applying}`;
      const squares = el("div", { class: "squares", "aria-hidden": "true" });
      for (const one of cases) {
        const result = run.results[one.id];
        if (result) squares.append(el("i", { class: verdictClass(result.verdict), title: `${result.verdict} ${one.id}`, "data-case": one.id }));
      }
      const rest = ORDER.filter((verdict) => verdict !== "PASS" && counts[verdict]).map((verdict) => `${counts[verdict]} ${MEANING[verdict]}`);
      const words = el("span", { class: "unseen" }, [`${counts.PASS || 0} passed`, ...rest].join(", "));
      row.append(el("td", { class: "cells", "data-target": several ? run.target : undefined }, squares, words));
      if (!several) row.append(el("td", { class: "sum", "aria-hidden": "true" }, sum));
    }
    body.append(row);
    $("area").append(el("option", { value: area.code }, `${area.code} ${area.name}`));
  }
  return el("table", { class: "matrix" }, el("thead", {}, head), body);
}

$("matrix").append(matrix());
$("matrix").addEventListener("click", (event) => {
  const square = event.target.closest("[data-case]");
  const area = event.target.closest("[data-area]");
  if (square) go(square.dataset.case);
  if (area) {
    $("area").value = $("area").value === area.dataset.area ? "" : area.dataset.area;
    chosen.clear();
    refresh();
    $("cases").scrollIntoView();
  }
});

// -- list and filters -------------------------------------------------------------------------

const rows = new Map();
for (const one of report.cases) {
  const words = report.runs.map((run) => run.results[one.id]).map((result) => result ? verdictWord(result.verdict) : el("span", { class: "verdict" }, "·"));
  const panelId = "panel-" + one.id;
  const button = el("button", { type: "button", "aria-expanded": "false", "aria-controls": panelId },
    el("span", { class: "badges" }, words), el("span", { class: "id" }, one.id),
    el("span", { class: "title" }, one.title), el("span", { class: "level" }, one.level));
  const row = el("li", { class: "case", id: one.id }, el("h3", {}, button), el("div", { class: "panel", id: panelId, hidden: true }));
  button.addEventListener("click", () => toggle(one.id, button.getAttribute("aria-expanded") === "false"));
  rows.set(one.id, { one, row, button });
}
$("list").append(...[...rows.values()].map((entry) => entry.row));
const nothing = el("li", { class: "empty" }, "No case fits the filters.");
$("list").append(nothing);

function toggle(id, open) {
  const { one, row, button } = rows.get(id);
  const panel = row.lastElementChild;
  if (open && !panel.firstChild) panel.append(...casePanel(report, one));
  panel.hidden = !open;
  row.classList.toggle("open", open);
  button.setAttribute("aria-expanded", String(open));
}

const levelOf = (level) => (/^(MUST|SHALL|REQ)/.test(level) ? "must" : /^(SHOULD|REC|NOT REC)/.test(level) ? "should" : "may");

function asked(one) {
  const area = $("area").value, level = $("level").value, words = $("text").value.toLowerCase().split(/\s+/).filter(Boolean);
  return (!area || one.id.startsWith(area + "-")) && (!level || levelOf(one.level) === level) &&
    words.every((word) => one.words.includes(word));
}

function fits(one) {
  return asked(one) && (!chosen.size || report.runs.some((run) => run.results[one.id] && chosen.has(run.results[one.id].verdict)));
}

function refresh() {
  let shown = 0;
  const bright = new Set();
  for (const { one, row } of rows.values()) {
    row.hidden = !fits(one);
    if (!row.hidden) shown += 1;
    if (asked(one)) bright.add(one.id);
  }
  nothing.hidden = shown > 0;
  $("count").textContent = `${shown} of ${rows.size} cases`;
  for (const square of document.querySelectorAll("[data-case]")) square.classList.toggle("dim", !bright.has(square.dataset.case));
  for (const button of document.querySelectorAll("[data-area]")) button.setAttribute("aria-pressed", String(button.dataset.area === $("area").value));
  for (const button of $("verdicts").children) button.setAttribute("aria-pressed", String(chosen.has(button.dataset.verdict)));
}

const totals = tally(report.runs.flatMap((run) => Object.values(run.results)));
for (const verdict of ORDER.filter((name) => totals[name])) {
  const button = el("button", { type: "button", class: verdictClass(verdict), "aria-pressed": "false", "data-verdict": verdict }, verdict, el("span", {}, totals[verdict]));
  button.addEventListener("click", () => {
    if (!chosen.delete(verdict)) chosen.add(verdict);
    refresh();
  });
  $("verdicts").append(button);
  if (RED.has(verdict)) chosen.add(verdict);
}
for (const kind of ["input", "change"]) $("filters").addEventListener(kind, refresh);
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("reset", () => { chosen.clear(); setTimeout(refresh); });
refresh();

function go(id) {
  const entry = rows.get(id);
  if (!entry) return;
  if (entry.row.hidden) {
    $("filters").reset();
    chosen.clear();
    refresh();
  }
  toggle(id, true);
  entry.button.focus({ preventScroll: true });
  entry.row.scrollIntoView({ behavior: "instant" });
  try { history.replaceState(null, "", "#" + id); } catch { /* some browsers refuse it for files */ }
}

const wanted = () => go(decodeURIComponent(location.hash.slice(1)));
addEventListener("hashchange", wanted);
wanted();

// -- keys -------------------------------------------------------------------------------------

function step(by) {
  const buttons = [...rows.values()].filter((entry) => !entry.row.hidden).map((entry) => entry.button);
  const here = buttons.indexOf(document.activeElement.closest(".case")?.querySelector("button"));
  const next = here < 0 ? (by > 0 ? 0 : buttons.length - 1) : Math.max(0, Math.min(buttons.length - 1, here + by));
  buttons[next]?.focus();
  buttons[next]?.scrollIntoView({ block: "nearest", behavior: "instant" });
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const active = document.activeElement;
  if (active.matches("input, select")) {
    if (event.key === "Escape" && active === $("text")) {
      event.preventDefault();
      if (active.value) { active.value = ""; refresh(); } else { active.blur(); step(1); }
    } else if (event.key === "ArrowDown" && active === $("text")) { event.preventDefault(); active.blur(); step(1); }
    return;
  }
  const onRow = active === document.body || active === $("cases") || active.parentElement?.matches(".case > h3");
  if (event.key === "/") { $("text").focus(); $("text").select(); }
  else if (event.key === "?") $("help").showModal();
  else if (event.key === "j" || (event.key === "ArrowDown" && onRow)) step(1);
  else if (event.key === "k" || (event.key === "ArrowUp" && onRow)) step(-1);
  else if (event.key === "Escape") {
    const row = active.closest(".case");
    if (!row) return;
    toggle(row.id, false);
    rows.get(row.id).button.focus();
  } else return;
  event.preventDefault();
});
$("help-button").addEventListener("click", () => $("help").showModal());

// -- theme and paper --------------------------------------------------------------------------

const THEMES = ["auto", "light", "dark"];
function setTheme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = "Theme: " + name;
  try { localStorage.setItem("wmx-theme", name); } catch { /* no storage here */ }
}
$("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % 3]));
try { if (THEMES.includes(localStorage.getItem("wmx-theme"))) setTheme(localStorage.getItem("wmx-theme")); } catch { /* no storage here */ }

// On paper nothing can be opened: open what the filters show, if it is not the whole suite.
addEventListener("beforeprint", () => {
  const open = [...rows.values()].filter((entry) => !entry.row.hidden);
  if (open.length <= 60) for (const { one } of open) toggle(one.id, true);
});
