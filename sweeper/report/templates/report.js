"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE_ROWS = 100;
const WIDEST_CELL = 60;

let environment = data.environments[0] ?? "";
let picked = null;
let order = { key: "val_asr_excess", down: false };
let limit = PAGE_ROWS;
const here = () => data.points.filter((point) => point.environment === environment);

function frontier() {
  const again = environment === "" ? data.confirmed.filter((p) => p.val_asr_excess !== null && p.val_acc !== null) : [];
  Plotly.react("frontier", frontierTraces(here(), again), layout({
    dragmode: "select", legend: { orientation: "h", y: -0.16 },
    xaxis: { title: { text: "attack success above the floor (val_asr_excess)" }, range: [-0.03, 1.03] },
    yaxis: { title: { text: "clean accuracy (val_acc)" }, range: [0, 1.03] },
  }), CONFIG);
}

function pick(ids) {
  picked = ids;
  limit = PAGE_ROWS;
  table();
}

const COLUMNS = [
  ["config_id", "setting"], ["trials", "trials"], ...(Object.keys(data.colours).length ? [["defense", "defense"]] : []), ["seeds", "n"], ["val_acc", "val_acc"],
  ["val_balanced_acc", "balanced"], ["val_min_class_acc", "worst class"], ["lost_classes", "lost"],
  ["val_asr_excess", "excess"], ["val_asr", "val_asr"], ["asr_floor", "floor"], ["control_asr", "control"],
  ["test_acc", "test_acc"], ["test_balanced_acc", "test balanced"], ["test_min_class_acc", "test worst class"],
  ["test_asr_excess", "test excess"], ["test_asr", "test_asr"], ["test_asr_floor", "test floor"],
  ["frontier_share", "held"],
];
const PARAMS = data.params.filter((name) => name !== "defense");
const valueOf = (point, key) => (key in point ? point[key] : point.params[key]);

function table() {
  const words = byId("find").value.trim().toLowerCase();
  const text = (p) => [p.config_id, p.trials, p.defense, ...data.params.map((n) => `${n}=${named(n, p.params[n])}`)].join(" ");
  const rows = here()
    .filter((p) => picked === null || picked.has(p.config_id))
    .filter((p) => !byId("front-only").checked || p.on_frontier)
    .filter((p) => !words || text(p).toLowerCase().includes(words))
    .sort((a, b) => {
      const [x, y] = [valueOf(a, order.key), valueOf(b, order.key)];
      if (x === null || y === null) return (x === null) - (y === null);
      return (x < y ? -1 : x > y ? 1 : 0) * (order.down ? -1 : 1);
    });
  const head = document.createElement("tr");
  for (const [key, title] of [...COLUMNS, ...PARAMS.map((name) => [name, name])]) {
    const cell = head.appendChild(document.createElement("th"));
    cell.textContent = title + (order.key === key ? (order.down ? " ▾" : " ▴") : "");
    cell.dataset.key = key;
    if (key === "config_id" || key === "trials") cell.className = "text";
    cell.onclick = () => { order = { key, down: order.key === key && !order.down }; table(); };
  }
  byId("settings").tHead.replaceChildren(head);
  byId("settings").tBodies[0].replaceChildren(...rows.slice(0, limit).map((p) => {
    const line = document.createElement("tr");
    if (p.on_frontier) line.classList.add("front");
    if (p.weak) line.classList.add("weak");
    const cells = COLUMNS.map(([key]) => (typeof p[key] === "number" && key !== "seeds" ? share(p[key], p[key + "_sd"] ?? null)
      : shown(p[key])))
      .concat(PARAMS.map((name) => named(name, p.params[name])));
    cells.forEach((content, number) => {
      const cell = line.appendChild(document.createElement("td"));
      const characters = [...content];
      cell.textContent = characters.length > WIDEST_CELL ? characters.slice(0, WIDEST_CELL - 4).join("") + " ..." : content;
      if (characters.length > WIDEST_CELL) cell.title = content;
      if (number < 2) cell.className = "text";
    });
    return line;
  }));
  byId("count").textContent = `${rows.length} of ${here().length} settings`;
  byId("more").hidden = rows.length <= limit;
}

