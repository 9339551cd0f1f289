// Charts: plain SVG drawn for the width at hand; each can be read as a table.

import { fill, h, h2, para, svg, table } from "./dom.js";

export const drawing = (width, height, ...kids) => svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height }, kids);
export const label = (x, y, text, cls, anchor) => svg("text", { x, y, class: cls, "text-anchor": anchor }, text);
export const line = (x1, y1, x2, y2, cls) => svg("line", { x1, y1, x2, y2, class: cls });
export const path = (points) => "M" + points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");

/** Fills a figure: a finding in a sentence, the drawing, and the same as a table. */
export function chart(figure, title, finding, draw, heads, rows) {
  const box = h("div", { class: "chart" });
  fill(figure, h("figcaption", {}, h2(title), para(finding)), box,
    h("details", {}, h("summary", {}, "Show as table"), table(heads.map((head) => [head]), rows, `${title}, table`)));
  let width = 0;
  const paint = () => {
    const drawn = draw(width);
    drawn.setAttribute("role", "img");
    drawn.setAttribute("aria-label", `${title}. ${finding}`);
    fill(box, drawn);
  };
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (!now || now === width) return;
    width = now;
    paint();
  }).observe(box);
  return { paint: () => width && paint() };
}

/** Said instead of a chart that has nothing to show yet. */
export function empty(figure, title, text) {
  fill(figure, h("figcaption", {}, h2(title)), h("p", { class: "quiet" }, text));
}
