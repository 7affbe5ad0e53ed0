"use strict";
// What the report and the live page share; both hold what they show in `data`.
const byId = (id) => document.getElementById(id);
const BLUE = "#2166ac", RED = "#b2182b", GREY = "#777777";
const CONFIG = { responsive: true, displaylogo: false };
const CROWD = 60;
const MANY = 2000;
const shown = (value) => (value === null || value === undefined ? "-" : typeof value !== "number" ? String(value)
  : Number.isInteger(value) ? String(value) : value.toPrecision(3));
// A class has its name beside its number.
const isClass = (name, value) => data.class_params.includes(name) && typeof value === "number" && value in data.class_names;
const named = (name, value) => (isClass(name, value) && data.class_names[value] !== String(value)
  ? `${value} (${data.class_names[value]})` : shown(value));
// Plotly reads tags in text, and names of classes come from the data.
const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const share = (value, spread) => (value === null ? "-" : value.toFixed(3) + (spread === null ? "" : " ± " + spread.toFixed(3)));
const success = (p) => `val_asr ${share(p.val_asr, p.val_asr_sd)}, floor ${shown(p.asr_floor)}`;
const layout = (more) => ({ margin: { l: 55, r: 15, t: 30, b: 50 }, font: { size: 12 }, hovermode: "closest", ...more });

// Traces of one environment: its settings, the controls, and settings that were trained again with fresh seeds.
function frontierTraces(points, again) {
  const defenses = Object.keys(data.colours);
  const settings = points.filter((p) => !p.on_frontier && !p.weak);
  const front = points.filter((p) => p.on_frontier).sort((a, b) => a.val_asr_excess - b.val_asr_excess);
  const groups = [
    ...(defenses.length
      ? defenses.map((d) => [d, settings.filter((p) => p.defense === d), { color: data.colours[d], size: 8 }])
      : [["setting", settings, { color: GREY, size: 8, opacity: 0.7 }]]),
    ["weak attack: no evidence", points.filter((p) => p.weak), { color: GREY, size: 8, symbol: "circle-open" }],
    ["frontier", front, defenses.length
      ? { color: front.map((p) => data.colours[p.defense]), size: 12, line: { color: "black", width: 2 } }
      : { color: BLUE, size: 11 }],
  // A defense stays in the legend if all of its settings are on the frontier.
  ].filter(([name, group]) => group.some((p) => p.val_asr_excess !== null)
    || (defenses.includes(name) && front.some((p) => p.defense === name)));
  const bars = (group, name) => ({
    type: "data", symmetric: false, thickness: 1,
    visible: group.some((p) => p[name + "_high"] !== null) && (group[0].on_frontier || group.length < CROWD),
    array: group.map((p) => (p[name + "_high"] ?? p[name]) - p[name]),
    arrayminus: group.map((p) => p[name] - (p[name + "_low"] ?? p[name])),
  });
  const traces = groups.map(([name, group, marker]) => ({
    name, type: group.length > MANY ? "scattergl" : "scatter", mode: name === "frontier" ? "lines+markers" : "markers", marker,
    line: { shape: "hv", color: defenses.length ? GREY : BLUE, width: 1 },
    x: group.length ? group.map((p) => p.val_asr_excess) : [null], y: group.length ? group.map((p) => p.val_acc) : [null],
    customdata: group.map((p) => p.config_id),
    error_x: bars(group, "val_asr_excess"), error_y: bars(group, "val_acc"),
    text: group.map((p) => `<b>${p.config_id}</b> ${p.trials}, ${p.defense}<br>val_acc ${share(p.val_acc, p.val_acc_sd)}, `
      + `val_asr_excess ${share(p.val_asr_excess, p.val_asr_excess_sd)} (n ${p.seeds})<br>${success(p)}, control ${shown(p.control_asr)}`
      + `<br>worst class ${shown(p.val_min_class_acc)}${p.lost_classes ? ", lost a class" : ""}`
      + data.params.filter((name) => p.params[name] !== null).map((name) => `<br>${name} ${plain(named(name, p.params[name]))}`).join("")),
    hovertemplate: "%{text}<extra></extra>",
  }));
  const controls = [...new Map(points.filter((p) => p.control_asr_excess !== null && p.control_acc !== null)
    .map((p) => [`${p.control_asr_excess} ${p.control_acc}`, p])).values()];
  traces.push({
    name: "no defense (control)", type: "scatter", mode: "markers", marker: { color: RED, symbol: "x", size: 12 },
    x: controls.map((p) => p.control_asr_excess), y: controls.map((p) => p.control_acc),
    text: controls.map((p) => shown(p.control_asr)),
    hovertemplate: "no defense, least successful attack<br>accuracy %{y:.3f}, val_asr_excess %{x:.3f}, val_asr %{text}<extra></extra>",
  });
  if (again.length) {
    const spread = (name) => ({ type: "data", thickness: 1.2, array: again.map((p) => p[name + "_sd"] ?? 0) });
    traces.push({
      name: "again with fresh seeds (mean, sd)", type: "scatter", mode: "markers",
      marker: { symbol: "diamond", size: 11, color: again.map((p) => data.colours[p.defense] ?? BLUE), line: { color: "black", width: 1 } },
      x: again.map((p) => p.val_asr_excess), y: again.map((p) => p.val_acc), customdata: again.map((p) => p.config_id),
      error_x: spread("val_asr_excess"), error_y: spread("val_acc"),
      text: again.map((p) => `<b>${p.config_id}</b> ${p.defense}, again with ${p.seeds} fresh seeds<br>val_acc `
        + `${share(p.val_acc, p.val_acc_sd)}, val_asr_excess ${share(p.val_asr_excess, p.val_asr_excess_sd)}<br>${success(p)}`),
      hovertemplate: "%{text}<extra></extra>",
    });
  }
  return traces;
}
