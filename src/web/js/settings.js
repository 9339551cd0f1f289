// Every field of the configuration as a form. The daemon validates; the page shows what it says.

import { $, bold, btn, code, div, fill, h, h2, page, para, parts, quiet, row } from "./dom.js";
import { plural } from "./text.js";
import { forgetToken, getGuarded, hasToken, post, Refusal } from "./api.js";
import { cancel, change, close, dialog, refused, toast } from "./dialogs.js";

const CHECK_AFTER_MS = 250;
const SECTIONS = {
  "": "Places", cold: "Cold storage", pool: "Pool", remote: "Remote pool", placement: "Placement", policy: "Policy", mover: "Copying",
  cache: "Kernel cache", union: "Tree", mount: "Mount", http: "Web page", control: "Command socket", log: "Log",
};

// What is not saved yet outlives the page's being left for another one.
let unsaved = [];
addEventListener("beforeunload", (event) => { if (unsaved.length) event.preventDefault(); });

export async function settingsPage(main) {
  main.append(page("settings"));
  const places = parts(main);
  const isShown = () => main.contains(places.form);
  const offer = (title, text, label, again) => fill(places.form,
    h("div", { class: "panel blank", role: "alert" }, h2(title), para(text), row(btn(label, again, "main"))));
  const show = async () => {
    try {
      const answer = await getGuarded("/settings");
      if (isShown()) new Form(places, answer);
    } catch (error) {
      if (error.status === 401) forgetToken();
      if (isShown()) offer("The configuration could not be read", error.message, "Try again", begin);
    }
  };
  // It names directories and machines, so it is shown to who has the token; who only looks is not asked for it.
  const begin = () => (hasToken() ? show()
    : offer("The configuration is shown to who has the token", "It names directories and machines that others may not see.", "Show settings", () => change(() => getGuarded("/version")).then((known) => known && show())));
  await begin();
}

