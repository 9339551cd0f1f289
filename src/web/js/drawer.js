// One model, beside the list: its bytes, why it is where it is, its files, its history.

import { $, $$, btn, div, faint, fill, h, h3, li, quiet, refill, table } from "./dom.js";
import { absolute, duration, engine, plural, size, when } from "./text.js";
import { db, emit, isResident, on, transfersOf } from "./state.js";
import { place, progress } from "./bars.js";
import { demote, pin, promote, stop } from "./actions.js";
import { forgetToken, get, getGuarded, hasToken } from "./api.js";
import { change } from "./dialogs.js";

const ASK_AFTER_MS = 700;
const box = $("#drawer");
let opener = null;
let shown = null;
const isNarrow = () => matchMedia("(max-width: 74.9em)").matches;
const putBehind = (inert) => $$(".head, .notices, #main").forEach((part) => { part.inert = inert; });

/** Shows the model of that name; none closes the drawer. */
export function drawer(name) {
  const model = name && db.models.get(name);
  const wasOpen = !box.hidden;
  // What is read, pressed or typed in stays: this is only the same once more.
  if (wasOpen && model && shown === name) {
    refresh(model);
    return;
  }
  shown = model ? name : null;
  if (!model) {
    if (wasOpen) {
      box.hidden = true;
      putBehind(false);
      const back = opener?.isConnected ? opener : $("#main .models");
      back?.focus({ preventScroll: true });
    }
    emit("selected");
    emit("resize");
    return;
  }
  if (!wasOpen) opener = document.activeElement;
  draw(model);
  box.hidden = false;
  const modal = isNarrow();
  box.setAttribute("role", modal ? "dialog" : "complementary");
  if (modal) box.setAttribute("aria-modal", "true");
  else box.removeAttribute("aria-modal");
  putBehind(modal);
  if (!wasOpen || modal) {
    box.scrollTop = 0;
    box.focus({ preventScroll: true });
  }
  emit("selected");
  emit("resize");
}

export const isOpen = () => !box.hidden;

/** Keeps the open drawer current. */
export function follow() {
  on("model", (model) => { if (model.name === shown) refresh(model); });
  on("transfers", (changed) => { if (shown) progress(box, changed); });
}

// What an explanation is about; heat alone cools all the time.
const matters = (m) => JSON.stringify([m.resident_bytes, m.size_bytes, m.files, m.open, m.pinned, m.loads, m.loaded]);
let asked = "";
let askTimer = 0;

function refresh(model) {
  const top = $("[data-part=top]", box);
  if (top) fillTop(top, model);
  if (asked === matters(model)) return;
  asked = matters(model);
  clearTimeout(askTimer);
  askTimer = setTimeout(() => {
    if (shown === model.name) ask(model, $("[data-part=why]", box), $("[data-part=files]", box));
  }, ASK_AFTER_MS);
}

function draw(model) {
  const top = h("div", { "data-part": "top" });
  const why = h("div", { "data-part": "why" }, quiet("Asking …"));
  const files = h("div", { "data-part": "files" }, quiet("Asking …"));
  fillTop(top, model);
  fill(box,
    h("div", { class: "drawer-head" }, h("h2", { id: "drawer-title", class: "name" }, model.name),
      btn("Close", () => { location.hash = "#/models"; }, "small")),
    quiet(`${engine(model.kind)}, ${plural(model.files, "file")}, ${size(model.size_bytes)}`),
    top,
    h("section", {}, h3("Why is this here?"), why),
    h("section", {}, h3("Files"), files),
    h("section", {}, h3("History"), historyOf(model)));
  asked = matters(model);
  ask(model, why, files);
}

function fillTop(top, model) {
  const where = place(model);
  where.bar.classList.add("large");
  where.bar.setAttribute("role", "img");
  where.bar.removeAttribute("aria-hidden");
  where.bar.setAttribute("aria-label", where.text);
  const now = (action) => () => action(db.models.get(model.name) || model);
  refill(top,
    h("div", { class: "row-btns", role: "group", "aria-label": "Actions" },
      transfersOf(model).length ? btn("Cancel transfer", now(stop))
        : isResident(model) ? btn("Demote", now(demote)) : btn("Promote", now(promote), "main"),
      btn(model.pinned ? "Unpin" : "Pin", now(pin)),
      model.open > 0 && h("span", { class: "tag on" }, `open ${model.open}`),
      model.loaded.length > 0 && h("span", { class: "tag on" }, `loaded in ${model.loaded.join(", ")}`),
      model.pinned && h("span", { class: "tag on" }, `pinned to ${model.pinned}`)),
    h("section", {}, h3("Where its bytes are"), where.bar,
      quiet(`${where.text}; ${size(model.resident_total_bytes)} of ${size(model.size_bytes)} resident`)));
}

async function ask(model, why, files) {
  const failed = (place) => (error) => fill(place, quiet(error.message));
  await Promise.all([
    get("/models/explain", { name: model.name }).then((answer) => {
      const [first, ...rest] = answer.reasons;
      fill(why, h("p", { class: "sentence" }, first), rest.length > 0 && h("ul", { class: "reasons" }, rest.map((reason) => li(reason))));
    }).catch(failed(why)),
    hasToken() ? listFiles(model, files).catch((error) => {
      if (error.status !== 401) return failed(files)(error);
      forgetToken();
      return offerFiles(model, files);
    }) : offerFiles(model, files),
  ]);
}

async function listFiles(model, place) {
  const answer = await getGuarded("/models/which", { name: model.name });
  fill(place, table([["File", "name mono"], ["Size", "num"], ["Served from", ""]], answer.files.map((file) => [
    file.file, size(file.size_bytes), file.replicas.length ? file.replicas.map((r) => r.pool).join(", ") : "home",
  ]), "Files"), answer.files[0] && h("p", { class: "faint name mono" }, answer.files[0].home));
}

/** Paths are for those who have the token, and nobody is asked for it who only looks. */
function offerFiles(model, place) {
  fill(place, quiet("Their paths are shown to who has the token."),
    btn("Show files", () => change(() => listFiles(model, place)), "small"));
}

function historyOf(model) {
  const loads = (db.history?.loads || []).filter((load) => load.model === model.name)
    .map((load) => [load.time_ms, `loaded from ${load.pool || "its home"}, about ${duration(load.read_ms / 1000)}`]);
  const events = db.events.filter((event) => event.subject === model.name && event.kind !== "load")
    .map((event) => [event.time_ms, event.text]);
  const all = [...loads, ...events].sort(([a], [b]) => b - a).slice(0, 30);
  if (!all.length) return div(faint("Nothing since the daemon has started."));
  return h("ol", { class: "timeline" }, all.map(([time, text]) => li(when(time), h("span", { title: absolute(time) }, text))));
}

