// The list of models: a windowed grid. Rows are keyed by model, and an event touches one row.

import { $, $$, bold, btn, fact, faint, fill, h, h2, page, para, parts, refill, row } from "./dom.js";
import { absolute, clockTime, decoded, engine, ENGINES, gib, lastLoad, n0, n1, NB, now, percent, plural, duration } from "./text.js";
import { db, emit, isOffline, isResident, models, on, poolOf, poolsOf, sum, transfersOf } from "./state.js";
import { legend, light, memory, place } from "./bars.js";
import { demote, demoteAll, pin, promote, promoteAll, stop } from "./actions.js";
import { settings } from "./preferences.js";

const COLUMNS = [
  ["name", "Model", "c-name", (m) => [
    h("input", { type: "checkbox", class: "pick", tabindex: -1, checked: picked.has(m.name), "aria-label": `Choose ${m.name}`,
      onclick: (event) => { event.stopPropagation(); pick(m, event.target.checked); } }),
    h("a", { class: "open", tabindex: -1, title: m.name, href: link(m) }, m.name)]],
  ["engine", "Engine", "c-engine", (m) => h("span", { class: "quiet" }, engine(m.kind))],
  ["size", "Size, GiB", "c-size num", (m) => gib(m.size_bytes)],
  ["where", "Where its bytes are", "c-where", (m) => {
    const where = place(m);
    return h("span", { class: "place" }, where.bar, h("span", { title: where.text }, where.text));
  }],
  ["heat", "Heat", "c-heat num", (m) => h("span", { class: "heat" }, n1(m.heat),
    h("i", { "--w": `${Math.min(100, (Math.log2(1 + m.heat) / 5.6) * 100)}%` }))],
  ["loads", "Loads", "c-today num", (m) => (m.loads ? n0(m.loads) : faint("0"))],
  ["last", "Last loaded", "c-last", (m) => lastLoad(m)],
  ["state", "State", "c-state", (m) => [
    m.open > 0 && [h("span", { class: "tag on" }, `open ${m.open}`), " "],
    m.loaded.length > 0 && [h("span", { class: "tag on" }, `loaded in ${m.loaded.join(", ")}`), " "],
    m.pinned && [h("span", { class: "tag on" }, "pinned"), " "],
    transfersOf(m).length > 0 && h("span", { class: "tag" }, transfersOf(m)[0].state.replace("-", " "))]],
  ["act", "", "c-act", (m) => {
    const act = (label, action) => btn(label, (event) => { event.stopPropagation(); action(db.models.get(m.name) || m); }, "small",
      { tabindex: -1, "aria-label": `${label} ${m.name}` });
    return h("span", { class: "pair" }, transfersOf(m).length ? act("Cancel", stop) : [
      isResident(m) ? act("Demote", demote) : act("Promote", promote),
      act(m.pinned ? "Unpin" : "Pin", pin)]);
  }],
];

function cellsOf(model, tabIndex) {
  const cells = COLUMNS.map(([, , cls, cell]) => h("td", { class: cls, role: "gridcell" }, cell(model)));
  for (const cell of cells) for (const control of $$("button, a, input", cell)) control.tabIndex = tabIndex;
  return cells;
}

const SORTS = {
  name: (m) => m.name.toLowerCase(),
  engine: (m) => m.kind,
  size: (m) => m.size_bytes,
  where: (m) => m.resident_total_bytes / Math.max(1, m.size_bytes) + (transfersOf(m).length ? 0.5 : 0),
  heat: (m) => m.heat,
  loads: (m) => m.loads,
  last: (m) => m.last_load_ms || 0,
  state: (m) => m.open * 4 + (m.pinned ? 2 : 0),
};

const isRemote = (m) => poolsOf(m).some((name) => poolOf(name)?.kind === "remote");
const CHIPS = [
  ["all", "All", () => true],
  ["res", "In RAM", (m) => isResident(m) && !isRemote(m)],
  ["rem", "Remote RAM", isRemote],
  ["home", "Home only", (m) => !isResident(m)],
  ["open", "Open", (m) => m.open > 0],
  ["pin", "Pinned", (m) => m.pinned],
  ["move", "Moving", (m) => transfersOf(m).length > 0],
];

export const link = (model) => `#/models/${encodeURIComponent(model.name)}`;
const picked = new Set();
const view = settings.models;

