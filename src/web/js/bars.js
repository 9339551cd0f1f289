// Memory bars: length is bytes, all pools of a view on one ruler. And the bar of one model.

import { $, $$, bold, fill, h, refill } from "./dom.js";
import { NB, gib, percent, rate, size } from "./text.js";
import { account, isResident, isUp, isWhole, on, poolOf, pools, poolsOf, transfersOf } from "./state.js";

export const KINDS = [
  ["resident", "Resident, held", "pinned or open"],
  ["reclaimable", "Resident, reclaimable", "can be given back at once"],
  ["draining", "Draining", "demoted, still open"],
  ["arriving", "Arriving", "not readable before it is verified"],
  ["free", "Free", ""],
  ["reserve", "Withheld", "kept free on this host"],
];

export const segment = (kind, share, title, ...kids) => share > 0.0004 || kind === "free"
  ? h("span", { class: `seg ${kind}`, "--w": `${(share * 100).toFixed(3)}%`, title }, kids)
  : null;

function cells(list, pool) {
  const inPool = (m) => m.resident_bytes[pool.name];
  return [...list].sort((a, b) => inPool(b) - inPool(a)).map((m) => h("span", {
    class: `cell${m.pinned === pool.name ? " pin" : ""}`,
    "--g": Math.max(1, inPool(m) / 2 ** 20).toFixed(1),
    "data-model": m.name,
    title: `${m.name}, ${size(inPool(m))}${m.pinned ? ", pinned" : ""}${m.open ? ", open" : ""}`,
  }));
}

const barText = (pool, sums) => isUp(pool)
  ? `${pool.name}, ${size(pool.capacity_bytes)}: `
    + KINDS.map(([kind, label]) => `${label.toLowerCase()} ${size(sums[kind])}`).join("; ")
  : `${pool.name}: ${pool.state}`;

export function poolBar(pool, scale, large = false) {
  const sums = account(pool);
  const share = (bytes) => bytes / pool.capacity_bytes;
  return h("div", {
    class: `bar ${pool.kind}${large ? " large" : ""}${isUp(pool) ? "" : " off"}`,
    role: "img",
    "aria-label": barText(pool, sums),
    "--w": `${(pool.capacity_bytes / scale) * 100}%`,
  }, isUp(pool) && [
    segment("resident", share(sums.resident), "", cells(sums.held, pool)),
    segment("reclaimable", share(sums.reclaimable), "", cells(sums.unheld, pool)),
    segment("draining", share(sums.draining), `Draining, ${size(sums.draining)}`),
    sums.arrivals.map((t) => segment("arriving", share(t.total_bytes),
      `${t.file}, ${percent(t.done_bytes * 0.999, t.total_bytes)} copied`,
      h("i", { "data-transfer": t.id, "--p": `${(t.done_bytes / t.total_bytes) * 100}%` }))),
    segment("free", share(sums.free), `Free, ${size(sums.free)}`),
    segment("reserve", share(sums.reserve), `Withheld, ${size(sums.reserve)}`),
  ]);
}

export const swatch = (kind, pool = "") => h("span", { class: `bar swatch ${pool}`, "aria-hidden": "true" },
  h("span", { class: `seg ${kind}` }, kind === "arriving" && h("i", { "--p": "50%" })));

export function legend() {
  const pinned = h("span", { class: "bar swatch", "aria-hidden": "true" },
    h("span", { class: "seg resident" }, h("span", { class: "cell pin", "--g": 1 })));
  const remote = pools().some((pool) => pool.kind === "remote");
  return [
    ...KINDS.map(([kind, label, title]) => [title, swatch(kind), label]),
    remote && ["", swatch("resident", "remote"), "Remote pool"],
    ["", swatch("cold"), "Home only"],
    ["", pinned, "Pinned"],
  ].filter(Boolean).map(([title, ...kids]) => h("li", { title }, kids));
}

