// What the page knows of the daemon, and who wants to hear of what. Listeners live as long as the page shown.

export const db = {
  status: null,
  models: new Map(),
  transfers: new Map(),
  history: null,
  events: [],
  loaded: false,
  fault: null,
  offlineSince: null,
  measuredAt: 0,
};
const EVENTS_MAX = 1000;

const bus = new Map();
export const on = (topic, hear) => {
  if (!bus.has(topic)) bus.set(topic, new Set());
  bus.get(topic).add(hear);
};
export const emit = (topic, about) => bus.get(topic)?.forEach((hear) => hear(about));
export const forgetListeners = () => bus.clear();

export const models = () => [...db.models.values()];
export const pools = () => db.status?.pools || [];
export const poolOf = (name) => pools().find((pool) => pool.name === name);
export const isUp = (pool) => pool.state === "connected";
const ENDED = new Set(["done", "failed", "cancelled"]);
// What runs or waits, in all and by model: asked for by every row, so it is sorted out once a change.
let running = [];
let runningOf = new Map();

export function takeAllTransfers(list) {
  db.transfers = new Map(list.map((t) => [t.id, t]));
  sortOut();
}

function sortOut() {
  running = [...db.transfers.values()].filter((t) => !ENDED.has(t.state));
  runningOf = Map.groupBy ? Map.groupBy(running, (t) => t.model) : new Map(running.map((t) => [t.model, running.filter((other) => other.model === t.model)]));
}

export const transfers = () => running;
export const transfersOf = (model) => runningOf.get(model.name) || [];
export const sum = (list, of) => list.reduce((total, item) => total + of(item), 0);
export const isResident = (model) => model.resident_total_bytes > 0;
export const isWhole = (model) => model.resident_percent >= 100;
export const poolsOf = (model) => Object.keys(model.resident_bytes).filter((name) => model.resident_bytes[name] > 0);
export const isOffline = () => db.offlineSince !== null;
export const coldOnly = () => (db.status?.homes || []).some((home) => home.role === "cold");

const homeSpeed = () => db.history?.home_bytes_per_sec || 1e9;
/** Seconds that reading so many bytes takes from a pool, or from a home. */
export const readTime = (bytes, pool) => bytes / Math.max(1, pool ? pool.speed_bytes_per_sec : homeSpeed());

/** A pool's bytes in the order in which its bar shows them; all measured. */
export function account(pool) {
  const inside = models().filter((m) => m.resident_bytes[pool.name] > 0);
  const isHeld = (m) => m.open > 0 || m.pinned === pool.name;
  const arrivals = transfers().filter((t) => t.to === pool.name && t.state !== "queued");
  const arriving = sum(arrivals, (t) => t.total_bytes);
  // What is allocated for copies that are not complete.
  const unfinished = Math.max(0, arriving - pool.reserved_bytes);
  const whole = Math.max(0, pool.used_bytes - pool.draining_bytes - unfinished);
  const held = inside.filter(isHeld);
  const unheld = inside.filter((m) => !isHeld(m));
  // Files that several models share are counted once by the pool.
  const resident = Math.min(whole, sum(held, (m) => m.resident_bytes[pool.name]));
  const reserve = pool.capacity_bytes - pool.used_bytes - pool.reserved_bytes - pool.free_bytes;
  return {
    held, unheld, arrivals, arriving, resident,
    reclaimable: whole - resident,
    draining: pool.draining_bytes,
    free: pool.free_bytes,
    reserve: Math.max(0, reserve),
    used: pool.used_bytes,
  };
}

/** Takes over rows that changed; says which. */
export function takeModels({ changed, gone }) {
  for (const name of gone) db.models.delete(name);
  const isNew = gone.length > 0 || changed.some((m) => !db.models.has(m.name));
  for (const model of changed) db.models.set(model.name, model);
  if (isNew) emit("list");
  for (const model of changed) emit("model", model);
  emit("pools");
}

export function takeTransfers({ changed, gone }) {
  const before = db.transfers;
  const ended = [];
  for (const id of gone) before.delete(id);
  for (const transfer of changed) {
    const was = before.get(transfer.id);
    before.set(transfer.id, transfer);
    if (was && was.state !== transfer.state && ["done", "failed"].includes(transfer.state)) ended.push(transfer);
  }
  sortOut();
  emit("transfers", changed);
  const touched = new Set(changed.map((t) => t.model));
  for (const name of touched) {
    const model = db.models.get(name);
    if (model) emit("model", model);
  }
  return ended;
}

export function takeEvent(event) {
  // It may have been asked for and sent.
  if (db.events.some((known) => known.seq === event.seq)) return;
  db.events.unshift(event);
  db.events.length = Math.min(db.events.length, EVENTS_MAX);
  emit("events", event);
}
