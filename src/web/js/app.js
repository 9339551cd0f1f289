// The shell: pages, the connection, notices, theme, help, keys.

import { $, $$, bold, btn, fill, h, h3, para, row } from "./dom.js";
import { NB, ago, decoded, now, plural, rate, setNow } from "./text.js";
import { get, listen } from "./api.js";
import { db, emit, forgetListeners, isOffline, on, sum, takeAllTransfers, takeEvent, takeModels, takeTransfers, transfers } from "./state.js";
import { light } from "./bars.js";
import { close, dialog, isOpen, say, shout, toast } from "./dialogs.js";
import { connect } from "./actions.js";
import { drawer, follow, isOpen as isDrawerOpen } from "./drawer.js";
import { modelsPage } from "./models.js";
import { tiersPage } from "./tiers.js";
import { activityPage } from "./activity.js";
import { planPage } from "./plan.js";
import { settingsPage } from "./settings.js";
import { settings } from "./preferences.js";

const PAGES = {
  __proto__: null,
  models: [modelsPage, "Models"],
  tiers: [tiersPage, "Tiers"],
  activity: [activityPage, "Activity"],
  plan: [planPage, "Plan ahead"],
  settings: [settingsPage, "Settings"],
};
let shown = null;

function navigate() {
  const [name, ...rest] = location.hash.slice(2).split("/");
  const key = PAGES[name] ? name : "models";
  const main = $("#main");
  if (key !== shown) {
    forgetListeners();
    shellListeners();
    fill(main);
    scrollTo(0, 0);
    PAGES[key][0](main);
    document.title = `${PAGES[key][1]} · speedloader`;
    for (const anchor of $$(".nav a")) {
      if (anchor.hash === `#/${key}`) anchor.setAttribute("aria-current", "page");
      else anchor.removeAttribute("aria-current");
    }
    if (shown) main.focus({ preventScroll: true });
    shown = key;
  }
  drawer(key === "models" && rest.length ? decoded(rest.join("/")) : null);
}

function shellListeners() {
  const moving = () => {
    const running = transfers().filter((t) => t.state !== "queued");
    $("#moving").hidden = !running.length || isOffline();
    fill($("#moving"), plural(running.length, "transfer"), h("span", { class: "roomy" }, rate(sum(running, (t) => t.rate_bytes_per_sec))));
  };
  moving();
  on("transfers", moving);
  on("connection", moving);
  on("status", notices);
  on("connection", notices);
  on("retry", refresh);
  follow();
}

// The connection. Everything is asked for when the stream begins; from then on only what changes is sent.

const PATHS = ["/status", "/models", "/transfers", "/history", "/events"];
const RETRY_MS = [1000, 2000, 5000, 10000, 30000];
let refreshing = false;
// All has to be asked for once more: the daemon said so meanwhile.
let again = false;
// What was heard while all is asked for: it may be newer than the answers.
let held = [];
let failures = 0;
let retryTimer = 0;