const STEPS = [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
function ruler(scale) {
  const all = scale / 2 ** 30;
  const most = innerWidth < 720 ? 4 : 8;
  const step = STEPS.find((candidate) => all / candidate <= most) || 2048;
  const marks = [];
  for (let at = 0; at <= all; at += step) {
    // The last mark needs the room.
    if (at !== all && at + step * 0.75 > all) continue;
    const last = at === all ? "last" : "";
    marks.push(h("span", { "--x": `${(at / all) * 100}%`, class: last }, at + (at ? NB + "GiB" : "")));
  }
  return h("div", { class: "mem-row mem-ruler", "aria-hidden": "true" },
    h("div", { class: "mem-label" }), h("div", { class: "mem-bar track" }, marks),
    h("div", { class: "mem-fig faint" }, "used of capacity, GiB"));
}

function figures(pool) {
  if (!isUp(pool)) return h("span", { class: `tag ${pool.state === "lost" ? "bad" : "warn"}` }, pool.state);
  return [bold(gib(pool.used_bytes)), h("span", { class: "quiet" }, ` of ${gib(pool.capacity_bytes)}`),
    h("div", { class: "faint" }, `${gib(pool.free_bytes)} free`)];
}

/** All pools on one scale, kept up to date. */
export function memory(place) {
  let names = "";
  const rows = new Map();
  const draw = () => {
    const shape = pools().map((pool) => `${pool.name} ${pool.capacity_bytes}`).join();
    const scale = Math.max(1, ...pools().map((pool) => pool.capacity_bytes));
    if (shape !== names) {
      names = shape;
      rows.clear();
      fill(place, ruler(scale), pools().map((pool) => {
        const bar = h("div", { class: "mem-bar" });
        const figure = h("div", { class: "mem-fig" });
        rows.set(pool.name, [bar, figure]);
        const where = pool.kind === "remote" ? "remote" : "this host";
        return h("div", { class: "mem-row" }, h("div", { class: "mem-label" },
          h("a", { href: "#/tiers" }, bold(pool.name)),
          h("div", { class: "faint" }, where, pool.speed_bytes_per_sec ? `, ${rate(pool.speed_bytes_per_sec)}` : "")),
        bar, figure);
      }));
      if (!pools().length) fill(place, h("p", { class: "quiet" }, "No pool is configured: everything is read from its home. ", h("a", { href: "#/settings" }, "Add a pool")));
    }
    for (const pool of pools()) {
      const [bar, figure] = rows.get(pool.name);
      refill(bar, poolBar(pool, scale));
      refill(figure, figures(pool));
    }
  };
  draw();
  on("pools", draw);
  on("status", draw);
  on("transfers", (changed) => progress(place, changed));
}

/** Progress touches one element and builds nothing. */
export function progress(root, changed) {
  for (const t of changed) {
    const bar = $(`[data-transfer="${t.id}"]`, root);
    if (bar) bar.style.setProperty("--p", `${(t.done_bytes / t.total_bytes) * 100}%`);
  }
}

export function light(name) {
  for (const cell of $$(".cell.lit")) cell.classList.remove("lit");
  const hits = name === null ? [] : $$(`.cell[data-model="${CSS.escape(name)}"]`);
  for (const cell of hits) cell.classList.add("lit");
  for (const bars of $$("[data-mem]")) bars.classList.toggle("lighting", hits.length > 0);
}

/** Where a model's bytes are: what its next open reads. The text says the same as the bar. */
export function place(model) {
  const segments = poolsOf(model).map((name) => {
    const kind = poolOf(name)?.kind === "remote" ? "remote" : "resident";
    return h("span", { class: `seg ${kind}`, "--w": `${(model.resident_bytes[name] / model.size_bytes) * 100}%` });
  });
  const moving = transfersOf(model);
  const running = moving.filter((t) => t.state !== "queued");
  if (running.length) {
    const done = running.reduce((total, t) => total + t.done_bytes, 0);
    segments.push(h("span", { class: "seg arriving", "--w": `${(done / model.size_bytes) * 100}%` }, h("i", { "--p": "100%" })));
  }
  const rest = h("span", { class: "seg cold" });
  rest.style.setProperty("flex", "1 1 0");
  segments.push(rest);
  const text = placeText(model, moving, running);
  const remote = poolOf(poolsOf(model)[0])?.kind === "remote" ? " remote" : "";
  return { bar: h("span", { class: `bar${remote}`, "aria-hidden": "true" }, segments), text };
}

function placeText(model, moving, running) {
  const to = moving[0]?.to;
  if (running.length) {
    const done = running.reduce((total, t) => total + t.done_bytes, 0);
    const all = running.reduce((total, t) => total + t.total_bytes, 0);
    return done >= all ? `verifying in ${to}` : `${percent(done * 0.999, all)} to ${to}`;
  }
  if (moving.length) return `queued for ${to}`;
  if (!isResident(model)) return "home only";
  const names = poolsOf(model).join(", ");
  return isWhole(model) ? names : `${percent(model.resident_total_bytes * 0.999, model.size_bytes)} ${names}, rest home`;
}

