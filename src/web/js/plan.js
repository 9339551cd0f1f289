// What the policy would do now, and what another pool size would have meant.

import { fill, h, h2, num, page, para, parts, quiet, stackable, td } from "./dom.js";
import { gib } from "./text.js";
import { get } from "./api.js";
import { link } from "./models.js";

export async function planPage(main) {
  main.append(page("plan"));
  const places = parts(main);
  try {
    const answer = await get("/plan");
    fill(places.moves, answer.moves.map((move) => h("tr", {},
      h("td", { class: "name" }, h("a", { href: link({ name: move.model }) }, move.model)), td(`${move.from} → ${move.to}`),
      num(gib(move.bytes)), h("td", { class: "quiet" }, move.why))));
    if (!answer.moves.length) fill(places.moves, h("tr", {}, h("td", { colspan: 4, class: "quiet" }, "The policy would move nothing now.")));
    stackable(places.moves);
  } catch (error) {
    fill(places.moves, h("tr", {}, h("td", { colspan: 4 }, error.message)));
  }
  fill(places.curve, h2("Load time against pool size"), para("There is no log of loads to replay yet."),
    quiet("A trace of your own can be replayed on the host: speedloader simulate --help says how."));
}
