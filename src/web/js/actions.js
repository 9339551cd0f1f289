// What can be done to models and pools. Each says beforehand what will move, and goes on by what the daemon answers.

import { btn, bullets, h, para, quiet, table } from "./dom.js";
import { get, post, remove } from "./api.js";
import { cancel, change, close, dialog, toast } from "./dialogs.js";
import { duration, gib, lastLoad, plural, size } from "./text.js";
import { account, isUp, pools, poolOf, poolsOf, readTime, sum, transfersOf } from "./state.js";

const list = (models, columns) => table(
  columns.map(([head, , cls]) => [head, cls]),
  models.map((model) => columns.map(([, cell]) => cell(model))), "What will move");

const moved = (answer) => answer.moves[0];

export function promote(model, pool) {
  const go = () => change(async () => {
    const answer = moved(await post("/models/promote", { names: [model.name], pool }));
    const to = answer.pool || pool;
    if (answer.outcome === "already") {
      toast(`${model.name} is in ${to} already.`);
      return;
    }
    const instead = answer.text ? `, ${answer.text}` : "";
    toast(`Promoting ${model.name} to ${to}: ${size(answer.bytes)}${instead}.`, "Cancel", () => stop(model));
  });
  const target = pool ? poolOf(pool) : pools().filter(isUp).find((p) => p.free_bytes >= model.size_bytes);
  if (target && target.free_bytes >= model.size_bytes - model.resident_total_bytes) return go();
  const up = pools().filter(isUp);
  if (!up.length) {
    return dialog("No pool is connected", [para("A model is promoted into a pool, and none is connected.")],
      [cancel("Close"), h("a", { class: "btn main", href: "#/tiers", onclick: close }, "Go to tiers")]);
  }
  const room = (p) => p.free_bytes + account(p).reclaimable;
  const best = pool ? poolOf(pool) : up.find((p) => room(p) >= model.size_bytes) || up[0];
  const unheld = [...account(best).unheld].sort((a, b) => a.heat - b.heat);
  return dialog(`Make room in ${best.name}?`, [
    para(`${model.name} needs ${size(model.size_bytes)}, and ${size(best.free_bytes)} are free in ${best.name}. `
      + "Models that are neither open nor pinned can make room: the daemon takes those whose loads save least, of these:"),
    list(unheld, [["Model", (m) => m.name, "name"], ["GiB", (m) => gib(m.resident_bytes[best.name]), "num"],
      ["Last loaded", (m) => lastLoad(m), ""]]),
  ], [cancel(), btn("Promote and make room", () => { close(); go(); }, "main")]);
}

/** Ends copies, and says which of them had ended before. */
async function end(running, name, where) {
  const ends = await Promise.allSettled(running.map((t) => remove(`/transfers/${t.id}`)));
  const late = ends.filter((one) => one.status === "rejected");
  const other = late.find((one) => one.reason.code !== "no-such-transfer");
  if (other) throw other.reason;
  toast(late.length === ends.length ? `Nothing was cancelled: ${name} was not being copied any more.`
    : `Cancelled. The unfinished copy of ${name} is removed${where}.`);
}

export function stop(model) {
  return change(() => end(transfersOf(model), model.name, ""));
}

export const stopTransfer = (transfer) => change(() => end([transfer], transfer.file, ` from ${transfer.to}`));

export function demote(model) {
  const from = poolsOf(model)[0];
  const pool = poolOf(from);
  const go = () => change(async () => {
    const answer = moved(await post("/models/demote", { names: [model.name] }));
    const later = answer.outcome === "draining" ? ` ${answer.text}.` : "";
    toast(`Demoted ${model.name} from ${from}.${later}`, "Promote again", () => promote(model, from));
  });
  if (!model.open && !model.pinned) return go();
  const slow = duration(readTime(model.size_bytes));
  const fast = duration(readTime(model.size_bytes, pool));
  return dialog("Demote this model?", [h("p", { class: "name" }, model.name), bullets([
    model.open && `It is open. Nothing is taken away from who reads it: ${size(model.resident_bytes[from])} in ${from} drain until the last one closes it.`,
    model.pinned && `It is pinned to ${model.pinned}; unpin it first, or the daemon refuses.`,
    `Next load: from its home, about ${slow} instead of ${fast}, at the measured speeds.`,
  ])], [cancel(), btn("Demote", () => { close(); go(); }, "main")]);
}

export function pin(model) {
  if (model.pinned) {
    return change(async () => {
      await post("/models/unpin", { name: model.name });
      toast(`Unpinned ${model.name}. It stays where it is until something hotter needs the room.`);
    });
  }
  const up = pools().filter(isUp);
  const go = (pool) => change(async () => {
    const answer = moved(await post("/models/pin", { name: model.name, pool }));
    const rest = answer.outcome === "started" ? " It is being promoted." : "";
    toast(`Pinned ${model.name} to ${pool}.${rest}`);
  });
  if (up.length === 1) return go(up[0].name);
  const select = h("select", { id: "pin-pool" }, up.map((p) => h("option", { value: p.name }, p.name)));
  const at = poolsOf(model)[0];
  if (at) select.value = at;
  return dialog("Pin to which pool?", [h("p", { class: "name" }, model.name),
    h("div", { class: "form" }, h("div", {}, h("label", { for: "pin-pool" }, "Pool"), select))],
  [cancel(), btn("Pin", () => { close(); go(select.value); }, "main")], select);
}

