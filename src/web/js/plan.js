// What another pool size would have meant for the loads that are logged, and what the policy would do now.

import { bold, div, fill, h, h2, num, page, para, parts, quiet, stackable, svg, td } from "./dom.js";
import { NB, duration, gib, n0, percent, plural, size } from "./text.js";
import { get } from "./api.js";
import { chart, drawing, label, line, path } from "./chart.js";
import { link } from "./models.js";

export function planPage(main) {
  main.append(page("plan"));
  const places = parts(main);
  moves(places.moves);
  curve(places.curve);
}

async function moves(place) {
  try {
    const answer = await get("/plan");
    fill(place, answer.moves.map((move) => h("tr", {},
      h("td", { class: "name" }, h("a", { href: link({ name: move.model }) }, move.model)), td(`${move.from} → ${move.to}`),
      num(gib(move.bytes)), h("td", { class: "quiet" }, move.why))));
    if (!answer.moves.length) fill(place, h("tr", {}, h("td", { colspan: 4, class: "quiet" }, "The policy would move nothing now.")));
  } catch (error) {
    fill(place, h("tr", {}, h("td", { colspan: 4 }, error.message)));
  }
  stackable(place);
}

async function curve(place) {
  fill(place, quiet("Replaying your own loads …"));
  let known;
  try {
    known = await get("/forecast");
  } catch (error) {
    fill(place, h2("Load time against pool size"), para(error.message));
    return;
  }
  if (!known.points.length) {
    fill(place, h2("Load time against pool size"), para("No load is logged yet: the curve is drawn from your own loads, after the first."),
      quiet("A trace of another machine can be replayed on the host: speedloader simulate --help says how."));
    return;
  }
  draw(place, known);
}

function draw(place, known) {
  const { points } = known;
  const hereAt = points.findIndex((point) => point.pool_bytes === known.here_bytes);
  const here = points[Math.max(0, hereAt)];
  let at = Math.min(points.length - 1, Math.max(0, hereAt) + 2);
  const answer = h("p", { class: "sentence", role: "status" });
  const figure = h("figure", {});
  const input = h("input", { id: "whatif", type: "range", min: 0, max: points.length - 1, step: 1, value: at, oninput: () => { at = Number(input.value); say(); } });
  fill(place, answer, h("div", { class: "form" }, div(h("label", { for: "whatif" }, "Size to try for all pools of this host together"), input)), figure);
  const top = Math.max(...points.map((point) => point.load_time_s)) * 1.08 || 1;
  const most = Math.max(1, points.at(-1).pool_bytes);
  const span = known.span_s > 0 ? ` over ${duration(known.span_s)}` : "";
  const finding = `Replay of your last ${plural(known.loads, "load")}${span}, at ${(known.pool_bytes_per_sec / 1e9).toFixed(1)}${NB}GB/s from pools and ${(known.home_bytes_per_sec / 1e9).toFixed(1)}${NB}GB/s from homes.`;
  const drawn = chart(figure, "Load time against pool size", finding, (width) => {
    const height = Math.max(260, Math.min(460, width * 0.36)), left = 64, right = width - 14, base = height - 40;
    const x = (point) => left + (point.pool_bytes / most) * (right - left);
    const y = (point) => base - (point.load_time_s / top) * (base - 10);
    const steps = [0, 0.25, 0.5, 0.75, 1];
    const anchor = (point) => (x(point) > width * 0.6 ? "end" : "start");
    const beside = (point) => x(point) + (anchor(point) === "end" ? -8 : 8);
    const tried = points[at];
    // Where the curve passes at the top, its label is below it.
    const words = y(here) > 52 ? 22 : y(here) + 22;
    return drawing(width, height,
      steps.map((share) => [line(left, base - share * (base - 10), right, base - share * (base - 10), share ? "grid" : "axis"),
        label(left - 6, base - share * (base - 10) + 4, duration(share * top), "", "end")]),
      steps.map((share) => label(left + share * (right - left), base + 17, gib(share * most), "", "middle")),
      label(right, height - 4, "GiB in this host’s pools", "", "end"),
      svg("path", { class: "line", d: path(points.map((point) => [x(point), y(point)])) }),
      at !== hereAt && [line(x(tried), y(tried), x(tried), base, "what-if"), svg("circle", { class: "mark", cx: x(tried), cy: y(tried), r: 5 }),
        label(beside(tried), y(tried) - 12, `${size(tried.pool_bytes)}: ${duration(tried.load_time_s)}`, "label halo", anchor(tried))],
      line(x(here), 12, x(here), base, "ink"), svg("circle", { class: "mark", cx: x(here), cy: y(here), r: 6 }),
      label(beside(here), words, "You are here", "label halo", anchor(here)), label(beside(here), words + 16, `${size(here.pool_bytes)}: ${duration(here.load_time_s)}`, "halo", anchor(here)));
  }, ["GiB", "Load time", "Bytes from RAM"], points.map((point) => [gib(point.pool_bytes), duration(point.load_time_s), `${n0(point.byte_hit_ratio * 100)}${NB}%`]));
  function say() {
    const tried = points[at];
    const saved = here.load_time_s - tried.load_time_s;
    const same = tried === here;
    input.setAttribute("aria-valuetext", size(tried.pool_bytes));
    fill(answer, bold(same ? "This is what you have: " : `With ${size(tried.pool_bytes)} instead of ${size(here.pool_bytes)}: `),
      `${duration(tried.load_time_s)} for all these loads${same ? "" : ` (${saved < 0 ? "+" : "−"}${duration(Math.abs(saved))})`}, ${percent(tried.byte_hit_ratio, 1)} of their bytes from RAM. `,
      h("span", { class: "quiet" }, "An estimate from your own log, not a promise."));
    drawn.paint();
  }
  say();
}
