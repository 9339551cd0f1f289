// Pools, homes, the memory of this host, and the placement strategy.

import { $, $$, bold, btn, div, fact, faint, fill, h, num, page, para, parts, quiet, refill, stackable, table, td } from "./dom.js";
import { gib, lastLoad, n0, plural, rate, size, when } from "./text.js";
import { account, db, isUp, on, poolOf, pools, sum } from "./state.js";
import { KINDS, poolBar, progress, segment, swatch } from "./bars.js";
import { cancel, change, close, dialog, toast } from "./dialogs.js";
import { connect, disconnect } from "./actions.js";
import { getGuarded, post } from "./api.js";

const GIB = 2 ** 30;
const STRATEGIES = [
  ["fastest-fit", "Fastest fit", "The fastest pool that has room; the next one if not."],
  ["fill-first", "Fill first", "Fill the pools in the order they are configured."],
  ["round-robin", "Round robin", "The pools in turn: useful with two equal NUMA nodes."],
];

export function tiersPage(main) {
  main.append(page("tiers"));
  const places = parts(main);
  const drawPools = () => {
    refill(places.pools, pools().map(poolPanel));
  };
  let before = "";
  const draw = () => {
    // Only what is shown of the status decides whether anything is drawn again.
    const shape = JSON.stringify([pools(), db.models.size]);
    if (shape !== before) drawPools();
    before = shape;
    drawHost(places);
  };
  draw();
  on("status", draw);
  on("pools", () => { before = ""; draw(); });
  on("transfers", (changed) => progress(places.pools, changed));
  drawHomes(places.homes);
  on("status", () => drawHomes(places.homes));
  let strategy = db.status?.policy.strategy;
  drawStrategy(places.strategy);
  on("loaded", () => drawStrategy(places.strategy));
  // It is also changed elsewhere.
  on("status", () => {
    if (strategy !== db.status?.policy.strategy) drawStrategy(places.strategy);
    strategy = db.status?.policy.strategy;
  });
  $("[data-act=add-pool]", main).addEventListener("click", addPool);
}

function poolPanel(pool) {
  const sums = account(pool);
  const act = (label, action) => btn(label, () => action(poolOf(pool.name) || pool), "small", { "aria-label": `${label} ${pool.name}` });
  const tone = { connected: "on", lost: "bad", connecting: "warn", draining: "warn" }[pool.state] || "";
  const kind = pool.kind === "remote" ? "Remote pool" : "Local pool";
  // While it has given memory back, the bar is as long as what is left of what it may have.
  const target = Math.max(pool.configured_bytes, pool.capacity_bytes);
  const given = target - pool.capacity_bytes;
  const drains = "Demoted models that somebody still reads; their memory comes back when the last reader closes them.";
  return h("section", { class: "panel", "aria-labelledby": `pool-${pool.name}` },
    h("div", { class: "panel-head" }, h("h2", { id: `pool-${pool.name}` }, pool.name), h("span", { class: `tag ${tone}` }, pool.state),
      faint(`${kind} at `, h("span", { class: "mono" }, pool.path)),
      h("div", { class: "row-btns end" },
        isUp(pool) && [act("Resize", resize), act("Disconnect", disconnect)],
        ["disconnected", "lost"].includes(pool.state) && act("Connect", connect))),
    isUp(pool) && [
      h("div", { "data-mem": true, class: given > 0 ? "target" : "" }, poolBar(pool, target, true)),
      h("dl", { class: "facts" },
        KINDS.map(([key, label]) => fact([swatch(key, pool.kind), label], size(sums[key]))),
        fact(given > 0 ? "Capacity now" : "Capacity", size(pool.capacity_bytes)),
        given > 0 && fact("Given back to programs", size(given)),
        given > 0 && fact("Capacity when there is memory", size(target)),
        pool.prefaulted_bytes > 0 && fact("Of Free, ready for the next models", size(pool.prefaulted_bytes)),
        fact("Models", n0(sums.held.length + sums.unheld.length)),
        fact("Read speed, measured", rate(pool.speed_bytes_per_sec))),
      given > 0 && h("p", { class: "faint" }, "Programs needed memory, so the pool became smaller. It grows again by itself; no data is lost."),
      sums.draining > 0 && h("p", { class: "faint" }, drains)],
    pool.state === "lost" && para("It cannot be reached. Reads fall back to the homes, and no data is lost: pools hold copies only."),
    pool.state === "disconnected" && quiet("Not connected. It takes no memory."),
    showsSteps(pool) && stepList(pool));
}

/** The steps of a bring-up or tear-down: while it goes on, and after one that failed until the next. */
const showsSteps = (pool) => pool.steps?.length > 0 &&
  (pool.state === "connecting" || pool.steps.some((step) => ["running", "failed"].includes(step.state)));

