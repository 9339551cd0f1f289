// Making elements. No innerHTML and no style attributes anywhere: names of models are hostile input, and the
// content security policy forbids inline styles. Custom properties are set through the CSSOM.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

const shown = (kid) => kid !== null && kid !== undefined && kid !== false && kid !== "";
const AS_PROPERTY = new Set(["value", "checked", "disabled", "hidden", "tabIndex", "open"]);

function build(element, props, kids) {
  for (const [name, value] of Object.entries(props || {})) {
    if (name.startsWith("aria-")) {
      if (shown(value) || value === false) element.setAttribute(name, value);
    } else if (value === null || value === undefined || value === false) {
      continue;
    } else if (name.startsWith("--")) {
      element.style.setProperty(name, value);
    } else if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else if (AS_PROPERTY.has(name)) {
      element[name] = value;
    } else {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...kids.flat(4).filter(shown));
  return element;
}

/** An element with properties (attributes, on-listeners, --custom properties) and children. */
export const h = (tag, props, ...kids) => build(document.createElement(tag), props, kids);
/** The same for SVG. */
export const svg = (tag, props, ...kids) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), props, kids);
/** Replaces an element's children. */
export const fill = (element, ...kids) => {
  element.replaceChildren(...kids.flat(4).filter(shown));
  return element;
};

// What can be pressed is never turned into something else: its listener is its own.
const PRESSED = new Set(["BUTTON", "INPUT", "SELECT", "A", "SUMMARY"]);

/** Makes `old` look like `fresh`, and leaves alone what does already: what is being pressed or focused stays. */
function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== 1 || old.nodeName !== fresh.nodeName || PRESSED.has(old.nodeName)) {
    old.replaceWith(fresh);
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    // A style is set through the CSSOM, as the policy asks.
    if (name === "style") for (const key of fresh.style) old.style.setProperty(key, fresh.style.getPropertyValue(key));
    else if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  morphChildren(old, [...fresh.childNodes]);
}

function morphChildren(parent, fresh) {
  const before = [...parent.childNodes];
  fresh.forEach((kid, i) => (before[i] ? morph(before[i], kid) : parent.append(kid)));
  for (const kid of before.slice(fresh.length)) kid.remove();
}

/** As `fill`, but only what differs is touched. Listeners must look up what they act on. */
export function refill(element, ...kids) {
  morphChildren(element, [...h("div", {}, kids).childNodes]);
  return element;
}

const of = (tag, cls) => (...kids) => h(tag, { class: cls }, kids);
export const para = of("p");
export const quiet = of("p", "quiet");
export const div = of("div");
export const row = of("div", "row-btns");
export const li = of("li");
export const bold = of("b");
export const code = of("code");
export const faint = of("span", "faint");
export const h2 = of("h2");
export const h3 = of("h3");
export const td = of("td");
export const num = of("td", "num");

export const btn = (label, onclick, cls = "", props = {}) =>
  h("button", { type: "button", class: `btn ${cls}`, onclick, ...props }, label);

export const fact = (term, ...value) => div(h("dt", {}, [term].flat()), h("dd", {}, value));

export const bullets = (lines) => h("ul", {}, lines.filter(Boolean).map((line) => li(line)));

/** A small scrolling table; heads are [text, class]. */
export function table(heads, rows, label) {
  return h("div", { class: "list-box", tabindex: 0, role: "region", "aria-label": label },
    h("table", {},
      h("thead", {}, h("tr", {}, heads.map(([text, cls]) => h("th", { class: cls }, text)))),
      h("tbody", {}, rows.map((cells) =>
        h("tr", {}, cells.map((cell, i) => h("td", { class: heads[i][1] }, cell)))))));
}

/** Small tables become stacked lists on phones; `display` changes there, so the roles are said. */
export function stackable(tbody) {
  const heads = $$("thead th", tbody.parentNode).map((head) => head.textContent);
  tbody.parentNode.classList.add("stackable");
  for (const line of tbody.rows) {
    line.setAttribute("role", "row");
    [...line.cells].forEach((cell, i) => {
      cell.dataset.l = heads[i];
      cell.setAttribute("role", "cell");
    });
  }
}

/** A copy of a page's fixed markup. */
export const page = (name) => $(`#page-${name}`).content.cloneNode(true);
/** The places of a page that scripts fill, by name. */
export const parts = (root) =>
  Object.fromEntries($$("[data-part]", root).map((element) => [element.dataset.part, element]));
