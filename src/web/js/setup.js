// The guide to a first configuration: what was found, memory, places, and the file before it is written.

import { $, bold, btn, code, div, fill, h, h2, para, quiet, row } from "./dom.js";
import { post } from "./api.js";
import { cancel, change, close, dialog, say } from "./dialogs.js";
import { settings } from "./preferences.js";
import { plural, size } from "./text.js";

const NAMES = ["Models found", "Memory to use", "Where to mount", "Review"];
const KINDS = { ollama: "Ollama", "hugging-face": "Hugging Face", "lm-studio": "LM Studio", "llama-cpp": "llama.cpp", directory: "Directory" };
const MIB = 2 ** 20;
const POLL_MS = 300;
const CHECK_AFTER_MS = 250;

let view = null;
let choices = null;
let at = 0;
// What a person named, asked for again at each look.
let directories = [];

const body = $("#body");

function show(title, ...kids) {
  fill(body, h("h1", { tabindex: -1 }, title), kids);
  $("h1", body).focus({ preventScroll: true });
  say(title);
}

function steps() {
  fill($("#steps"), NAMES.map((name, i) => h("li", { class: i < at ? "done" : i === at ? "now" : "next", "aria-current": i === at ? "step" : null },
    i < at ? h("button", { type: "button", onclick: () => go(i) }, name) : name)));
}

function foot(label, action, props) {
  return h("div", { class: "row-btns setup-foot" }, at > 0 && btn("Back", () => go(at - 1)), btn(label, action, "main", props));
}

const faultsOf = (...keys) => (view.faults || []).filter((fault) => keys.some((key) => fault.key.startsWith(key)));

async function look(keep) {
  show("Looking at this machine", quiet("Stores of models, memory and file systems. Nothing is changed."));
  fill($("#steps"));
  const answer = await change(() => post("/setup/look", { directories }));
  if (!answer) {
    show("Not looked yet", quiet("What is found are directories of this machine, so the token is needed for looking too."), row(btn("Look at this machine", () => look(keep), "main")));
    return;
  }
  view = answer;
  // A second look adds to what was chosen; it undoes nothing.
  choices = keep ? { ...keep, cold: [...new Set([...keep.cold, ...answer.choices.cold.filter((path) => directories.includes(path))])] } : answer.choices;
  go(view.failed ? 3 : 0);
}

/** Asks what the choices mean; true if the daemon has answered. */
async function check() {
  const answer = await change(() => post("/setup/check", { choices }));
  if (answer) view = answer;
  return Boolean(answer);
}

async function go(step) {
  at = step;
  steps();
  if (step === 3 && !(await check())) return;
  [found, memory, places, review][step]();
}

function storeRow(store, i) {
  const pick = h("input", { type: "checkbox", id: `st-${i}`, checked: choices.cold.includes(store.path), disabled: Boolean(store.problem),
    onchange: () => {
      choices.cold = choices.cold.filter((path) => path !== store.path);
      if (pick.checked) choices.cold.push(store.path);
    } });
  const least = store.complete ? "" : "at least ";
  return h("div", { class: "found" }, pick, h("label", { for: `st-${i}`, class: "mono name" }, store.path),
    h("span", { class: "num quiet" }, store.problem ? "" : `${least}${plural(store.models, "model")}, ${size(store.bytes)}`),
    store.problem
      ? para(`${KINDS[store.kind]}; ${store.problem}. Remedy: ${store.remedy}.`)
      : para(`${KINDS[store.kind]}${store.file_system && ` on ${store.file_system}`}; found by: ${store.found_by}.`, store.names.length > 0 && ` ${store.names.join(", ")}${store.models > store.names.length ? ", …" : ""}`));
}

function found() {
  show(NAMES[0], quiet("What is chosen is only read, never written, moved or deleted. Nothing at all is written before the last step."),
    view.stores.length ? div(view.stores.map(storeRow)) : para("No models were found where engines keep them. Add the directory that yours are in, or go on: they can be pulled through the mount."),
    row(btn("Add a directory", addDirectory, "small")), foot("Continue", () => go(1)));
}

function addDirectory() {
  const input = h("input", { class: "input mono", id: "dir", spellcheck: "false", autocomplete: "off", placeholder: "/mnt/nas/models" });
  const wrong = h("p", { class: "err", id: "dir-e", hidden: true }, "An absolute path, beginning with /.");
  const add = () => {
    const path = input.value.trim();
    if (!path.startsWith("/")) {
      wrong.hidden = false;
      input.setAttribute("aria-invalid", "true");
      input.focus();
      return;
    }
    directories = [...directories, path];
    close();
    look(choices);
  };
  dialog("Which directory has more models?", [h("div", { class: "form" }, div(h("label", { for: "dir" }, "Directory"), input, wrong)), quiet("It is only read.")], [cancel(), btn("Look at it", add, "main")], input);
}