function pick(model, isPicked) {
  if (isPicked) picked.add(model.name);
  else picked.delete(model.name);
  emit("picked");
}

export function modelsPage(main) {
  main.append(page("models"));
  const places = parts(main);
  memory(places.mem);
  const drawLegend = () => fill(places.legend, legend());
  drawLegend();
  places.key.open = innerWidth >= 720;
  const clock = () => fill(places.measured, isOffline() ? "as of " : "measured ",
    h("span", { title: absolute(db.measuredAt || now()) }, clockTime(db.measuredAt || now())));
  clock();
  on("status", clock);
  on("connection", clock);
  const grid = new Grid(main, places);
  const readouts = () => showReadouts(places.readouts);
  readouts();
  on("pools", readouts);
  on("history", readouts);
  on("loaded", readouts);
  on("list", () => grid.refresh());
  on("loaded", () => { grid.refresh(); drawLegend(); });
  on("picked", () => showPicked(places.picked));
  showPicked(places.picked);
}

function showReadouts(place) {
  const all = models();
  const resident = all.filter(isResident);
  const open = all.filter((m) => m.open > 0);
  const hours = db.history?.hours || [];
  const bytes = sum(hours, (hour) => hour.bytes);
  const saved = sum(hours, (hour) => hour.saved_ms) / 1000;
  const small = (text) => h("small", {}, " " + text);
  const since = db.history ? small(`since ${absolute(db.history.since_ms).replace(/:\d\d$/, "")}`) : null;
  // Before anything was answered there is nothing to count.
  if (!db.loaded) {
    fill(place, ["Models", "Resident", "Open now", "Loads", "Bytes from RAM", "Load time saved"].map((term) => fact(term, "–")));
    return;
  }
  fill(place,
    fact("Models", n0(all.length), small(`${gib(sum(all, (m) => m.size_bytes))} GiB`)),
    fact("Resident", n0(resident.length), small(`${gib(sum(resident, (m) => m.resident_total_bytes))} GiB`)),
    fact("Open now", n0(open.length)),
    fact("Loads", n0(sum(hours, (hour) => hour.loads)), since),
    fact("Bytes from RAM", bytes ? percent(sum(hours, (hour) => hour.resident_bytes), bytes) : "–"),
    fact("Load time saved", saved ? duration(saved) : `0${NB}s`, small("estimated")));
}

function showPicked(place) {
  const chosen = models().filter((m) => picked.has(m.name));
  place.hidden = !chosen.length;
  if (!chosen.length) return;
  const clear = () => {
    picked.clear();
    for (const box of $$(".pick")) box.checked = false;
    emit("picked");
  };
  const away = chosen.filter((m) => !isResident(m));
  const here = chosen.filter(isResident);
  fill(place, h("span", { role: "status" }, `${plural(chosen.length, "model")} chosen, ${gib(sum(chosen, (m) => m.size_bytes))}${NB}GiB`),
    row(btn(`Promote ${away.length}`, () => promoteAll(away), "small", { disabled: !away.length }),
      btn(`Demote ${here.length}`, () => demoteAll(here), "small", { disabled: !here.length }),
      btn("Clear choice", clear, "small bare")));
}

/** What is said where the list would be. */
function blank() {
  if (db.fault) {
    return ["The list of models could not be read", `${db.fault}. Engines are not affected. It is tried again.`, null,
      [btn("Try again now", () => emit("retry"), "main"), h("a", { class: "btn", href: "#/activity" }, "See events")]];
  }
  if (!db.loaded) {
    return ["Reading the models", "The mount serves all of them already; only this list is waiting.", null, []];
  }
  const homes = db.status?.homes.length || 0;
  return ["No models yet", `speedloader looked in ${plural(homes, "home")} and found none. As soon as one appears there, it is listed here.`,
    `OLLAMA_MODELS=${db.status?.mountpoint} ollama pull llama3.2:3b`, [h("a", { class: "btn main", href: "#/settings" }, "Add a home")]];
}

class Grid {
  constructor(main, places) {
    this.main = main;
    this.places = places;
    this.table = places.table;
    this.body = places.rows;
    this.rows = new Map();
    this.list = [];
    this.active = null;
    this.queued = false;
    this.top = h("tr", { class: "pad", "aria-hidden": "true" }, h("td", {}));
    this.end = this.top.cloneNode(true);
    this.table.tabIndex = -1;
    this.heads();
    this.tools();
    this.table.addEventListener("keydown", (event) => this.key(event));
    const queue = () => this.queue();
    on("scroll", queue);
    on("resize", queue);
    on("selected", () => this.setActive(this.active));
    on("model", (model) => this.touch(model));
    this.refresh();
  }

