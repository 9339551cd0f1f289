// What moves, what happened, and what RAM has saved.

import { $, btn, fill, h, num, page, parts, stackable, svg, td } from "./dom.js";
import { NB, duration, gib, n0, n1, percent, plural, rate, weekday, when } from "./text.js";
import { db, on, sum, transfers } from "./state.js";
import { stopTransfer } from "./actions.js";
import { chart, drawing, empty, label, line, path } from "./chart.js";
import { link } from "./models.js";

const EVENTS_SHOWN = 200;
const KINDS = {
  all: ["All", () => true],
  load: ["Loads", (event) => event.kind === "load"],
  move: ["Moves", (event) => ["promoted", "demoted", "cancelled", "failed"].includes(event.kind)],
  fault: ["Warnings and errors", (event) => event.level !== "info"],
};
const DAY_MS = 86400e3;

export function activityPage(main) {
  main.append(page("activity"));
  const places = parts(main);
  transferRows(places);
  const charts = () => drawCharts(places);
  charts();
  on("history", charts);
  eventRows(places);
}

/** Keyed rows: progress changes text and one attribute. */
function transferRows(places) {
  const rows = new Map();
  const make = (t) => {
    const parts = { bar: h("progress", { max: 1, "aria-label": `Progress of ${t.file}` }), state: h("span", { class: "faint" }),
      bytes: num(), rate: num(), eta: num() };
    const model = t.model ? h("a", { href: link({ name: t.model }) }, t.model) : t.file;
    parts.line = h("tr", {}, h("td", { class: "name", title: t.file }, model), h("td", { class: "name" }, `→ ${t.to}`),
      h("td", { class: "p-cell" }, parts.bar, parts.state), parts.bytes, parts.rate, parts.eta, td(t.why),
      num(btn("Cancel", () => stopTransfer(t), "small", { "aria-label": `Cancel transfer of ${t.file}` })));
    places.transfers.append(parts.line);
    rows.set(t.id, parts);
    stackable(places.transfers);
    return parts;
  };
  const update = () => {
    const running = transfers();
    const keep = new Set(running.map((t) => t.id));
    for (const [id, parts] of rows) {
      if (!keep.has(id)) {
        parts.line.remove();
        rows.delete(id);
      }
    }
    for (const t of running) {
      const parts = rows.get(t.id) || make(t);
      const waits = t.state === "queued";
      parts.bar.value = t.total_bytes ? t.done_bytes / t.total_bytes : 0;
      parts.state.textContent = waits ? "queued" : `${percent(t.done_bytes * 0.999, t.total_bytes)}, ${t.state.replace("-", " ")}`;
      parts.bytes.textContent = `${gib(t.done_bytes)} / ${gib(t.total_bytes)}`;
      parts.rate.textContent = waits ? "–" : n1(t.rate_bytes_per_sec / 1e9);
      parts.eta.textContent = t.eta_s === null ? "–" : duration(t.eta_s);
    }
    const idle = $(".idle", places.transfers);
    if (running.length) idle?.remove();
    else if (!idle) places.transfers.append(h("tr", { class: "idle" }, h("td", { colspan: 8, class: "quiet" }, "Nothing is moving.")));
    if (!running.length) stackable(places.transfers);
    const copying = running.filter((t) => t.state !== "queued");
    places["tr-sum"].textContent = `${copying.length} running, ${running.length - copying.length} queued, `
      + `${rate(sum(copying, (t) => t.rate_bytes_per_sec))} together`;
  };
  update();
  on("transfers", update);
}

function drawCharts(places) {
  const figures = [0, 1, 2].map(() => h("figure", { class: "panel" }));
  const known = db.history;
  fill(places.charts, figures);
  const hours = known?.hours || [];
  const saved = sum(hours, (hour) => hour.saved_ms) / 1000;
  const bytes = sum(hours, (hour) => hour.bytes);
  const share = percent(sum(hours, (hour) => hour.resident_bytes), bytes);
  fill(places["saved-line"], known && hours.length
    ? ["RAM saved ", h("b", {}, duration(saved)), " of load time since ", when(known.since_ms), `: ${plural(sum(hours, (hour) => hour.loads), "load")}, ${share} of their bytes from RAM.`]
    : "No load was counted since the daemon has started.");
  if (!known || !hours.length) {
    empty(figures[0], "Byte hit ratio", "Shown after the first load of a model.");
    empty(figures[1], "Load times", "Shown after the first load of a model.");
    empty(figures[2], "Load time saved per day", "Shown after the first load of a model.");
    return;
  }
  hitChart(figures[0], hours, share);
  timesChart(figures[1], known);
  savedChart(figures[2], hours, saved, known);
}

function hitChart(figure, hours, share) {
  const ratio = (hour) => (hour.bytes ? hour.resident_bytes / hour.bytes : 0);
  const first = hours[0].time_ms;
  const last = Math.max(hours.at(-1).time_ms, first + 3600e3);
  const clock = (ms) => last - first > 2 * DAY_MS ? weekday(ms) : new Date(ms).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  chart(figure, "Byte hit ratio, by the hour", `${share} of the bytes that were loaded came from RAM.`, (width) => {
    const height = 190, left = 40, right = width - 12, base = height - 24;
    const x = (ms) => left + ((ms - first) / (last - first)) * (right - left);
    const y = (value) => base - value * (base - 8);
    const points = hours.map((hour) => [x(hour.time_ms), y(ratio(hour))]);
    return drawing(width, height,
      [0, 0.25, 0.5, 0.75, 1].map((value) => [line(left, y(value), right, y(value), value ? "grid" : "axis"),
        label(left - 6, y(value) + 4, `${value * 100}${value === 1 ? " %" : ""}`, "", "end")]),
      points.length > 1 && [svg("path", { class: "band", d: `${path([[left, base], ...points, [points.at(-1)[0], base]])}Z` }), svg("path", { class: "line", d: path(points) })],
      points.map(([px, py]) => svg("circle", { class: "ram", cx: px, cy: py, r: 3 })),
      label(left, height - 6, clock(first), "", "start"), label(right, height - 6, clock(last), "", "end"));
  }, ["Hour", "Loads", "Bytes from RAM"], hours.map((hour) => [when(hour.time_ms), n0(hour.loads), percent(hour.resident_bytes, hour.bytes)]));
}