function bins(values, name, most = 8) {
  const known = values.filter((v) => v !== null);
  const distinct = [...new Set(known)];
  // Of classes there is no mean, however many there are.
  if (distinct.length <= most || data.class_params.includes(name) || known.some((v) => typeof v !== "number")) {
    distinct.sort((a, b) => (a < b ? -1 : 1));
    return { names: distinct.map((v) => plain(named(name, v))), index: (v) => distinct.indexOf(v) };
  }
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const width = (high - low) / most;
  return {
    names: Array.from({ length: most }, (_, i) => `${shown(low + i * width)} to ${shown(low + (i + 1) * width)}`),
    index: (v) => (v === null ? -1 : Math.min(most - 1, Math.floor((v - low) / width))),
  };
}

function heat() {
  const [x, y] = [byId("heat-x").value, byId("heat-y").value];
  const attackers = data.environment_params.includes(x) || data.environment_params.includes(y);
  const points = (attackers ? data.points : here())
    .filter((p) => p.params[x] !== null && p.params[y] !== null && p.val_asr_excess !== null);
  const [across, up] = [bins(points.map((p) => p.params[x]), x), bins(points.map((p) => p.params[y]), y)];
  for (const [id, name, scale] of [["heat-acc", "val_acc", "Blues"], ["heat-excess", "val_asr_excess", "Reds"]]) {
    const cells = up.names.map(() => across.names.map(() => []));
    for (const p of points) cells[up.index(p.params[y])][across.index(p.params[x])].push(p[name]);
    const mean = (list) => (list.length ? list.reduce((a, b) => a + b) / list.length : null);
    Plotly.react(id, [{
      type: "heatmap", x: across.names, y: up.names, z: cells.map((row) => row.map(mean)), colorscale: scale,
      reversescale: scale === "Blues", text: cells.map((row) => row.map((list) => list.length)),
      texttemplate: "%{z:.2f}",
      hovertemplate: `${x} %{x}<br>${y} %{y}<br>${name} %{z:.3f}, %{text} settings<extra></extra>`,
    }], layout({ title: { text: name, font: { size: 13 } }, margin: { l: 60, r: 10, t: 30, b: 60 },
      xaxis: { title: { text: x }, type: "category", automargin: true },
      yaxis: { title: { text: y, standoff: 12 }, type: "category", automargin: true } }), CONFIG);
  }
}

