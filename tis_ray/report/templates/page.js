// What moves on a page: the metric that is shown, figures, the table of rows and that of answers.
// Texts of rows, models and methods reach the page as text nodes only.
const page = document;
const find = (query, within = page) => within.querySelector(query);
const all = (query, within = page) => [...within.querySelectorAll(query)];

function made(tag, text = "", name = "") {
  const node = page.createElement(tag);
  node.textContent = text;
  if (name) node.className = name;
  return node;
}

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(find(`#${id}`).textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// ---- figures ----

const figures = find("#figure-data") ? await unpacked("figure-data") : {};
const dark = matchMedia("(prefers-color-scheme: dark)");
const themed = () => page.documentElement.classList.toggle("dark", dark.matches); // what DataTables looks for
themed();

// The colours of the specs (report/charts.py), and the page's own in their place, light or dark.
const PALETTE = {
  "#1b1f24": "ink", "#6e7781": "open", "#00795a": "better", "#c24a00": "worse", "#d8dee4": "rule", "#c8102e": "query", "#0072b2": "m0",
  "#d55e00": "m1", "#009e73": "m2", "#cc79a7": "m3", "#e69f00": "m4", "#56b4e9": "m5", "#5b3fa0": "m6",
};

function colour(name) {
  return getComputedStyle(page.documentElement).getPropertyValue(`--${name}`).trim();
}

function config(width) {
  const [ink, soft, rule] = ["ink", "soft", "rule"].map(colour);
  const axis = { labelColor: soft, titleColor: soft, gridColor: rule, domainColor: rule, tickColor: rule };
  return {
    background: "transparent", font: "system-ui, sans-serif", view: { stroke: null },
    axis: { ...axis, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 200, tickCount: 5 },
    legend: { labelColor: ink, titleColor: soft, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal",
      orient: "bottom", columns: Math.max(1, Math.floor(width / 190)), symbolStrokeWidth: 2, labelLimit: 260 },
    header: { labelColor: ink, labelFontSize: 12, title: null, labelLimit: 260 },
    title: { color: ink, fontSize: 12, fontWeight: "normal", anchor: "start" },
    text: { color: ink, fontSize: 12 }, rule: { color: ink },
  };
}

const NARROW = 480;

async function draw(place) {
  const name = place.dataset.figure;
  if (place.dataset.drawn === name || !figures[name]) return;
  place.dataset.drawn = name;
  const text = JSON.stringify(figures[name]);
  const spec = JSON.parse(text.replace(/"(#[0-9a-f]{6})"/g, (found, given) => (PALETTE[given] ? JSON.stringify(colour(PALETTE[given])) : found)));
  if (spec.layer || spec.mark) {
    spec.width = "container";
  }
  if (place.clientWidth < NARROW) {
    if (spec.columns) spec.columns = 1; // side by side, panels would be made small with all that is written in them
    if (spec.layer) spec.layer = spec.layer.filter((layer) => layer.encoding?.text?.field !== "level"); // it would lie on points; the caption says it
  }
  await vegaEmbed(place, spec, {
    mode: "vega-lite", ast: true, config: config(place.clientWidth), renderer: "svg", tooltip: { theme: dark.matches ? "dark" : "light" },
    actions: { export: { svg: true, png: true }, source: false, compiled: false, editor: false },
    downloadFileName: name,
  });
}

function drawAll(within = page) {
  for (const place of all("[data-figure]", within)) if (place.checkVisibility() && place.clientWidth) draw(place);
}

// ---- one metric at a time ----

const metric = find("#metric");

function showMetric() {
  const view = find("input[name=view]:checked")?.value ?? "budget";
  for (const part of all("[data-metric]")) part.hidden = metric !== null && part.dataset.metric !== metric.value;
  for (const part of all("[data-view]")) part.hidden = part.dataset.view !== view;
  drawAll();
}

metric?.addEventListener("change", showMetric);
for (const input of all("input[name=view]")) input.addEventListener("change", showMetric);
all(".scripted").forEach((part) => { part.hidden = false; });

// ---- folds open where a link leads ----

function openTarget() {
  const target = location.hash.length > 1 && page.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  const fold = target.matches("details") ? target : target.closest("details");
  if (fold) fold.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", openTarget);
for (const link of all("nav a")) link.addEventListener("click", () => setTimeout(openTarget));

const first = { rows: showRows, answers: showAnswers };
for (const fold of all("details")) {
  fold.addEventListener("toggle", () => {
    if (!fold.open) return;
    drawAll(fold);
    const begin = first[fold.id];
    delete first[fold.id];
    begin?.();
  });
}

// ---- tables ----

const TEXT = DataTable.render.text().display;

function option(select, value, text) {
  const node = made("option", text);
  node.value = value;
  select.append(node);
}

function save(name, lines, type) {
  const link = made("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function downloads(name, records) {
  const quoted = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = () => {
    const found = records();
    const heads = [...new Set(found.flatMap(Object.keys))];
    save(`${name}.csv`, [heads, ...found.map((row) => heads.map((head) => row[head]))].map((row) => row.map(quoted).join(",")), "text/csv");
  };
  const jsonl = () => save(`${name}.jsonl`, records().map((row) => JSON.stringify(row)), "application/jsonl");
  return [["Download CSV", csv], ["Download JSONL", jsonl]].map(([text, action]) => {
    const button = made("button", text);
    button.type = "button";
    button.addEventListener("click", action);
    return button;
  });
}

function long(text, rest) {
  const fold = made("details", "", "long");
  const summary = made("summary");
  summary.append(made("span", text.length > 300 ? `${text.slice(0, 300)}…` : text, "peek"));
  fold.append(summary);
  if (text.length > 200) fold.append(made("div", text, "text"));
  for (const [head, words] of rest) {
    const part = made("div", "", "pulled");
    part.append(made("span", head, "soft"), made("div", words, "text"));
    fold.append(part);
  }
  return fold;
}

// DataTables reads titles as HTML, and they may be a user's.
function table(place, columns, titles, rows, order) {
  place.replaceChildren();
  columns.forEach((column, i) => { column.title = made("span", titles[i]).innerHTML; });
  const node = made("table", "", "display compact");
  place.append(node);
  return new DataTable(node, {
    data: rows, columns, order, deferRender: true, autoWidth: false, pageLength: 10, lengthMenu: [10, 25, 50, 100],
    layout: { topStart: "search", topEnd: "pageLength", bottomStart: "info", bottomEnd: "paging" },
    language: {
      search: "Search words", searchPlaceholder: "all of them, in any order", lengthMenu: "_MENU_ a page", zeroRecords: "No row has all of these.",
      info: "_START_ to _END_ of _TOTAL_ rows", infoEmpty: "0 rows", infoFiltered: "(of _MAX_)",
    },
  });
}

const number = (value) => (value === null || value === undefined ? "" : Number(value).toPrecision(4).replace("-", "−"));
const ranked = (value, type) => (type === "display" ? value ?? "–" : value ?? 1e9);

async function showRows() {
  const data = await unpacked("row-data");
  const [mine, beside, budget, which, source, query] = ["method", "beside", "budget", "which", "source", "query"].map((id) => find(`#rows-${id}`));
  data.methods.forEach((method, i) => { option(mine, i, method.name); option(beside, i, method.name); });
  const places = data.methods.map((method) => new Map(method.index.map((index, rank) => [index, rank])));
  let found;

  function fill() {
    const other = beside.value === "" ? null : Number(beside.value);
    const shown = [Number(mine.value), ...(other === null || other === Number(mine.value) ? [] : [other])];
    const two = shown.length === 2;
    which.closest("label").hidden = !two;
    const most = budget.value === "" ? Infinity : Number(budget.value);
    const numbers = [...new Set(shown.flatMap((i) => data.methods[i].index.slice(0, most)))];
    const records = numbers.map((index) => {
      const row = data.rows[index] ?? { id: "", source: "", text: "(text not in the record)" };
      const of = shown.map((i) => {
        const rank = places[i].get(index);
        const method = data.methods[i];
        if (rank === undefined || rank >= most) return null;
        return { rank: rank + 1, score: method.score[rank], query: data.queries[method.query[rank]], margin: method.margin[rank],
          duplicates: method.duplicates[rank], nearest: method.nearest[rank] };
      });
      return { index, row, of, first: of.find(Boolean) };
    }).filter(({ of }) => !two || which.value === "" || { both: of[0] && of[1], left: of[0] && !of[1], right: of[1] && !of[0] }[which.value]);
    const names = shown.map((i) => data.methods[i].name);
    const columns = [
      ...shown.map((_, k) => ({ className: "n", data: (r) => r.of[k]?.rank, render: ranked, type: "num" })),
      { className: "n", data: (r) => r.first.score, render: (v, type) => (type === "display" ? number(v) : v ?? -1e9), type: "num" },
      { data: (r) => r.row.source, render: DataTable.render.text() },
      { data: (r) => r.first.query?.id ?? "", render: DataTable.render.text() },
      { className: "wide", data: (r) => `${r.row.text} ${r.row.id}`, render: (value, type, r) => {
        if (type !== "display") return type === "filter" ? TEXT(value) : value;
        const facts = [r.row.id, r.row.file ? `${r.row.file}${r.row.line ? ` line ${r.row.line}` : ""}` : ""];
        r.of.forEach((one, k) => {
          if (!one) return;
          const words = [two ? names[k] : "", `score ${number(one.score)}`];
          if (one.margin !== null && one.margin !== undefined) words.push(`margin ${number(one.margin)}`);
          if (one.duplicates) words.push(`${one.duplicates} near-duplicates, nearest at rank ${one.nearest}`);
          facts.push(words.filter(Boolean).join(", "));
        });
        const rest = [[facts.filter(Boolean).join(" · "), ""]];
        r.of.forEach((one, k) => {
          if (one?.query) rest.push([`${two ? `${names[k]}: ` : ""}chosen by query ${one.query.id}`, one.query.text]);
        });
        return long(r.row.text, rest);
      } },
    ];
    found?.destroy();
    const titles = [...names.map((name) => (two ? `Rank, ${name}` : "Rank")), "Score", "Source", "Query", "Row"];
    found = table(find("#rows-table"), columns, titles, records, [[0, "asc"]]);
    const sources = new Set(records.map((r) => r.row.source));
    const queries = new Set(records.flatMap((r) => r.of.map((one) => one?.query?.id)).filter((id) => id !== undefined));
    for (const [select, values, any] of [[source, sources, "all sources"], [query, queries, "all queries"]]) {
      const kept = select.value;
      select.replaceChildren();
      option(select, "", any);
      [...values].sort().forEach((value) => option(select, `=${value}`, value || "none"));
      select.value = [...select.options].some((o) => o.value === kept) ? kept : "";
    }
    narrow();
  }

  function narrow() {
    found.search.fixed("source", (_, r) => source.value === "" || `=${r.row.source}` === source.value);
    found.search.fixed("query", (_, r) => query.value === "" || r.of.some((one) => one?.query && `=${one.query.id}` === query.value));
    found.draw();
  }

  function budgets() {
    budget.replaceChildren();
    option(budget, "", "all");
    data.methods[Number(mine.value)].budgets.forEach((rows) => option(budget, rows, `first ${rows.toLocaleString("en")}`));
  }

  const records = () => found.rows({ search: "applied", order: "applied" }).data().toArray().flatMap((r) => r.of.flatMap((one, k) => (one ? [{
    method: find(`option[value="${[mine.value, beside.value][k]}"]`, k ? beside : mine).textContent, rank: one.rank, score: one.score, margin: one.margin ?? null,
    query: one.query?.id ?? null, query_text: one.query?.text ?? null, id: r.row.id, source: r.row.source, file: r.row.file ?? null, line: r.row.line ?? null, text: r.row.text }] : [])));
  find("#rows-save").append(...downloads("selected-rows", records));
  mine.addEventListener("change", () => { budgets(); fill(); });
  for (const select of [beside, budget, which]) select.addEventListener("change", fill);
  for (const select of [source, query]) select.addEventListener("change", narrow);
  budgets();
  fill();
}

async function showAnswers() {
  const data = await unpacked("answer-data");
  const [set, left, right] = ["set", "left", "right"].map((id) => find(`#answers-${id}`));
  data.forEach((one, i) => option(set, i, one.name));
  set.closest("label").hidden = data.length === 1;
  let found;

  function names() {
    const one = data[Number(set.value)];
    for (const select of [left, right]) {
      select.replaceChildren();
      one.methods.forEach((method, i) => option(select, i, method.name));
    }
    [left.value, right.value] = [one.left, one.right];
    fill();
  }

  function said(method, i) {
    const node = made("div");
    node.append(made("span", method.name, "who"), made("b", method.shown[i]));
    for (const [text, times] of method.answers[i]) {
      node.append(made("div", `${text || "(nothing)"}${method.models > 1 ? `  ×${times}` : ""}`, "text"));
    }
    return node;
  }

  function fill() {
    const one = data[Number(set.value)];
    const [a, b] = [one.methods[Number(left.value)], one.methods[Number(right.value)]];
    const rows = one.rows.map((row, i) => ({ i, row, gain: (one.lower ? -1 : 1) * (a.values[i] - b.values[i]) }));
    const word = (gain) => (gain > 0 ? "fixed" : gain < 0 ? "broken" : "alike");
    const counts = { fixed: 0, broken: 0, alike: 0 };
    for (const { gain } of rows) counts[word(gain)] += 1;
    const more = one.left_out ? ` The record holds the first ${rows.length} of ${rows.length + one.left_out} rows.` : "";
    find("#answers-count").textContent = `Of ${rows.length} rows, ${a.name} answers ${counts.fixed} better than ${b.name} (fixed) and ${counts.broken} worse (broken).${more}`;
    const columns = [
      { data: "gain", type: "num", className: "change", render: (gain, type) => {
        if (type === "sort" || type === "type") return gain > 0 ? 3 + gain : gain < 0 ? 1 - gain : 0;
        return type === "filter" ? word(gain) : made("span", word(gain), `chip ${{ fixed: "better", broken: "worse", alike: "" }[word(gain)]}`);
      } },
      { className: "wide", data: (r) => r.row.prompt || r.row.id, render: (value, type, r) => (type === "display" ? long(value, [[r.row.id, ""]]) : TEXT(`${value} ${r.row.id}`)) },
      { className: "label-of", data: (r) => r.row.label, render: (value, type) => {
        if (type !== "display") return TEXT(value);
        const node = made("div");
        node.append(made("span", "Label", "who"), made("div", value, "text"));
        return node;
      } },
      ...[a, b].map((method) => ({ className: "said", data: (r) => method.values[r.i], type: "num",
        render: (value, type, r) => (type === "display" ? said(method, r.i) : type === "filter" ? TEXT(method.answers[r.i].map(([text]) => text).join(" ")) : value) })),
    ];
    found?.destroy();
    found = table(find("#answers-table"), columns, ["Change", "Question", "Label", a.name, b.name], rows, [[0, "desc"]]);
  }

  const records = () => {
    const one = data[Number(set.value)];
    const pair = [one.methods[Number(left.value)], one.methods[Number(right.value)]];
    return found.rows({ search: "applied", order: "applied" }).data().toArray().flatMap((r) => pair.map((method) => ({
      id: r.row.id, question: r.row.prompt, label: r.row.label, method: method.name, models: method.models, [one.metric]: method.values[r.i], answers: JSON.stringify(method.answers[r.i]) })));
  };
  find("#answers-save").append(...downloads("answers", records));
  set.addEventListener("change", names);
  for (const select of [left, right]) select.addEventListener("change", fill);
  names();
}

showMetric();
openTarget();
dark.addEventListener("change", () => {
  themed();
  for (const place of all("[data-drawn]")) delete place.dataset.drawn;
  drawAll();
});