/** Says what became of several models: what was done, and of the others why not. */
function tellAll(verb, answer) {
  const refused = answer.moves.filter((m) => ["refused", "unknown"].includes(m.outcome));
  const already = answer.moves.filter((m) => m.outcome === "already");
  const done = answer.moves.filter((m) => !refused.includes(m) && !already.includes(m));
  const draining = done.filter((m) => m.outcome === "draining");
  const text = [
    done.length > 0 && `${verb} ${plural(done.length, "model")}, ${size(sum(done, (m) => m.bytes))}.`,
    draining.length > 0 && `${plural(draining.length, "is", "are")} still read; their memory comes back when the last reader closes them.`,
    already.length > 0 && `${plural(already.length, "was", "were")} there already.`,
    refused.length > 0 && `${plural(refused.length, "was", "were")} refused.`,
  ].filter(Boolean).join(" ");
  toast(text);
  if (!refused.length) return;
  dialog(done.length ? "Not all of it was done" : "Not done", [para(text),
    table([["Model", "name"], ["Why", ""]], refused.map((m) => [m.name, m.text]), "What was refused")], [cancel("Close")]);
}

export function demoteAll(models) {
  const go = () => change(async () => tellAll("Demoted", await post("/models/demote", { names: models.map((m) => m.name) })));
  const open = models.filter((m) => m.open > 0);
  const pinned = models.filter((m) => m.pinned);
  if (!open.length && !pinned.length) return go();
  return dialog(`Demote ${plural(models.length, "model")}?`, [bullets([
    open.length && `${plural(open.length, "is", "are")} open. Nothing is taken away from who reads: they drain until the last reader closes them.`,
    pinned.length && `${plural(pinned.length, "is", "are")} pinned, and the daemon refuses those; unpin them first.`,
  ]), list([...new Set([...open, ...pinned])], [["Model", (m) => m.name, "name"], ["GiB", (m) => gib(m.resident_total_bytes), "num"],
    ["State", (m) => [m.open && "open", m.pinned && `pinned to ${m.pinned}`].filter(Boolean).join(", "), ""]])],
  [cancel(), btn(`Demote ${models.length}`, () => { close(); go(); }, "main")]);
}

export function promoteAll(models) {
  const go = () => change(async () => tellAll("Promoting", await post("/models/promote", { names: models.map((m) => m.name) })));
  const missing = sum(models, (m) => m.size_bytes - m.resident_total_bytes);
  const up = pools().filter(isUp);
  const free = sum(up, (p) => p.free_bytes);
  if (missing <= free) return go();
  const unheld = [...new Set(up.flatMap((p) => account(p).unheld))].filter((m) => !models.includes(m)).sort((a, b) => a.heat - b.heat);
  return dialog(`Make room for ${plural(models.length, "model")}?`, [
    para(`They need ${size(missing)}, and ${size(free)} are free. `
      + (unheld.length ? "Models that are neither open nor pinned can make room: the daemon takes those whose loads save least, of these:"
        : "Nothing can make room; what does not fit is refused.")),
    unheld.length > 0 && list(unheld, [["Model", (m) => m.name, "name"], ["GiB", (m) => gib(m.resident_total_bytes), "num"], ["Last loaded", (m) => lastLoad(m), ""]]),
  ], [cancel(), btn("Promote and make room", () => { close(); go(); }, "main")]);
}

export const connect = (pool) => change(async () => {
  await post(`/tiers/${encodeURIComponent(pool.name)}/connect`);
  toast(`${pool.name} is connected.`);
});

export async function disconnect(pool) {
  const path = `/tiers/${encodeURIComponent(pool.name)}`;
  const plan = await get(`${path}/moves`).catch(() => ({ moves: [] }));
  const to = (m) => plan.moves.find((row) => row.model === m.name && row.from === pool.name)?.to || "home";
  const { held, unheld, arrivals } = account(pool);
  const all = [...held, ...unheld].sort((a, b) => b.heat - a.heat);
  const open = all.filter((m) => m.open > 0);
  const pins = all.filter((m) => m.pinned === pool.name);
  const go = () => change(async () => {
    const answer = moved(await post(`${path}/disconnect`, { force: open.length > 0 }));
    toast(`${pool.name}: ${answer.text}.`, "Connect again", () => connect(pool));
  });
  const bytes = sum(all, (m) => m.resident_bytes[pool.name]);
  return dialog(`Disconnect ${pool.name}?`, [
    para(`${plural(all.length, "model")} (${size(bytes)}): what other pools have room for moves there, the rest is demoted. Originals stay in their homes.`),
    bullets([
      open.length && `${plural(open.length, "model is", "models are")} open. The memory comes back only when the last reader closes them; until then they drain and are read from here.`,
      pins.length && `${plural(pins.length, "pin")} to ${pool.name} will wait for it to be connected again.`,
      arrivals.length && `${plural(arrivals.length, "running transfer")} into it will be cancelled.`,
    ]),
    all.length > 0 && list(all, [["Model", (m) => m.name, "name"], ["GiB", (m) => gib(m.resident_bytes[pool.name]), "num"],
      ["State", (m) => (m.open ? "open" : m.pinned ? "pinned" : ""), ""], ["Goes to", to, ""],
      ["Load time", (m) => `${duration(readTime(m.size_bytes, pool))} → ${duration(readTime(m.size_bytes, poolOf(to(m))))}`, "num"]]),
  ], [cancel("Keep connected"), btn("Empty and disconnect", () => { close(); go(); }, "main")]);
}