function stepList(pool) {
  const look = { done: "done", found: "done", running: "now", failed: "failed" };
  return h("ol", { class: "steps", "aria-label": `Steps of ${pool.name}` }, pool.steps.map((step) =>
    h("li", { class: look[step.state] || "next", "aria-current": step.state === "running" ? "step" : null },
      step.state === "failed" ? bold(step.step) : h("span", {}, step.step),
      faint(["waiting", "running"].includes(step.state) ? step.state : `${step.state}, ${(step.elapsed_ms / 1000).toFixed(1)} s`),
      step.text && para(step.text))));
}

function drawHomes(place) {
  refill(place, (db.status?.homes || []).map((home) => {
    const state = { ok: null, scanning: "being read", hung: "does not answer", detached: "not what is at its path now", failed: home.error }[home.state];
    const rule = home.role === "writable" ? "writable" : "never written";
    return h("tr", {}, h("td", { class: "mono name" }, home.path),
      td(home.role === "writable" ? "Models directory" : "Cold storage", " ", h("span", { class: "tag on" }, rule),
        state && [" ", h("span", { class: `tag ${home.state === "scanning" ? "warn" : "bad"}` }, state)]),
      td(home.kind), num(n0(home.files)), num(gib(home.size_bytes)), td(when(home.last_scan_ms)));
  }));
  stackable(place);
}

function drawHost(places) {
  const memory = db.status?.memory;
  if (!memory) return;
  const inPools = sum(pools().filter((pool) => pool.kind === "local" && isUp(pool)), (pool) => pool.used_bytes + pool.prefaulted_bytes);
  const free = Math.max(0, memory.available_bytes - memory.reserve_bytes);
  const reserve = Math.min(memory.available_bytes, memory.reserve_bytes);
  const measured = [
    ["resident", "Pools", inPools],
    ["other", "Engines and programs", Math.max(0, memory.total_bytes - memory.available_bytes - inPools)],
    ["free", "Available", free],
    ["reserve", "Reserve, left to others", reserve],
  ];
  refill(places.hostnote, `${gib(memory.total_bytes)} GiB, as the kernel says`);
  refill(places.host,
    h("div", { class: "bar large", role: "img", "aria-label": measured.map(([, label, bytes]) => `${label} ${size(bytes)}`).join(", ") },
      measured.map(([kind, , bytes]) => segment(kind, bytes / memory.total_bytes))),
    pressure(memory),
    h("dl", { class: "facts" }, measured.map(([kind, label, bytes]) => fact([swatch(kind), label], size(bytes)))));
}

/** What the memory reserve means now; the daemon acts when less than seven eighths of it are available. */
function pressure(memory) {
  const short = memory.reserve_bytes - memory.available_bytes;
  const back = memory.held_back_bytes ? ` Pools have given ${size(memory.held_back_bytes)} back.` : "";
  if (memory.reserve_bytes > 0 && memory.available_bytes < memory.reserve_bytes * 7 / 8) {
    return h("p", { class: "pressure" }, bold("Memory is short. "), `${size(short)} of the reserve are in use by programs; pools give back until it is whole.${back}`);
  }
  return h("p", { class: "quiet pressure" }, memory.reserve_bytes ? `The reserve is ${short > 0 ? "nearly " : ""}whole.${back}` : `No reserve is kept.${back}`);
}

function drawStrategy(place) {
  const now = db.status?.policy.strategy;
  const choose = async (value, label) => {
    const draft = await change(() => post("/settings", { changes: [{ key: "placement.strategy", value }] }));
    if (draft?.faults.length) toast(`Not saved: ${draft.faults[0].text}.`);
    else if (draft) {
      toast(`Placement strategy is now ${label}. It counts for the next promotion; nothing moves.`);
      return;
    }
    // What was not done is not shown as if it were.
    for (const input of $$("input", place)) input.checked = input.value === db.status?.policy.strategy;
  };
  fill(place, h("fieldset", {}, h("legend", { class: "vh" }, "Placement strategy"),
    STRATEGIES.map(([value, label, doc]) => h("label", { class: "choice" },
      h("input", { type: "radio", name: "strategy", value, checked: value === now, onchange: () => choose(value, label.toLowerCase()) }),
      bold(label), h("span", {}, doc)))));
}

