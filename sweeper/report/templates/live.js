"use strict";
// The page asks for what it shows every few seconds, and changes what is different in place: what one marked, opened,
// zoomed or scrolled to stays.
const EVERY_MS = 2000;
const MARK = "#d98200";
let data = { environments: [], params: [], class_params: [], class_names: [], colours: {}, points: [], interest: null };
let live = null;
let version = "";
let environment = null;
let marked = null;
let drawn = "";

const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const many = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const moment = (seconds) => (seconds === null ? "-" : new Date(seconds * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" }));
const hours = (value) => (value < 0.995 ? `${Math.round(value * 60)} min` : `${value.toFixed(1)} h`);
const left = (seconds) => (seconds === null ? "not known yet" : seconds < 60 ? "less than a minute" : `about ${hours(seconds / 3600)}`);
const element = (name, className = "", text = "") => {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.textContent = text;
  return node;
};

// The children of a node become those of the items: known ones stay the same elements.
function keyed(parent, items, key, make, fill) {
  const known = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  const wanted = new Set(items.map(key));
  for (const [name, node] of known) if (!wanted.has(name)) node.remove();
  items.forEach((item, place) => {
    let node = known.get(key(item));
    if (!node) {
      node = make(item);
      node.dataset.key = key(item);
    }
    if (parent.children[place] !== node) parent.insertBefore(node, parent.children[place] ?? null);
    fill(node, item);
  });
}

function cells(row, texts) {
  while (row.children.length < texts.length) row.append(element("td"));
  texts.forEach((text, number) => set(row.children[number], text));
}

function mark(config) {
  marked = config;
  show();
}

// A trial that was refused has no setting, and nothing to mark.
function markButton(name, config) {
  if (config === null) return element("span", "", name);
  const button = element("button", "link", name);
  button.type = "button";
  button.dataset.config = config;
  // In a summary, a click would also open what is below it.
  button.onclick = (event) => { event.preventDefault(); mark(button.dataset.config); };
  return button;
}

function header() {
  set(byId("word"), live.word);
  byId("word").className = `word ${live.word}`;
  document.title = `${live.trials[0]} of ${live.trials[1]} ${live.name} - sweep`;
  set(byId("updated"), `Updated ${clock(live.at)}.${live.holder ? ` Run by ${live.holder}.` : ""}`);
  byId("report").hidden = live.report_at === null;
  set(byId("report-at"), moment(live.report_at));
  keyed(byId("notes"), live.notes, (text) => text, (text) => element("p", "note", text), () => {});
  for (const [id, word, [done, all]] of [["trials", "trials", live.trials], ["trainings", "trainings", live.trainings]]) {
    set(byId(`${id}-text`), `${done} of ${all} ${word} done`);
    byId(id).max = Math.max(all, 1);
    byId(id).value = id === "trainings" ? done + live.not_needed : done;
  }
  if (live.not_needed) set(byId("trainings-text"), `${live.trainings[0]} of ${live.trainings[1]} trainings done, ${live.not_needed} not needed`);
  const volume = live.summary.volumes[environment];
  const facts = [
    ["time left", live.word === "running" ? left(live.seconds_left) : "-"],
    ["controls done", String(live.controls)],
    ["computed", hours(live.summary.hours)],
    ["saved", hours(live.summary.hours_saved)],
    ...(volume === undefined ? [] : [[`hypervolume below ${data.interest}`, volume.toFixed(3)]]),
  ];
  keyed(byId("facts"), facts, ([name]) => name, ([name]) => {
    const box = element("div");
    box.append(element("dt", "", name), element("dd"));
    return box;
  }, (box, [, value]) => set(box.lastChild, value));
}

function environments() {
  const names = data.environments;
  if (environment === null || !names.includes(environment)) environment = names[0] ?? "";
  byId("environment-line").hidden = names.length < 2;
  const picker = byId("environment");
  keyed(picker, names, (name) => name, (name) => new Option(name, name), () => {});
  if (picker.value !== environment) picker.value = environment;
}

function best() {
  const known = (live.summary.best[environment] ?? []).filter((one) => one.acc !== undefined);
  const levels = live.summary.levels;  // none where settings are not compared by attack success
  const box = byId("best");
  box.hidden = !levels.length;
  if (box.hidden || box.dataset.shown === JSON.stringify(known)) return;
  box.dataset.shown = JSON.stringify(known);
  if (!known.length) {
    set(box, `No setting keeps attack success (val_asr_excess) at ${Math.max(...levels)} or below yet.`);
    return;
  }
  box.textContent = "Best accuracy with attack success (val_asr_excess) of at most ";
  known.forEach((one, number) => {
    const same = number && known[number - 1].config_id === one.config_id;
    box.append(`${number ? "; " : ""}${one.level}: ${one.acc.toFixed(3)} by `, same ? "the same" : markButton(one.config_id, one.config_id));
  });
  box.append(".");
}

function chart() {
  const now = JSON.stringify([version, environment, marked]);
  if (now === drawn) return;
  drawn = now;
  const points = data.points.filter((point) => point.environment === environment);
  const traces = frontierTraces(points, []).map((trace) => ({ ...trace, uid: trace.name }));
  const own = points.filter((point) => point.config_id === marked && point.val_asr_excess !== null);
  if (own.length) {
    traces.push({ name: "marked", uid: "marked", type: "scatter", mode: "markers", hoverinfo: "skip", x: own.map((p) => p.val_asr_excess),
      y: own.map((p) => p.val_acc), marker: { symbol: "circle-open", size: 20, color: MARK, line: { width: 3 } } });
  }
  const bound = data.interest !== null && data.interest < 1;
  Plotly.react("frontier", traces, layout({
    uirevision: `at ${environment}`,  // an empty one would keep nothing
    legend: { orientation: "h", y: 1.02, yanchor: "bottom" }, dragmode: "zoom",
    xaxis: { title: { text: "what the trigger adds (val_asr_excess)" }, range: [-0.03, 1.03] },
    yaxis: { title: { text: "clean accuracy (val_acc)" }, ...(points.length ? {} : { range: [0, 1.03] }) },
    shapes: bound ? [{ type: "line", x0: data.interest, x1: data.interest, yref: "paper", y0: 0, y1: 1, line: { color: GREY, dash: "dot", width: 1.5 } }] : [],
    annotations: [
      ...(bound ? [{ x: data.interest, xanchor: "left", yref: "paper", y: 1, yanchor: "top", showarrow: false, text: `interest ${data.interest}`, font: { color: GREY } }] : []),
      ...(points.length ? [] : [{ xref: "paper", x: 0.5, yref: "paper", y: 0.5, showarrow: false, text: "No setting has all of its trainings yet.", font: { size: 14, color: GREY } }]),
    ],
  }), CONFIG);
}

function panel() {
  const box = byId("marked");
  box.hidden = marked === null;
  if (marked === null) return;
  const point = data.points.find((p) => p.config_id === marked && p.environment === environment);
  const trial = live.open.find((t) => t.config_id === marked) ?? live.ended.trials.find((t) => t.config_id === marked);
  const text = point
    ? `${point.trials}, ${point.defense}: val_acc ${share(point.val_acc, point.val_acc_sd)}, val_asr_excess ${share(point.val_asr_excess, point.val_asr_excess_sd)}, `
      + `${success(point)}, ${many(point.seeds, "seed")}${point.on_frontier ? ", on the frontier" : ""}. `
      + data.params.filter((name) => point.params[name] !== null).map((name) => `${name} ${named(name, point.params[name])}`).join(", ")
    : trial ? `${trial.trial_id}: ${many(trial.finished, "training")} of ${trial.all} done${trial.shown ? `, ${trial.shown}` : ""}${trial.why ? `; ${trial.status}: ${trial.why}` : ""}. ${trial.setting}`
      : "No figures are shown of this setting here.";
  if (!box.children.length) {
    const close = element("button", "link", "unmark");
    close.type = "button";
    close.onclick = () => mark(null);
    box.append(element("b"), " ", element("span"), " ", close);
  }
  set(box.children[0], marked);
  set(box.children[1], text);
}

function hosts() {
  if (live.hosts === null) {
    set(byId("hosts-line"), "Not known: the sweep begins or ends just now, or cannot write live.json.");
    byId("hosts").replaceChildren();
    return;
  }
  const running = live.hosts.reduce((sum, host) => sum + host.trainings.length, 0);
  const named = live.hosts.filter((host) => host.host).length;
  set(byId("hosts-line"), running ? `${many(running, "training")} ${running === 1 ? "runs" : "run"}${named ? ` on ${many(named, "host")}` : ""}.` : "Nothing runs at this moment.");
  keyed(byId("hosts"), live.hosts, (host) => host.host, () => {
    const box = element("div", "host");
    box.append(element("h3"), element("ul"));
    return box;
  }, (box, host) => {
    set(box.children[0], `${host.host || "Starting"} (${host.trainings.length})`);
    keyed(box.children[1], host.trainings, (t) => `${t.trial_id} ${t.scenario} ${t.seed}`, () => element("li"), (line, t) =>
      set(line, `${t.trial_id} ${t.scenario}, seed ${t.seed}: ${t.epoch ? `epoch ${t.epoch}${t.stage ? ` (${t.stage})` : ""}` : "begins"}`));
  });
}

const figures = (training) => Object.entries(training.figures).filter(([, value]) => value !== null && value !== undefined)
  .map(([name, value]) => `${name} ${value.toFixed(3)}`).join(", ");

function open() {
  const runs = live.open.filter((trial) => trial.running).length;
  set(byId("open-line"), live.open.length ? `${many(runs, "trial")} with a training that runs, ${live.open.length - runs} that wait${live.open.length - runs === 1 ? "s" : ""}.` : "None.");
  keyed(byId("open"), live.open, (trial) => trial.trial_id, (trial) => {
    const box = element("details", "trial");
    const line = box.appendChild(element("summary"));
    line.append(markButton(trial.trial_id, trial.config_id), element("span"), element("div", "what"));
    const table = box.appendChild(element("div", "scroll")).appendChild(element("table"));
    const head = table.appendChild(element("thead")).appendChild(element("tr"));
    for (const name of ["scenario", "seed", "state", "host", "epoch", "figures"]) head.append(element("th", "", name));
    table.append(element("tbody"));
    return box;
  }, (box, trial) => {
    box.classList.toggle("marked-one", trial.config_id === marked);
    const line = box.firstChild;
    const role = trial.role === "trial" ? "" : ` (${trial.role})`;
    set(line.children[1], `${role}: ${trial.finished} of ${many(trial.all, "training")} done, ${trial.running ? `${trial.running} running` : "waits"}${trial.shown ? `; so far ${trial.shown}` : ""}`);
    set(line.children[2], trial.setting);
    keyed(box.querySelector("tbody"), trial.trainings, (t) => `${t.scenario} ${t.seed}`, () => element("tr"), (row, t) =>
      cells(row, [t.scenario, String(t.seed), t.state, t.host ?? "-", t.epoch ? String(t.epoch) : "-", figures(t) || t.why || "-"]));
  });
}

function ended() {
  const { count, reasons, trials } = live.ended;
  set(byId("ended-line"), count ? `${many(count, "trial")} ended before all of ${count === 1 ? "its" : "their"} trainings had finished:` : "None did.");
  keyed(byId("reasons"), reasons, ([why]) => why, () => element("li"), (line, [why, times]) => set(line, `${times} × ${why}`));
  byId("ended-details").hidden = !count;
  set(byId("ended-details").firstChild, `List of ${count > trials.length ? `the last ${trials.length}` : "all"} of them, newest first`);
  keyed(byId("ended"), trials, (trial) => trial.trial_id, (trial) => {
    const row = element("tr");
    row.append(element("td"));
    row.firstChild.append(markButton(trial.trial_id, trial.config_id));
    return row;
  }, (row, trial) => {
    row.classList.toggle("marked-one", trial.config_id !== null && trial.config_id === marked);
    while (row.children.length < 5) row.append(element("td"));
    [moment(trial.at), `${trial.finished} of ${trial.all}`, `${trial.status}${trial.why ? `: ${trial.why}` : ""}`, trial.setting]
      .forEach((text, number) => set(row.children[number + 1], text));
  });
}

function show() {
  environments();
  header();
  best();
  chart();
  panel();
  hosts();
  open();
  ended();
}

function complain(text) {
  set(byId("word"), "not connected");
  byId("word").className = "word lost";
  set(byId("updated"), text);
}

async function ask() {
  try {
    const answer = await fetch(`live.json?seen=${encodeURIComponent(version)}`, { cache: "no-store" });
    return answer.ok ? await answer.json() : { error: `the answer is ${answer.status}.` };
  } catch {
    return null;
  }
}

async function poll() {
  const known = await ask();
  if (known?.over) {
    location.reload();  // the same address is the report now
    return;
  }
  setTimeout(poll, EVERY_MS);
  if (known === null) {
    complain("sweeper ui does not answer: it has ended, or is starting.");
  } else if (known.error) {
    complain(`The run folder cannot be read: ${known.error}`);
  } else {
    if (known.figures) [data, version] = [known.figures, known.version];
    live = known;
    show();
  }
}

byId("environment").onchange = (event) => { environment = event.target.value; show(); };
chart();
byId("frontier").on("plotly_click", (event) => {
  const config = event.points.map((point) => point.customdata).find((id) => id !== undefined);
  if (config !== undefined) mark(config);
});
poll();
