// Dialogs, toasts, the token, and what is said to screen readers.

import { $, btn, code, div, fill, h, para } from "./dom.js";
import { Refusal, Unsent, forgetToken, hasToken, keepToken } from "./api.js";
import { isOffline } from "./state.js";

const TOAST_MS = 8000;
const dlg = $("#dlg");

export const say = (text) => { $("#say").textContent = text; };
export const shout = (text) => { $("#shout").textContent = text; };
// Who wants to know when the dialog that is shown now is gone. The browser tells of it later, when another one may
// have taken its place.
let tellEnd = null;
function ended() {
  const tell = tellEnd;
  tellEnd = null;
  tell?.();
}
dlg.addEventListener("close", () => { if (!dlg.open) ended(); });
export function close() {
  dlg.close();
  ended();
}
export const isOpen = () => dlg.open;
export const cancel = (label = "Cancel") => btn(label, close);

/** The title is a question, the buttons say what they do, and focus starts on the harmless one. */
export function dialog(title, body, actions, focus) {
  ended();
  const submit = (event) => {
    event.preventDefault();
    const main = $(".dlg-foot .main", dlg);
    if (main && !main.disabled) main.click();
  };
  fill(dlg, h("form", { method: "dialog", novalidate: true, onsubmit: submit },
    h("div", { class: "dlg-body" }, h("h2", { id: "dlg-title" }, title), body),
    h("div", { class: "dlg-foot" }, actions)));
  if (!dlg.open) dlg.showModal();
  (focus || $(".dlg-foot .btn", dlg)).focus();
}

let timer;
export function toast(text, label, action) {
  const box = $("#toast");
  const hide = () => { box.hidden = true; };
  fill(box, h("span", { class: "name" }, text),
    label && btn(label, () => { hide(); action(); }, "small"),
    btn("Dismiss", hide, "small"));
  box.hidden = false;
  say(text);
  clearTimeout(timer);
  timer = setTimeout(() => { if (!box.matches(":focus-within, :hover")) hide(); }, TOAST_MS);
}

/** Does a change: asks for the token if none is known, and says in the daemon's words if it is refused. */
export async function change(action) {
  if (isOffline()) {
    toast("Not sent: there is no connection to the daemon.");
    return undefined;
  }
  if (!hasToken() && !(await askToken(""))) return undefined;
  try {
    return await action();
  } catch (error) {
    if (error instanceof Unsent) {
      toast("Not sent: the daemon does not answer.");
      return undefined;
    }
    if (!(error instanceof Refusal)) {
      toast("The daemon has not answered. It may have been done all the same.");
      return undefined;
    }
    if (error.status === 401) {
      forgetToken();
      return (await askToken("This token is not the daemon’s. Each start of the daemon makes another."))
        ? change(action) : undefined;
    }
    refused(error);
    return undefined;
  }
}

export function refused(error) {
  const near = error.suggestions.length ? para(`Did you mean ${error.suggestions.join(", ")}?`) : null;
  dialog("Not done", [para(error.message + "."), error.hint && h("p", { class: "quiet" }, error.hint + "."), near],
    [cancel("Close")]);
}

function askToken(fault) {
  return new Promise((resolve) => {
    const wrong = h("p", { class: "err", id: "tok-err", hidden: !fault }, fault);
    const input = h("input", {
      class: "input mono", id: "tok", type: "password", autocomplete: "off",
      "aria-describedby": "tok-err tok-doc", "aria-invalid": fault ? "true" : null,
    });
    let done = false;
    const use = () => {
      const text = input.value.trim();
      if (text.length < 16) {
        wrong.textContent = "A token has at least 16 characters.";
        wrong.hidden = false;
        input.setAttribute("aria-invalid", "true");
        input.focus();
        return;
      }
      keepToken(text);
      done = true;
      close();
    };
    dialog("Token needed", [
      para("Changes need it, and the configuration and paths are shown to who has it. This page asks once and keeps the token until the tab is closed or the daemon ends."),
      h("div", { class: "form" }, div(h("label", { for: "tok" }, "Token"), input, wrong)),
      h("p", { id: "tok-doc", class: "quiet" }, "On the host, run ", code("speedloader web-url"),
        " for a link that contains it (root and the control group may)."),
    ], [cancel(), btn("Use token", use, "main")], input);
    tellEnd = () => resolve(done);
  });
}