function resize(pool) {
  const sums = account(pool);
  const least = Math.max(1 << 20, sums.resident + sums.draining + sums.arriving);
  const most = Math.max(pool.capacity_bytes, db.status.memory.total_bytes);
  const step = most > 64 * GIB ? GIB : GIB / 16;
  // Steps go from what it is now, so that leaving it alone means nothing else.
  const lowest = pool.capacity_bytes - Math.max(0, Math.floor((pool.capacity_bytes - least) / step)) * step;
  const preview = div();
  const shown = h("output", { for: "cap" });
  let gone = [];
  const input = h("input", { id: "cap", type: "range", min: lowest, max: most, step, value: pool.capacity_bytes, oninput: () => draw() });
  const go = () => {
    const capacity = Number(input.value);
    close();
    change(async () => {
      if (gone.length) await post("/models/demote", { names: gone.map((m) => m.name) });
      await post(`/tiers/${encodeURIComponent(pool.name)}/resize`, { capacity: `${Math.round(capacity / 2 ** 20)}MiB` });
      toast(`${pool.name} may hold ${size(capacity)} now.`);
    });
  };
  const ok = btn("Resize", go, "main");
  function draw() {
    const capacity = Number(input.value);
    gone = [];
    const excess = Math.max(0, pool.used_bytes - capacity);
    // Copies that were left behind go before any model.
    const left = Math.min(pool.spare_bytes, excess);
    let over = excess - left;
    for (const model of [...sums.unheld].sort((a, b) => a.heat - b.heat)) {
      if (over <= 0) break;
      gone.push(model);
      over -= model.resident_bytes[pool.name];
    }
    ok.disabled = capacity === pool.capacity_bytes;
    input.setAttribute("aria-valuetext", size(capacity));
    shown.textContent = size(capacity);
    const moved = sum(gone, (m) => m.resident_bytes[pool.name]);
    fill(preview, h("div", { class: "before-after" },
      h("span", { class: "quiet" }, "Now"), poolBar(pool, most),
      h("span", { class: "quiet" }, "After"), h("div", { class: `bar ${pool.kind}`, role: "img", "aria-label": size(capacity), "--w": `${(capacity / most) * 100}%` },
        ["resident", "reclaimable", "draining", "arriving", "free"].map((kind) =>
          segment(kind, (kind === "reclaimable" ? Math.max(0, sums[kind] - moved - left) : sums[kind]) / capacity)))),
    h("p", { role: "status" }, says(capacity, moved)),
    gone.length > 0 && table([["Demoted", "name"], ["GiB", "num"], ["Last loaded"]],
      gone.map((m) => [m.name, gib(m.resident_bytes[pool.name]), lastLoad(m)]), "What will move"));
  }
  function says(capacity, moved) {
    if (gone.length) return `Shrinking to ${size(capacity)} demotes ${plural(gone.length, "model")}, ${size(moved)}.`;
    if (ok.disabled) return `From ${size(lowest)} (pinned, open and draining models stay) to the ${size(most)} of this host.`;
    if (capacity > pool.capacity_bytes) return `Adds ${size(capacity - pool.capacity_bytes)}. Nothing moves.`;
    return `Gives back ${size(pool.capacity_bytes - capacity)} of free room. Nothing moves.`;
  }
  dialog(`Resize ${pool.name}`, [h("div", { class: "form" }, div(h("label", { for: "cap" }, "Capacity: ", shown), input)), preview,
    quiet("It counts until the next mount; the size in Settings is what stays.")], [cancel(), ok], input);
  draw();
}

async function addPool() {
  const fields = await change(() => getGuarded("/settings"));
  if (!fields) return;
  const index = new Set(fields.fields.filter((f) => f.key.startsWith("pool[")).map((f) => f.key.split("]")[0])).size;
  const name = h("input", { class: "input", id: "np-name", value: index ? `local-${index}` : "local", "aria-describedby": "np-err" });
  const capacity = h("input", { class: "input", id: "np-cap", value: "8GiB", "aria-describedby": "np-err np-doc" });
  const fault = h("p", { class: "err", id: "np-err" });
  const changes = () => [{ key: `pool[${index}].name`, value: name.value.trim() }, { key: `pool[${index}].capacity`, value: capacity.value.trim() }];
  const go = () => change(async () => {
    const draft = await post("/settings", { changes: changes() });
    if (draft.faults.length) {
      fault.textContent = draft.faults.map((f) => f.text).join("; ");
      return;
    }
    close();
    toast(`${name.value.trim()} is written to the configuration. It is set up at the next mount.`);
  });
  dialog("Add a pool", [h("div", { class: "form" },
    div(h("label", { for: "np-name" }, "Name"), name),
    div(h("label", { for: "np-cap" }, "Capacity"), capacity, h("p", { class: "faint", id: "np-doc" }, "A size, or a share of this machine’s RAM.")), fault),
  quiet("It is written to the configuration and set up at the next mount. It takes memory as models come in, and some in advance for the next.")],
  [cancel(), btn("Add", go, "main")], name);
}