function memory() {
  const step = view.memory_bytes >= 16 * 1024 * MIB ? 1024 * MIB : 64 * MIB;
  const most = Math.floor((view.memory_bytes - choices.reserve_bytes) / step);
  const bar = div();
  const out = h("p", { role: "status" });
  const range = h("input", { type: "range", id: "cap", min: 1, max: most, step: 1, value: Math.round(choices.pool_bytes / step), oninput: () => {
    choices.pool_bytes = Number(range.value) * step;
    draw();
  } });
  const seg = (cls, bytes) => h("span", { class: `seg ${cls}`, "--w": `${(100 * bytes) / view.memory_bytes}%` });
  const draw = () => {
    const left = view.memory_bytes - choices.pool_bytes - choices.reserve_bytes - view.used_bytes;
    const text = `${size(choices.pool_bytes)} for models, ${size(view.used_bytes)} used by programs now, ${size(choices.reserve_bytes)} kept in reserve, ${left >= 0 ? `${size(left)} left free` : `${size(-left)} more than there is now`}.`;
    range.setAttribute("aria-valuetext", size(choices.pool_bytes));
    fill(bar, h("div", { class: "bar large", role: "img", "aria-label": text }, seg("resident", choices.pool_bytes), seg("other", view.used_bytes), seg("free", 0), seg("reserve", choices.reserve_bytes)));
    out.textContent = `${text} The pool takes memory as models come in, some in advance for the next, and gives it back when programs need it.`;
  };
  draw();
  show(NAMES[1], quiet(`This machine has ${size(view.memory_bytes)}.`),
    h("div", { class: "form" }, div(h("label", { for: "cap" }, "Size of the pool “local”"), range)), bar, out, foot("Continue", () => go(2)));
}

function places() {
  let timer = 0;
  let asked = 0;
  const field = (key, label, doc) => {
    const id = `p-${key}`;
    const fault = h("p", { class: "err", id: `${id}-e` });
    const input = h("input", { class: "input mono", id, value: choices[key], spellcheck: "false", autocomplete: "off", "aria-describedby": `${id}-e ${id}-d`,
      oninput: () => {
        choices[key] = input.value.trim();
        clearTimeout(timer);
        timer = setTimeout(judge, CHECK_AFTER_MS);
      } });
    const tell = () => {
      const faults = faultsOf(key);
      fault.textContent = faults.map((one) => one.text).join("; ");
      if (faults.length) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
      return faults.length;
    };
    return [div(h("label", { for: id }, label), input, fault, h("p", { class: "quiet", id: `${id}-d` }, doc)), tell];
  };
  const [mountpoint, tellMountpoint] = field("mountpoint", "Mount point", "Where the models are seen: the directory that engines are pointed at. It is made if it is not there.");
  const [modelsDir, tellModelsDir] = field("models_dir", "Models directory", "Where engines write new models. It is made if it is not there.");
  const next = foot("Continue", () => go(3));
  // The last question wins.
  const judge = async () => {
    const number = ++asked;
    const ok = await check();
    if (!ok || number !== asked) return;
    $(".main", next).disabled = tellMountpoint() + tellModelsDir() > 0;
  };
  show(NAMES[2], h("div", { class: "form" }, mountpoint, modelsDir),
    view.file_systems.length > 0 && h2("Room for models"), h("ul", { class: "reasons" }, view.file_systems.map((one) => h("li", {}, code(one.mount_point), ` (${one.kind}): ${size(one.free_bytes)} free of ${size(one.total_bytes)}`))), next);
  judge();
}

function review() {
  const faults = view.faults;
  show(NAMES[3], view.failed && h("div", { class: "notice bad" }, para(bold("The mount could not be made. "), `${view.failed}. The configuration was written; correct it here and it is tried again.`)),
    quiet("This is written to ", code(view.config_path), ". Every line can be changed later in Settings."),
    h("pre", { class: "diff", tabindex: 0, role: "region", "aria-label": "The configuration" }, view.toml.trimEnd().split("\n").map((line) => h("div", {}, line || " "))),
    faults.map((fault) => h("p", { class: "err" }, fault.text)),
    view.remarks.length > 0 && h("ul", { class: "reasons" }, view.remarks.map((text) => h("li", {}, text))),
    foot("Write configuration and mount", apply, { disabled: faults.length > 0 }));
}

async function apply() {
  const answer = await change(() => post("/setup/apply", { choices }));
  if (!answer) return;
  view = answer;
  if (view.state !== "written") {
    review();
    return;
  }
  show("Mounting", quiet(`${view.config_path} is written. The daemon starts with it.`));
  for (;;) {
    const health = await fetch("/health").then((response) => response.json(), () => null);
    if (health?.status === "ok") break;
    // The guide is there again: the daemon could not start, and says why.
    if (health?.status === "setup" && await check() && view.failed) return go(3);
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
  at = NAMES.length;
  steps();
  show(`Mounted at ${view.choices.mountpoint}`, quiet("Point your engine at it. What is used most is copied into RAM by itself."),
    h("dl", { class: "why" }, view.uses.map((use) => [h("dt", {}, use.engine), h("dd", {}, code(use.line))])),
    h("div", { class: "row-btns setup-foot" }, h("a", { class: "btn main", href: "/" }, "Show the models")));
}

document.documentElement.dataset.theme = settings.theme;
const health = await fetch("/health").then((response) => response.json(), () => null);
if (health && health.status !== "setup") {
  show("Set up already", para("This daemon has its configuration. Change it in Settings."), row(h("a", { class: "btn main", href: "/#/settings" }, "Open settings")));
} else {
  look(null);
}