  heads() {
    const sort = (key) => {
      view.dir = view.sort === key ? -view.dir : key === "name" || key === "engine" ? 1 : -1;
      view.sort = key;
      this.refresh();
    };
    fill(this.places.cols, COLUMNS.map(([key, label, cls]) => h("th", { class: cls, scope: "col", "data-k": key },
      label ? h("button", { type: "button", onclick: () => sort(key) }, label) : h("span", { class: "vh" }, "Actions"))));
  }

  tools() {
    const search = $("#q");
    const kinds = $("#engine");
    fill(kinds, h("option", { value: "" }, "All engines"),
      Object.entries(ENGINES).map(([kind, label]) => h("option", { value: kind }, label)));
    search.value = view.q;
    kinds.value = view.engine;
    search.addEventListener("input", () => { view.q = search.value; this.refresh(); });
    search.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown") return;
      event.preventDefault();
      this.focusRow(0);
    });
    kinds.addEventListener("change", () => { view.engine = kinds.value; this.refresh(); });
  }

  /** Filters and sorts anew: when the reader asks for it, or a model came or went. */
  refresh() {
    settings.save();
    const words = view.q.toLowerCase().split(/\s+/).filter(Boolean);
    const all = models();
    const found = all.filter((m) => (!view.engine || m.kind === view.engine)
      && words.every((word) => m.name.toLowerCase().includes(word)));
    const chip = CHIPS.find(([key]) => key === view.chip) || CHIPS[0];
    const key = SORTS[view.sort] || SORTS.heat;
    this.list = found.filter(chip[2]).map((m) => [key(m), m]).sort(([a, x], [b, y]) => {
      if (a !== b) return (a < b ? -1 : 1) * view.dir;
      return y.heat - x.heat || (x.name < y.name ? -1 : 1);
    }).map(([, m]) => m);
    this.chips(found);
    for (const head of $$("th", this.places.cols)) {
      if (head.dataset.k === view.sort) head.setAttribute("aria-sort", view.dir < 0 ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    this.places.count.textContent = !db.loaded ? "" : this.list.length === all.length ? plural(all.length, "model")
      : `${n0(this.list.length)} of ${plural(all.length, "model")}`;
    this.table.setAttribute("aria-rowcount", this.list.length + 1);
    this.table.hidden = !this.list.length;
    this.nothing(all);
    this.windowed();
  }

  chips(found) {
    const choose = (key) => {
      view.chip = key;
      this.refresh();
      $("[aria-pressed=true]", this.places.chips).focus();
    };
    fill(this.places.chips, CHIPS.map(([key, label, of]) => h("button",
      { type: "button", class: "chip", "aria-pressed": String(view.chip === key), onclick: () => choose(key) },
      label, " ", bold(n0(found.filter(of).length)))));
  }

  nothing(all) {
    $(".none", this.main)?.remove();
    if (this.list.length) return;
    if (!all.length) {
      const [title, text, command, links] = blank();
      this.places.list.append(h("div", { class: "panel blank none", role: db.fault ? "alert" : "status" },
        h2(title), para(text), command && h("pre", { tabindex: 0 }, command),
        row(links)));
      return;
    }
    const reset = () => {
      Object.assign(view, { q: "", chip: "all", engine: "" });
      $("#q").value = "";
      $("#engine").value = "";
      this.refresh();
      $("#q").focus();
    };
    this.places.list.append(h("div", { class: "panel blank none" }, h2("No model matches"),
      para(view.q ? `Nothing is named like “${view.q}” in what is shown.` : "Nothing is in this state now."),
      btn("Show all models", reset)));
  }

  rowFor(model) {
    let line = this.rows.get(model.name);
    if (line) return line;
    const show = (event) => {
      if (!event.target.closest("button, a, input")) location.hash = link(model);
    };
    line = h("tr", {
      role: "row", "data-model": model.name, onclick: show,
      onmouseenter: () => light(model.name), onmouseleave: () => light(null),
      onfocusin: () => { this.setActive(model.name); light(model.name); }, onfocusout: () => light(null),
    });
    fill(line, cellsOf(model, -1));
    this.rows.set(model.name, line);
    return line;
  }

  /** One row is drawn again; what has focus in it keeps it. */
  touch(model) {
    const at = this.list.findIndex((m) => m.name === model.name);
    if (at >= 0) this.list[at] = model;
    const line = this.rows.get(model.name);
    if (!line) return;
    const cell = document.activeElement?.closest("td");
    const index = cell && line.contains(cell) ? [...line.cells].indexOf(cell) : -1;
    refill(line, cellsOf(model, model.name === this.active ? 0 : -1));
    if (index >= 0 && !line.contains(document.activeElement)) $("button, a", line.cells[index])?.focus({ preventScroll: true });
  }

  setActive(name) {
    const shown = decoded((location.hash.match(/^#\/models\/(.+)$/) || [])[1] || "");
    for (const [model, line] of this.rows) {
      line.setAttribute("aria-selected", String(shown === model));
      for (const control of $$("button, a, input", line)) control.tabIndex = model === name ? 0 : -1;
    }
    this.active = name;
  }

  rowHeight() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    return parseFloat(getComputedStyle(this.table).getPropertyValue("--row")) * rem;
  }

  queue() {
    if (this.queued) return;
    this.queued = true;
    requestAnimationFrame(() => this.windowed());
  }

  /** Draws only what is on the screen, and a little around it. */
  windowed() {
    this.queued = false;
    const height = this.rowHeight();
    const above = this.body.getBoundingClientRect().top;
    const from = Math.max(0, Math.min(this.list.length - 1, Math.floor(-above / height) - 12));
    const to = Math.min(this.list.length, from + Math.ceil(innerHeight / height) + 24);
    const wanted = this.list.slice(from, to);
    const keep = new Set(wanted.map((m) => m.name));
    const focused = document.activeElement?.closest?.("tr[data-model]");
    // Before the heights change: focus() forces a layout.
    if (focused && this.body.contains(focused) && !keep.has(focused.dataset.model)) this.table.focus({ preventScroll: true });
    this.top.firstChild.style.setProperty("--px", `${from * height}px`);
    this.end.firstChild.style.setProperty("--px", `${(this.list.length - to) * height}px`);
    for (const [name, line] of this.rows) {
      if (!keep.has(name)) {
        line.remove();
        this.rows.delete(name);
      }
    }
    if (this.body.firstChild !== this.top) this.body.prepend(this.top);
    let at = this.top;
    wanted.forEach((model, i) => {
      const line = this.rowFor(model);
      line.setAttribute("aria-rowindex", from + i + 2);
      if (at.nextSibling !== line) at.after(line);
      at = line;
    });
    if (at.nextSibling !== this.end) at.after(this.end);
    const visible = wanted.find((m) => this.rows.get(m.name).getBoundingClientRect().top > 0);
    this.setActive(keep.has(this.active) ? this.active : (visible || wanted[0])?.name);
  }

  focusRow(index) {
    if (!this.list.length) return;
    const at = Math.max(0, Math.min(this.list.length - 1, index));
    const height = this.rowHeight();
    const y = this.body.getBoundingClientRect().top + scrollY + at * height;
    if (y < scrollY + 110) scrollTo(0, y - 110);
    else if (y + height > scrollY + innerHeight - 70) scrollTo(0, y + height - innerHeight + 70);
    this.windowed();
    this.setActive(this.list[at].name);
    $(".open", this.rows.get(this.list[at].name))?.focus({ preventScroll: true });
  }

  key(event) {
    if (event.target.closest("thead") || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.list.findIndex((m) => m.name === this.active);
    const model = this.list[at];
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -1e6, End: 1e6 };
    if (steps[event.key]) {
      event.preventDefault();
      this.focusRow(at + steps[event.key]);
      return;
    }
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      const controls = $$("button, a, input", this.rows.get(this.active)).filter((control) => control.offsetParent);
      const next = controls.indexOf(document.activeElement) + (event.key === "ArrowRight" ? 1 : -1);
      event.preventDefault();
      controls[Math.max(0, Math.min(controls.length - 1, next))]?.focus();
      return;
    }
    if (!settings.shortcuts || !model) return;
    const actions = {
      p: !isResident(model) && !transfersOf(model).length && promote,
      d: isResident(model) && demote,
      i: pin,
    };
    if (actions[event.key]) {
      event.preventDefault();
      actions[event.key](model);
    }
  }
}