const sectionOf = (key) => (key.includes(".") ? key.slice(0, key.lastIndexOf(".")) : "");
function titleOf(section) {
  const [, word, item] = section.match(/^([a-z]+)?\[?\.?(.*?)\]?$/) || [];
  const title = SECTIONS[word || ""] || word;
  if (section.startsWith("placement.pins")) return "Pins";
  return /\[/.test(section) ? `${title} ${Number(item) + 1}` : item ? `${title} ${item}` : title;
}
const nameOf = (key) => {
  const last = key.slice(key.lastIndexOf(".") + 1).replace(/_/g, " ");
  return last[0].toUpperCase() + last.slice(1);
};

class Form {
  constructor(places, answer) {
    this.places = places;
    this.path = answer.path;
    this.fields = new Map(answer.fields.map((field) => [field.key, { ...field, now: field.value }]));
    this.added = [];
    this.draft = null;
    this.timer = 0;
    this.asked = 0;
    // Why what was changed is not judged.
    this.fault = "";
    fill(places.where, answer.path ? ["Saved to ", code(answer.path), "; your comments in it are kept."]
      : "The daemon was started without a configuration file: nothing can be saved.");
    for (const { key, value } of unsaved) {
      if (this.fields.has(key)) this.fields.get(key).now = value;
      else this.added.push({ key, value });
    }
    this.draw();
    if (unsaved.length) this.changed();
    places.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.review();
    });
  }

  draw() {
    const sections = new Map();
    for (const field of this.fields.values()) {
      const section = sectionOf(field.key);
      if (!sections.has(section)) sections.set(section, []);
      sections.get(section).push(this.rowOf(field));
    }
    fill(this.places.form, [...sections].map(([section, rows]) => {
      const title = titleOf(section);
      const goes = this.goes(section);
      const act = goes ? "Keep" : "Remove";
      return h("section", { class: `panel ${goes ? "goes" : ""}`, "aria-label": title }, h("div", { class: "panel-head" }, h2(title),
        goes && h("span", { class: "tag warn" }, "is removed when saved"),
        /^(pool|cold)\[/.test(section) && h("div", { class: "row-btns end" }, btn(act, () => this.removeOrKeep(section), "small", { "aria-label": `${act} ${title}` }))), rows);
    }), row(btn("Add cold storage", () => this.addItem("cold", "path", "/"), "small"), btn("Add a pool", () => this.addItem("pool", "name", "local-2"), "small")));
    this.bar();
  }

  rowOf(field) {
    const id = `f-${field.key.replace(/\W/g, "-")}`;
    const fault = h("p", { class: "err", id: `${id}-e` });
    const set = (value) => { field.now = value; this.changed(); };
    const common = { id, "aria-describedby": `${id}-e ${id}-d`, disabled: field.overridden || !this.path };
    let input;
    if (field.kind === "choice") {
      input = h("select", { ...common, onchange: () => set(input.value) }, field.choices.map((word) => h("option", { value: word }, word)));
      input.value = field.now;
    } else if (field.kind === "switch") {
      input = h("input", { type: "checkbox", checked: field.now === "true", ...common, onchange: () => set(String(input.checked)) });
    } else {
      // A secret is never sent here: what stands for it must not be edited into another one.
      const secret = field.kind === "secret" && field.value !== null;
      const empty = secret ? field.value : null;
      input = h("input", { class: "input", type: field.kind === "secret" ? "password" : "text", value: field.now === empty ? "" : field.now ?? "",
        placeholder: secret ? "set, and not shown; what is typed replaces it" : field.value === null ? "not set" : "", spellcheck: "false", autocomplete: "off", ...common,
        oninput: () => set(input.value.trim() === "" ? empty : input.value.trim()) });
    }
    const range = field.range ? ` From ${field.range[0]} to ${field.range[1]}.` : "";
    const element = h("div", { class: "field" }, h("label", { for: id }, nameOf(field.key)), field.kind === "switch" ? div(input) : input, fault,
      h("div", { class: "doc", id: `${id}-d` }, field.doc + range,
        div(code(field.key), h("span", { class: "tag" }, field.live ? "applies at once" : "needs a restart"),
          field.overridden ? h("span", { class: "tag warn" }, `set by ${field.origin}`) : h("span", {}, `default: ${field.default.split(",").length > 4 ? "a list" : field.default}`))));
    field.show = (text) => {
      fault.textContent = text;
      if (text) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
      element.classList.toggle("changed", field.now !== field.value);
    };
    field.show("");
    return element;
  }

  changes() {
    const edited = [...this.fields.values()].filter((field) => field.now !== field.value)
      .map((field) => ({ key: field.key, value: field.now }));
    return [...edited, ...this.added];
  }

  changed() {
    clearTimeout(this.timer);
    unsaved = this.changes();
    this.fault = "";
    this.bar();
    this.timer = setTimeout(() => this.check(), CHECK_AFTER_MS);
  }

  /** Asks the daemon what the changes would mean; the last question wins. Without a token that waits for the review. */
  async check() {
    const changes = this.changes();
    const number = ++this.asked;
    this.draft = null;
    if (changes.length && hasToken()) {
      try {
        const draft = await post("/settings/check", { changes });
        if (number !== this.asked) return;
        this.draft = draft;
      } catch (error) {
        if (number !== this.asked) return;
        if (error.status === 401) {
          forgetToken();
          this.fault = " The token is not the daemon’s any more; saving asks for it.";
        } else this.draft = { faults: [{ key: "", text: error.message }], changes: [], diff: [] };
      }
    }
    for (const field of this.fields.values()) {
      field.show(this.draft?.faults.filter((fault) => fault.key === field.key).map((fault) => fault.text).join("; ") || "");
    }
    this.bar();
  }

  bar() {
    const count = this.changes().length;
    const faults = this.draft?.faults || [];
    const elsewhere = faults.filter((fault) => !this.fields.has(fault.key));
    const text = count ? `${plural(count, "change")}${faults.length ? `, ${plural(faults.length, "fault")} to correct first` : ""}.` : "Nothing changed.";
    fill(this.places.savebar, h("span", { role: "status" }, text, this.fault, elsewhere.map((fault) => h("span", { class: "err" }, ` ${fault.key} ${fault.text}`))),
      row(btn("Discard", () => this.discard(), "", { disabled: !count }),
        btn("Review and save", () => this.review(), "main", { disabled: !count || faults.length > 0 || (hasToken() && !this.draft) })));
  }

  discard() {
    this.added = [];
    for (const field of this.fields.values()) field.now = field.value;
    this.draw();
    this.changed();
  }

  addItem(list, leaf, value) {
    const taken = new Set([...this.fields.keys(), ...this.added.map((one) => one.key)].filter((key) => key.startsWith(`${list}[`)).map((key) => key.split("]")[0]));
    const key = `${list}[${taken.size}].${leaf}`;
    const input = h("input", { class: "input", id: "new-item", value });
    const add = () => {
      this.added.push({ key, value: input.value.trim() });
      close();
      this.changed();
    };
    dialog(list === "pool" ? "Add a pool" : "Add cold storage", [h("div", { class: "form" }, div(h("label", { for: "new-item" }, list === "pool" ? "Name" : "Directory"), input)),
      quiet(list === "pool" ? "It gets the default size; change it after saving." : "It is only read, never written.")], [cancel(), btn("Add", add, "main")], input);
  }

  /** Whether a section is to be removed. */
  goes(section) {
    return this.added.some((one) => one.key === section && one.value === null);
  }

  removeOrKeep(section) {
    if (this.goes(section)) this.added = this.added.filter((one) => one.key !== section);
    else this.added.push({ key: section, value: null });
    this.draw();
    $(`[aria-label="${this.goes(section) ? "Keep" : "Remove"} ${titleOf(section)}"]`, this.places.form).focus();
    this.changed();
  }

  review() {
    const draft = this.draft;
    // Whoever has no token yet is asked for it now, not while they write.
    if (!draft) return change(() => this.check().then(() => this.review()));
    if (draft.faults.length) return undefined;
    const now = draft.changes.filter((one) => one.live);
    const later = draft.changes.filter((one) => !one.live);
    const refusals = draft.changes.filter((one) => one.refused);
    const marks = { "+": ["add", "added: "], "-": ["del", "removed: "], " ": ["ctx", ""] };
    return dialog("Save these changes?", [
      h("div", { class: "diff", tabindex: 0, role: "region", "aria-label": "Changes to the file" }, draft.diff.map((one) =>
        h("div", { class: marks[one.sign][0] }, marks[one.sign][1] && h("span", { class: "vh" }, marks[one.sign][1]), `${one.sign} ${one.text}`))),
      now.length > 0 && para(`${plural(now.length, "change applies", "changes apply")} at once.`),
      later.length > 0 && para(`${plural(later.length, "change needs", "changes need")} a restart: `, later.map((one) => [code(one.key), " "])),
      refusals.map((one) => para(bold(one.key), ": ", one.refused)),
    ], [cancel("Back"), btn("Save", () => this.save(), "main")]);
  }

  save() {
    close();
    return change(async () => {
      const draft = await post("/settings", { changes: this.changes() });
      if (!draft.saved) {
        refused(new Refusal(400, { code: "bad-config", message: draft.faults[0]?.text || "nothing changed" }));
        return;
      }
      const later = draft.changes.some((one) => !one.live);
      toast(later ? "Saved. A restart is still needed for part of it." : "Saved and applied.");
      unsaved = [];
      const answer = await getGuarded("/settings");
      this.fields = new Map(answer.fields.map((field) => [field.key, { ...field, now: field.value }]));
      this.added = [];
      this.draft = null;
      this.draw();
    });
  }
}