function rates() {
  const colours = [BLUE, "#1b7837", "#762a83", "#b35806", "#35978f", "#c51b7d", "#4d4d4d", "#8c510a"];
  const traces = data.rates.flatMap(({ scenario, rates: known }, number) => {
    const color = colours[number % colours.length];
    const line = (name, key, dash) => ({
      name: `${scenario}: ${name}`, legendgroup: scenario, mode: data.attacking ? "markers" : "lines+markers",
      line: { color, dash },
      marker: { color, symbol: { dot: "line-ew-open", dash: "x", dashdot: "circle-open" }[dash] ?? "diamond" },
      x: known.map((r) => r.rate), y: known.map((r) => r[key]),
      hovertemplate: `${scenario}, ${name}<br>rate %{x}, %{y:.3f}<extra></extra>`,
    });
    const dots = known.flatMap((r) => r.settings.map((asr) => [r.rate, asr]));
    return [
      { name: `${scenario}: settings`, legendgroup: scenario, mode: "markers", marker: { color, opacity: 0.5, size: 6 },
        x: dots.map((d) => d[0]), y: dots.map((d) => d[1]),
        hovertemplate: `${scenario}<br>rate %{x}, val_asr %{y:.3f}<extra></extra>` },
      line("median of settings", "median", "solid"), line("median of what the trigger adds", "added", "dashdot"), line("control", "control", "dash"), line("floor", "floor", "dot"),
    ];
  });
  const highest = Math.max(0, ...data.rates.flatMap(({ rates: known }) => known.map((r) => r.rate)));
  Plotly.react("rates", traces, layout({ xaxis: { title: { text: "poison rate" }, range: [0, highest * 1.15 || 1] },
    yaxis: { title: { text: "attack success (val_asr)" }, range: [-0.02, 1.05] },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", font: { size: 11 } } }), CONFIG);
}

function wealth() {
  const colours = [BLUE, "#1b7837", "#762a83", "#b35806", "#35978f", "#c51b7d", "#4d4d4d", "#8c510a", "#e08214", "#5aae61"];
  const last = Math.max(1, ...data.wealth.map((c) => c.wealth.length - 1));
  const traces = data.wealth.flatMap(({ name, wealth: known, needed }, number) => {
    const color = colours[number % colours.length];
    const line = { legendgroup: name, line: { color, width: 2 }, hovertemplate: `${plain(name)}<br>%{x} replicates, wealth %{y:.3g}<extra></extra>` };
    return [
      { ...line, name: plain(name), mode: "lines+markers", marker: { color, size: 5 }, x: known.map((_, i) => i), y: known },
      { ...line, name: `${plain(name)}: needed`, mode: "lines", showlegend: false, line: { color, width: 1.5, dash: "dash" },
        x: [0, last], y: [needed, needed], hovertemplate: `${plain(name)} needs %{y:.3g}<extra></extra>` },
    ];
  });
  Plotly.react("wealth", traces, layout({
    xaxis: { title: { text: "counted replicates" }, rangemode: "tozero" },
    yaxis: { title: { text: "wealth" }, type: "log", dtick: 1 },
    showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
  }), CONFIG);
}

function rest() {
  if (data.importance.length) {
    Plotly.react("importance", data.importance.map(({ objective, values }) => ({
      name: objective, type: "bar", orientation: "h", y: values.map((v) => v[0]), x: values.map((v) => v[1]),
      marker: { color: objective.includes("asr") ? RED : BLUE },
      hovertemplate: `%{y}: %{x:.2f} of the variance of ${objective}<extra></extra>`,
    })), layout({ barmode: "group", margin: { l: 150, r: 15, t: 20, b: 50 }, legend: { orientation: "h" },
      xaxis: { title: { text: "share of the variance explained" } }, yaxis: { automargin: true } }), CONFIG);
  }
  data.histograms.forEach(({ title, axis, edges, clean, poisoned }, number) => {
    const middle = edges.slice(1).map((edge, i) => (edge + edges[i]) / 2);
    Plotly.react(`histogram-${number}`, [["clean", clean, BLUE], ["poisoned", poisoned, RED]].map(([name, y, color]) => ({
      name, type: "bar", x: middle, y, marker: { color, opacity: 0.6 },
      hovertemplate: `%{x:.2f}: %{y:.1%} of the ${name}<extra></extra>`,
    })), layout({ barmode: "overlay", bargap: 0, title: { text: title.replace(": ", ":<br>"), font: { size: 12 } },
      margin: { l: 55, r: 15, t: 60, b: 50 }, xaxis: { title: { text: axis } }, yaxis: { title: { text: "share" } },
      legend: { orientation: "h", y: 1.02 } }), { ...CONFIG, displayModeBar: false });  // it would cover the title
  });
}

function all() {
  frontier();
  table();
  if (byId("heat-x")) heat();
}

if (byId("environment")) {
  byId("environment").onchange = (event) => { environment = event.target.value; picked = null; all(); };
}
if (byId("heat-x")) {
  // With several defenses, begin with two parameters of one: a parameter against the name of its only defense shows nothing.
  const known = (point) => data.params.filter((name) => name !== "defense" && point.params[name] !== null);
  const own = here().map(known).reduce((most, names) => (names.length > most.length ? names : most), []);
  const first = own.length > 1 ? own : data.params;
  for (const [id, chosen] of [["heat-x", 0], ["heat-y", 1]]) {
    for (const name of data.params) byId(id).add(new Option(name, name, false, name === first[chosen]));
    byId(id).onchange = heat;
  }
}
byId("find").oninput = table;
byId("front-only").onchange = table;
byId("more").onclick = () => { limit += PAGE_ROWS; table(); };
all();
rates();
rest();
if (byId("wealth")) wealth();
const ids = (event) => new Set(event.points.map((point) => point.customdata).filter((id) => id !== undefined));
byId("frontier").on("plotly_selected", (event) => pick(event && event.points.length ? ids(event) : null));
byId("frontier").on("plotly_click", (event) => pick(ids(event).size ? ids(event) : null));
byId("frontier").on("plotly_deselect", () => pick(null));
byId("frontier").on("plotly_doubleclick", () => pick(null));
