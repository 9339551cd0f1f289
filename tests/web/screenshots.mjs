// Screenshots of every page, in light and dark, 390 and 1920 px wide: screenshots.mjs DIRECTORY

import { closeSync, mkdirSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { Site, browser, gguf, tab, until } from "./site.mjs";

const MIB = 2 ** 20;
const MODELS = [["Llama-3.3-70B-Instruct-Q4_K_M", 170], ["Qwen2.5-Coder-32B-Instruct-Q5_K_M", 96], ["Mistral-Small-24B-Instruct-Q6_K", 72], ["gemma-3-27b-it-Q4_K_M", 66],
  ["phi-4-Q8_0", 60], ["DeepSeek-R1-Distill-Llama-70B-Q4_K_M", 168], ["Llama-3.2-3B-Instruct-Q8_0", 13], ["Qwen3-14B-Q6_K", 48], ["gpt-oss-20b-MXFP4", 52], ["bge-m3-F16", 5],
  ["Codestral-22B-v0.1-Q5_K_M", 63], ["granite-3.3-8b-instruct-Q8_0", 35], ["OLMo-2-13B-Instruct-Q6_K", 45], ["starcoder2-15b-Q4_K_M", 38]];
const HOT = [6, 4, 2, 7, 3, 1, 9];

const out = process.argv[2];
mkdirSync(out, { recursive: true });
const site = new Site();
const instance = await browser();

/** Reads a file whole and keeps it open, as an engine does. */
function load(name) {
  const file = openSync(site.path("mnt", `${name}.gguf`), "r");
  const buffer = Buffer.alloc(4 * MIB);
  while (readSync(file, buffer) > 0);
  return file;
}

try {
  for (const [name, mib] of MODELS) gguf(site.path("cold", `${name}.gguf`), mib * MIB);
  await site.configure("640MiB");
  await site.start();
  const cold = load(MODELS[HOT[0]][0]);
  await until("a cold load is counted", async () => (await site.get("/history")).loads.length >= 1);
  closeSync(cold);
  for (const i of HOT) site.cli("promote", MODELS[i][0], "--wait");
  site.cli("pin", MODELS[HOT[2]][0], "local");
  const open = HOT.slice(0, 5).map((i) => load(MODELS[i][0]));
  await until("the loads are counted", async () => (await site.get("/history")).loads.length >= 5);
  for (const file of open.slice(2)) closeSync(file);
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [390, 1280, 1920]) {
      const page = await tab(instance, site, { colorScheme, viewport: { width, height: width === 390 ? 844 : 860 }, link: `#token=${site.token()}` });
      await page.locator("tr[data-model]").first().waitFor();
      for (const name of ["models", `models/${MODELS[HOT[0]][0]}`, "tiers", "activity", "plan", "settings"]) {
        await page.evaluate((hash) => { location.hash = hash; }, `#/${name}`);
        await page.locator({ tiers: ".facts", activity: "tbody tr", plan: ".chart svg", settings: ".field" }[name] || (name === "models" ? "tr[data-model]" : "#drawer .sentence")).first().waitFor();
        await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
        await page.screenshot({ path: join(out, `${name.split("/").length > 1 ? "model" : name}-${width}-${colorScheme}.png`) });
      }
      await page.context().close();
    }
  }
} finally {
  await instance.close();
  await site.finish();
}
