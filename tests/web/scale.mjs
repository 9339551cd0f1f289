// The page with 2,000 models and 50 transfers: latencies, printed; and that an event draws no list again.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { Site, browser, gguf, tab, until } from "./site.mjs";

const MODELS = 2000;
const TRANSFERS = 50;
const MIB = 2 ** 20;
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const say = (what, list, unit = "ms") => console.log(`${what}: median ${median(list).toFixed(1)} ${unit}, worst ${Math.max(...list).toFixed(1)} ${unit} of ${list.length}`);

const site = new Site();
const instance = await browser();
try {
  mkdirSync(site.path("cold", "tuned"));
  for (let i = 0; i < MODELS - TRANSFERS; i += 1) gguf(site.path("cold", "tuned", `acme-${i}-7B-Instruct-Q4_K_M.gguf`), 4096);
  for (let i = 0; i < TRANSFERS; i += 1) gguf(site.path("cold", `busy-${i}-8B-Q8_0.gguf`), 6 * MIB);
  await site.configure("1GiB");
  await site.start();
  await until("all models are known", async () => (await site.get("/models")).models.length === MODELS);

  const paints = [];
  const lists = [];
  let page;
  for (let round = 0; round < 5; round += 1) {
    if (page) await page.context().close();
    page = await tab(instance, site, { link: `#token=${site.token()}` });
    await page.locator(".count", { hasText: "2,000 models" }).waitFor();
    const [paint, list] = await page.evaluate(() => [performance.getEntriesByName("first-contentful-paint")[0].startTime, performance.now()]);
    paints.push(paint);
    lists.push(list);
  }
  say("first paint", paints);
  say("list of 2,000 models shown, upper bound", lists);
  const transferred = await page.evaluate(() => performance.getEntriesByType("resource").filter((one) => !one.name.includes("/api/")).reduce((sum, one) => sum + one.transferSize, 0)
    + performance.getEntriesByType("navigation")[0].transferSize);
  console.log(`page transferred, compressed: ${(transferred / 1024).toFixed(1)} KiB`);
  assert.ok(transferred < 150 * 1024);

  // From a key to the frame in which the list is right.
  const typed = await page.evaluate(async () => {
    const times = [];
    const box = document.querySelector("#q");
    for (const text of ["acme-1", "acme-19", "busy", "", "7B", ""]) {
      const began = performance.now();
      box.value = text;
      box.dispatchEvent(new Event("input"));
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      times.push(performance.now() - began);
    }
    return times;
  });
  say("search to the next frame", typed);
  const scrolled = await page.evaluate(async () => {
    const times = [];
    for (let at = 0; at < 60000; at += 3000) {
      const began = performance.now();
      scrollTo(0, at);
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      times.push(performance.now() - began);
    }
    scrollTo(0, 0);
    return times;
  });
  say("scroll to the next frame", scrolled);
  const rows = await page.locator("tr[data-model]").count();
  assert.ok(rows < 100, `${rows} rows are in the document`);
  console.log(`rows in the document: ${rows}`);

  // 50 transfers: which rows are touched, and for how long the page is at work.
  await page.evaluate(() => {
    window.added = 0;
    window.long = [];
    new MutationObserver((changes) => {
      for (const change of changes) window.added += [...change.addedNodes].filter((node) => node.nodeName === "TR").length;
    }).observe(document.querySelector("main tbody"), { childList: true });
    new PerformanceObserver((list) => window.long.push(...list.getEntries().map((one) => one.duration))).observe({ entryTypes: ["longtask"] });
  });
  const headers = { "content-type": "application/json", authorization: `Bearer ${site.token()}` };
  const names = Array.from({ length: TRANSFERS }, (_, i) => `busy-${i}-8B-Q8_0`);
  const answer = await fetch(`${site.base}/api/v1/models/promote`, { method: "POST", headers, body: JSON.stringify({ names }) });
  assert.equal(answer.status, 200, await answer.text());
  await until("all are resident in the page", () => page.evaluate(() => document.querySelector(".chip:nth-child(2) b")?.textContent !== undefined
    && document.querySelectorAll(".mem .cell").length >= 50));
  const { added, long } = await page.evaluate(() => ({ added: window.added, long: window.long }));
  console.log(`50 transfers: ${added} rows were added to the list, ${long.length} tasks over 50 ms${long.length ? `, worst ${Math.max(...long).toFixed(0)} ms` : ""}`);
  assert.ok(added < 100, "no list is drawn again for an event");

  // From a change on the command line's side to the row.
  const updates = [];
  for (let round = 0; round < 5; round += 1) {
    const name = names[0];
    const path = round % 2 ? "unpin" : "pin";
    await page.locator("#q").fill("busy-0-");
    const seen = page.evaluate(([label]) => new Promise((done) => {
      const look = () => (document.querySelector(`[aria-label="${label} busy-0-8B-Q8_0"]`) ? done(performance.timeOrigin + performance.now()) : requestAnimationFrame(look));
      look();
    }), [round % 2 ? "Pin" : "Unpin"]);
    const began = performance.timeOrigin + performance.now();
    const body = JSON.stringify(round % 2 ? { name } : { name, pool: "local" });
    await fetch(`${site.base}/api/v1/models/${path}`, { method: "POST", headers, body });
    updates.push(await seen - began);
  }
  say("a change to its row in another tab", updates);
  assert.deepEqual(page.complaints, []);
} finally {
  await instance.close();
  await site.finish();
}
console.log("test result: ok. 1 passed; 0 failed; 0 ignored");
process.exit(0);