async function refresh() {
  again = refreshing;
  if (refreshing) return;
  refreshing = true;
  clearTimeout(retryTimer);
  try {
    takeAll(await Promise.all(PATHS.map((path) => get(path))));
    returned();
    failures = 0;
    db.fault = null;
  } catch (error) {
    db.fault = error.message;
    retryTimer = setTimeout(refresh, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
    failures += 1;
  }
  refreshing = false;
  for (const tell of held.splice(0)) tell();
  for (const topic of ["loaded", "list", "pools", "history", "transfers", "events"]) emit(topic, topic === "transfers" ? [] : undefined);
  emit("status");
  for (const model of db.models.values()) emit("model", model);
  navigate();
  if (again) refresh();
}

function takeAll([status, models, moving, history, events]) {
  db.status = status;
  db.models = new Map(models.models.map((model) => [model.name, model]));
  takeAllTransfers(moving.transfers);
  db.history = history;
  db.events = events.events.reverse();
  db.loaded = true;
  db.measuredAt = now();
}

/** Figures are current again. */
function returned() {
  if (!isOffline()) return;
  db.offlineSince = null;
  document.documentElement.classList.remove("stale");
  toast("Connected again. Figures are current.");
  emit("connection");
}

function lost() {
  if (isOffline()) return;
  db.offlineSince = now();
  document.documentElement.classList.add("stale");
  shout("The connection to the daemon is lost.");
  emit("connection");
}

let historyTimer = 0;
function hearEvent(event) {
  takeEvent(event);
  if (event.kind !== "load") return;
  clearTimeout(historyTimer);
  historyTimer = setTimeout(async () => {
    db.history = await get("/history").catch(() => db.history);
    emit("history");
  }, 500);
}

/** Hears a message, after what is being asked for. */
const inTurn = (hear) => (data) => {
  if (refreshing) held.push(() => hear(data));
  else hear(data);
};

listen({
  hello: refresh,
  beat: (beat) => setNow(beat.now_ms),
  status: inTurn((status) => {
    db.status = status;
    db.measuredAt = now();
    emit("status");
  }),
  models: inTurn(takeModels),
  transfers: inTurn((changes) => {
    for (const t of takeTransfers(changes)) {
      say(t.state === "done" ? `${t.model || t.file} is now in ${t.to}, verified.` : `${t.model || t.file} could not be copied: ${t.why}`);
    }
  }),
  event: inTurn(hearEvent),
}, lost);

let noticed = "";
function notices() {
  const list = [];
  if (isOffline()) {
    list.push(["bad", "No connection to the daemon ", `since ${ago(db.offlineSince)}. All figures are from then. Files that are open stay readable by the kernel if the mount is up. It is tried again every 2${NB}s.`]);
  }
  for (const pool of db.status?.pools || []) {
    if (pool.state === "lost") list.push(["bad", `Pool “${pool.name}” was lost. `, "Reads fall back to the homes. No data is lost: pools hold copies only.", () => connect(pool)]);
  }
  for (const home of db.status?.homes || []) {
    if (home.state === "hung") list.push(["bad", `${home.path} does not answer. `, "What is resident is still read; all else of it waits."]);
    if (home.state === "detached") list.push(["bad", `${home.path} leads elsewhere now. `, home.role === "writable" ? "What is written goes to what was there before." : "What was there before is still shown; a rescan goes over to what is there."]);
    if (home.state === "failed") list.push(["bad", `${home.path} cannot be read. `, home.error]);
  }
  if (db.fault && db.loaded && !isOffline()) list.push(["warn", "Not all figures are current. ", `${db.fault}. Engines are not affected; it is tried again.`]);
  for (const warning of db.status?.warnings || []) list.push(["warn", "", warning]);
  const shape = JSON.stringify(list);
  $("#live").className = `live${isOffline() ? " off" : ""}`;
  $("#live span").textContent = isOffline() ? "Not connected" : "Live";
  if (shape === noticed) return;
  noticed = shape;
  fill($("#notices"), list.map(([tone, strong, text, again]) => h("div", { class: `notice ${tone}` },
    para(strong && bold(strong), text), again && row(btn("Connect again", again, "small")))));
}

const THEMES = ["auto", "light", "dark"];
function paintTheme() {
  if (!THEMES.includes(settings.theme)) settings.theme = "auto";
  document.documentElement.dataset.theme = settings.theme;
  const word = settings.theme[0].toUpperCase() + settings.theme.slice(1);
  fill($("#theme"), h("i", {}), h("span", {}, word));
  $("#theme").setAttribute("aria-label", `Theme: ${settings.theme}. Change`);
}
$("#theme").addEventListener("click", () => {
  settings.theme = THEMES[(THEMES.indexOf(settings.theme) + 1) % THEMES.length];
  settings.save();
  paintTheme();
});

const KEYS = [["/", "Search models"], ["?", "This help"], ["↑ ↓ Page Home End", "Move between models"], ["← →", "Move inside a row"],
  ["Enter", "Open details"], ["P, D, I", "On a model: promote, demote, pin"], ["Esc", "Close"]];
const WORDS = [
  ["Home", "where the one durable original lives: the models directory, or cold storage, which is never written"],
  ["Pool", "a place for copies: RAM of this host or of another one"],
  ["Replica", "a copy of a home’s file in a pool; losing it loses nothing"],
  ["Promote, demote", "make a replica in a faster pool; drop it again"],
  ["Pin", "your fixed assignment of a model to a pool"],
  ["Draining", "demoted but still open: its memory comes back when the last user closes it"],
  ["Reclaimable", "resident, but neither open nor pinned: can be given back at once"],
  ["Heat", "how often a model is loaded, recent loads counting more"],
];
function help() {
  const list = (pairs, keys) => h("dl", { class: "why" }, pairs.map(([term, text]) => [h("dt", {}, keys ? h("kbd", {}, term) : term), h("dd", {}, text)]));
  const toggle = (event) => {
    settings.shortcuts = event.target.checked;
    settings.save();
  };
  dialog("Help", [h3("Keys"), list(KEYS, true),
    h("label", { class: "row-btns" }, h("input", { type: "checkbox", checked: settings.shortcuts, onchange: toggle }), "Single-key shortcuts"),
    h3("Words"), list(WORDS, false),
    h("p", { class: "faint" }, `speedloader ${db.status?.version || ""}. GiB are 2³⁰ bytes; GB/s are 10⁹ bytes per second, as disks and networks are rated. `,
      h("a", { href: "/api/v1/openapi.json" }, "The API"))], [btn("Close", close, "main")]);
}
$("#help").addEventListener("click", help);

addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !isOpen() && isDrawerOpen()) {
    location.hash = "#/models";
    return;
  }
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
  if (!settings.shortcuts || isOpen() || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") {
    event.preventDefault();
    help();
  }
  if (event.key === "/") {
    event.preventDefault();
    if (shown !== "models") location.hash = "#/models";
    setTimeout(() => $("#q")?.focus(), shown === "models" ? 0 : 60);
  }
});
$(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("#main").focus();
});
addEventListener("hashchange", navigate);
addEventListener("scroll", () => emit("scroll"), { passive: true });
addEventListener("resize", () => emit("resize"));
document.addEventListener("mouseover", (event) => {
  const cell = event.target.closest?.(".cell");
  if (cell) light(cell.dataset.model);
  else if (event.target.closest?.("[data-mem]")) light(null);
});
document.addEventListener("click", (event) => {
  const cell = event.target.closest?.(".cell[data-model]");
  if (cell) location.hash = `#/models/${encodeURIComponent(cell.dataset.model)}`;
});

setInterval(() => {
  for (const time of $$("time[data-t]")) {
    const text = ago(Number(time.dataset.t));
    if (time.textContent !== text) time.textContent = text;
  }
  if (isOffline()) notices();
}, 5000);

$("#host").textContent = location.hostname;
paintTheme();
navigate();
