// A short pass through the page in Firefox, the distribution's own, driven by WebDriver BiDi: what could differ from
// Chromium is how the page is drawn, fed by the stream, and typed into; what the daemon does is tested there.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";
import { Site, gguf } from "./site.mjs";

const MIB = 2 ** 20;
const flows = [];
const flow = (name, run) => flows.push([name, run]);

/** Waits until `selector` holds an element whose text contains `text`. */
const shown = (page, selector, text) => page.waitForFunction(
  (where, what) => [...document.querySelectorAll(where)].some((node) => node.textContent.includes(what)), { polling: 50 }, selector, text);
const act = (page, label) => page.locator(`button[aria-label="${label}"]`).click();
const press = async (page, words) => (await page.waitForFunction(
  (what) => [...document.querySelectorAll("button:enabled")].find((node) => node.checkVisibility() && node.textContent.trim() === what), { polling: 50 }, words)).click();
const go = (page, name) => page.locator(`.nav a[href="#/${name}"]`).click();

/** A tab whose complaints are kept. */
async function tab(instance, site, link = "") {
  const page = await instance.newPage();
  page.complaints = [];
  page.on("console", (message) => {
    if (["error", "warn"].includes(message.type())) page.complaints.push(message.text());
  });
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  await page.goto(`${site.base}/${link}`);
  return page;
}

flow("the page loads and lists the models", async ({ page, site }) => {
  const { models } = await site.get("/models");
  assert.equal(models.length, 2);
  for (const model of models) await shown(page, `tr[data-model="${model.name}"]`, "home only");
  const [paint, bytes] = await page.evaluate(() => [performance.getEntriesByName("first-contentful-paint")[0]?.startTime,
    performance.getEntriesByType("resource").filter((one) => !one.name.includes("/api/")).reduce((sum, one) => sum + one.transferSize, 0)
      + performance.getEntriesByType("navigation")[0].transferSize]);
  console.log(`Firefox: first paint ${Math.round(paint)} ms, ${(bytes / 1024).toFixed(1)} KiB transferred`);
  assert.ok(bytes > 0 && bytes < 150 * 1024);
});

flow("a promotion by a click is seen live here, and in another tab when it is looked at", async ({ page, other, site }) => {
  await page.bringToFront();
  await page.evaluate(() => {
    window.seen = [];
    const row = document.querySelector('tr[data-model="large"]');
    new MutationObserver(() => window.seen.push(row.querySelector(".place").textContent)).observe(row, { childList: true, subtree: true, characterData: true });
  });
  await act(page, "Promote large");
  for (const one of [page, other]) {
    await one.bringToFront();
    await one.waitForFunction(() => document.querySelector('tr[data-model="large"] .place')?.textContent === "local", { polling: 50 });
  }
  await page.bringToFront();
  const shares = (await page.evaluate(() => window.seen)).map((text) => parseInt(text, 10)).filter((share) => !Number.isNaN(share));
  assert.deepEqual(shares, [...shares].sort((a, b) => a - b), "progress never goes back");
  assert.equal((await site.get("/models?filter=large")).models[0].resident_percent, 100);
});

flow("the drawer says why, and Escape closes it", async ({ page }) => {
  await page.locator('tr[data-model="large"] .open').click();
  await shown(page, "#drawer .sentence", "resident in local");
  await page.keyboard.press("Escape");
  await page.waitForSelector("#drawer", { hidden: true });
});

flow("a wrong setting is refused as it is typed, a right one is saved", async ({ page, site }) => {
  await go(page, "settings");
  const field = await page.waitForSelector("#f-policy-half_life");
  await field.click({ count: 3 });
  await field.type("0");
  await shown(page, "#f-policy-half_life-e", "wanted 1 to 1000000");
  assert.ok(await page.evaluate(() => [...document.querySelectorAll("button")].find((one) => one.textContent === "Review and save").disabled));
  await field.click({ count: 3 });
  await field.type("20");
  await press(page, "Review and save");
  await shown(page, "dialog .add", "half_life = 20");
  await press(page, "Save");
  await shown(page, "#toast", "Saved");
  const { settings } = await site.get("/config", site.token());
  assert.equal(settings.find((one) => one.key === "policy.half_life").value, "20");
});

flow("every page is drawn, and none scrolls sideways, also on a phone", async ({ page }) => {
  const drawn = { models: "tr[data-model]", tiers: ".facts", activity: "[data-part=transfers] tr", plan: "[data-part=moves] tr", settings: ".field" };
  for (const width of [1440, 390]) {
    await page.setViewport({ width, height: 900 });
    for (const [name, selector] of Object.entries(drawn)) {
      await page.evaluate((hash) => { location.hash = hash; }, `#/${name}`);
      await page.waitForSelector(selector);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${name} at ${width} scrolls sideways by ${wide}`);
    }
  }
});

const site = new Site();
const profile = mkdtempSync(join(process.env.TMPDIR || tmpdir(), "speedloader-firefox-"));
let failed = 0;
let instance;
try {
  for (const [name, mib] of [["small", 24], ["large", 320]]) gguf(site.path("cold", `${name}.gguf`), mib * MIB);
  await site.configure();
  await site.start();
  instance = await puppeteer.launch({
    browser: "firefox",
    executablePath: process.env.FIREFOX || "/usr/bin/firefox-esr",
    userDataDir: profile,
    env: { ...process.env, HOME: profile },
    defaultViewport: { width: 1440, height: 900 },
  });
  console.log(`Firefox: ${await instance.version()}`);
  const other = await tab(instance, site);
  const page = await tab(instance, site, `#token=${site.token()}`);
  for (const [name, run] of flows) {
    const began = performance.now();
    try {
      await run({ page, other, site });
      assert.deepEqual([...page.complaints.splice(0), ...other.complaints.splice(0)], [], "the console complains");
      console.log(`ok      Firefox: ${name} (${Math.round(performance.now() - began)} ms)`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  Firefox: ${name}: ${error.stack}`);
    }
  }
} finally {
  await instance?.close();
  await site.finish();
  rmSync(profile, { recursive: true, force: true });
}
console.log(`test result: ${failed ? "FAILED" : "ok"}. ${flows.length - failed} passed; ${failed} failed; 0 ignored`);
process.exit(failed ? 1 : 0);