function timesChart(figure, known) {
  const tiers = [["ram", "From RAM", (load) => load.resident_bytes >= load.bytes], ["cold", "From its home", (load) => load.resident_bytes < load.bytes]]
    .map(([cls, name, is]) => [cls, name, known.loads.filter(is).map((load) => load.read_ms / 1000)]);
  const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
  const all = known.loads.map((load) => Math.max(0.001, load.read_ms / 1000));
  const low = Math.log10(Math.min(...all)) - 0.1;
  const high = Math.max(Math.log10(Math.max(...all)) + 0.1, low + 1);
  const marks = [0.001, 0.01, 0.1, 1, 10, 100, 1000, 10000].filter((v) => Math.log10(v) >= low && Math.log10(v) <= high);
  const words = tiers.filter(([, , list]) => list.length).map(([, name, list]) => `${name.replace("From", "from")} ${duration(median(list))}`);
  const basis = known.home_measured ? "" : " The home’s speed is assumed until a copy has measured it.";
  chart(figure, "Load times, last loads", `Median ${words.join(", ")}; computed from bytes and measured speeds.${basis}`, (width) => {
    const height = 190, left = 104, right = width - 16, base = height - 24;
    const x = (seconds) => left + ((Math.log10(Math.max(0.001, seconds)) - low) / (high - low)) * (right - left);
    return drawing(width, height,
      marks.map((v) => [line(x(v), 4, x(v), base, "grid"), label(x(v), height - 6, `${v} s`, "", "middle")]),
      tiers.map(([cls, name, list], i) => {
        const middle = 42 + i * 74;
        const at = list.length ? median(list) : 0;
        return [label(0, middle + 4, name),
          list.slice(-300).map((seconds, n) => svg("circle", { class: `dot ${cls}`, cx: x(seconds), cy: middle + ((n * 7) % 25) - 12, r: 2.75 })),
          list.length > 0 && [line(x(at), middle - 22, x(at), middle + 22, "ink"), label(x(at) + 5, middle - 16, duration(at), "label halo")]];
      }));
  }, ["From", "Loads", "Median"], tiers.map(([, name, list]) => [name, n0(list.length), list.length ? duration(median(list)) : "–"]));
}

function savedChart(figure, hours, saved, known) {
  const days = new Map();
  for (const hour of hours) {
    const day = new Date(hour.time_ms).setHours(0, 0, 0, 0);
    days.set(day, (days.get(day) || 0) + hour.saved_ms / 1000);
  }
  const bars = [...days];
  const top = Math.max(1, ...bars.map(([, seconds]) => seconds)) * 1.15;
  chart(figure, "Load time saved per day", `${duration(saved)}, against reading everything from the homes at ${rate(known.home_bytes_per_sec)}.`, (width) => {
    const height = 190, base = height - 24, step = (width - 8) / Math.max(7, bars.length);
    return drawing(width, height, line(4, base, width - 4, base, "axis"), bars.map(([day, seconds], i) => {
      const tall = (seconds / top) * (base - 16);
      return [svg("rect", { class: "ram", x: 4 + (i + 0.18) * step, y: base - tall, width: step * 0.64, height: tall }),
        label(4 + (i + 0.5) * step, base - tall - 5, duration(seconds), "label", "middle"), label(4 + (i + 0.5) * step, height - 6, weekday(day), "", "middle")];
    }));
  }, ["Day", "Saved"], bars.map(([day, seconds]) => [weekday(day), duration(seconds)]));
}

/** The newest first; one event adds one row. */
function eventRows(places) {
  let kind = "all";
  const rowOf = (event) => {
    const tone = { error: "bad", warning: "warn" }[event.level];
    const name = db.models.has(event.subject) ? h("a", { href: link({ name: event.subject }) }, event.subject) : event.subject;
    return h("tr", {}, td(when(event.time_ms)), td(tone && [h("span", { class: `tag ${tone}` }, event.level), " "], event.kind),
      h("td", { class: "name" }, name), h("td", { class: "quiet" }, event.text));
  };
  const matches = (event) => KINDS[kind][1](event);
  const draw = () => {
    fill(places["ev-chips"], Object.entries(KINDS).map(([key, [text]]) => h("button", {
      type: "button", class: "chip", "aria-pressed": String(kind === key),
      onclick: () => { kind = key; draw(); $("[aria-pressed=true]", places["ev-chips"]).focus(); },
    }, text)));
    fill(places.events, db.events.filter(matches).slice(0, EVENTS_SHOWN).map(rowOf));
    if (!places.events.rows.length) fill(places.events, h("tr", {}, h("td", { colspan: 4, class: "quiet" }, `Nothing of this kind${NB}yet.`)));
    stackable(places.events);
  };
  draw();
  on("events", (event) => {
    if (!event || places.events.rows.length < 2) draw();
    else if (matches(event)) {
      places.events.prepend(rowOf(event));
      if (places.events.rows.length > EVENTS_SHOWN) places.events.lastElementChild.remove();
      stackable(places.events);
    }
  });
}
