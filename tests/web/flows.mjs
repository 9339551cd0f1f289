// What a person does with the page, in a real browser against a real daemon, and what axe says of every page.

import assert from "node:assert/strict";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { CONSOLE_DURING_LOSS, Site, browser, gguf, tab, until } from "./site.mjs";

const MIB = 2 ** 20;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
// What is there when a page has been drawn.
const DRAWN = { models: "tr[data-model]", "models/small": "#drawer .sentence", tiers: ".facts", activity: "[data-part=transfers] tr", plan: "[data-part=moves] tr", settings: ".field" };
const flows = [];
const flow = (name, run) => flows.push([name, run]);

const row = (page, model) => page.locator(`tr[data-model="${model}"]`);
const act = (page, model, label) => page.locator(`[aria-label="${label} ${model}"]`);
const toast = (page, text) => page.locator("#toast", { hasText: text }).waitFor();
const go = (page, name) => page.locator(".nav a", { hasText: name }).click();

flow("models are listed with what the daemon knows", async ({ page, site }) => {
  const { models } = await site.get("/models");
  await page.locator(".count", { hasText: `${models.length}` }).waitFor();
  for (const model of models) await row(page, model.name).getByText("home only").waitFor();
});

flow("the first change asks for the token, and takes no wrong one", async ({ page, site }) => {
  await act(page, "small", "Promote").click();
  await page.locator("#tok").fill("not the right token at all");
  await page.getByRole("button", { name: "Use token" }).click();
  await page.locator("#tok-err", { hasText: "not the daemon’s" }).waitFor();
  assert.equal((await site.get("/models?filter=small")).models[0].resident_percent, 0);
  await page.locator("#tok").fill(site.token());
  await page.getByRole("button", { name: "Use token" }).click();
  await toast(page, "Promoting small to local");
  await row(page, "small").locator(".place", { hasText: "local" }).waitFor();
  await until("the daemon says so too", async () => (await site.get("/models?filter=small")).models[0].resident_percent === 100);
});

flow("no address breaks the page", async ({ page }) => {
  for (const hash of ["#/constructor", "#/__proto__", "#/models/%"]) {
    await page.evaluate((to) => { location.hash = to; }, hash);
    await page.locator(".nav a[aria-current=page]", { hasText: "Models" }).waitFor();
  }
});

flow("a promotion is seen live, in the row, the bar and the other page", async ({ page, other }) => {
  await go(other, "Activity");
  await page.evaluate(() => {
    window.seen = [];
    const row = document.querySelector('tr[data-model="large"]');
    new MutationObserver(() => window.seen.push(row.querySelector(".place").textContent)).observe(row, { childList: true, subtree: true });
  });
  await act(page, "large", "Promote").click();
  await other.locator("progress[aria-label='Progress of large.gguf']").waitFor();
  await row(page, "large").locator(".place span", { hasText: /^local$/ }).waitFor();
  const seen = await page.evaluate(() => window.seen);
  const shares = seen.map((text) => parseInt(text, 10)).filter((share) => !Number.isNaN(share));
  assert.deepEqual(shares, [...shares].sort((a, b) => a - b), "progress never goes back");
  assert.ok(!seen.includes("100 % to local"), "100 % is not shown before it serves");
  await other.locator("td", { hasText: "Nothing is moving" }).waitFor();
});

flow("a copy is cancelled", async ({ page, site }) => {
  await act(page, "large", "Demote").click();
  await row(page, "large").getByText("home only").waitFor();
  // Copies from one home run one by one, so the second one waits long enough to be caught.
  await site.post("/models/promote", { names: ["large", "small2"] });
  await act(page, "large", "Cancel").click();
  await toast(page, "Cancelled");
  await row(page, "small2").locator(".place span", { hasText: /^local$/ }).waitFor();
  assert.equal((await site.get("/models?filter=large")).models[0].resident_percent, 0);
});

flow("a pin is seen in the other tab at once, and undone there", async ({ page, other }) => {
  await go(other, "Models");
  await act(page, "small", "Pin").click();
  await row(other, "small").locator(".tag", { hasText: "pinned" }).waitFor();
  await act(other, "small", "Unpin").click();
  await act(page, "small", "Pin").waitFor();
});

flow("the drawer says why, and closes by Escape to where one was", async ({ page }) => {
  await row(page, "small").locator(".open").click();
  await page.locator("#drawer .sentence", { hasText: "resident in local" }).waitFor();
  await page.locator("#drawer td", { hasText: "small.gguf" }).waitFor();
  await page.keyboard.press("Escape");
  await page.locator("#drawer").waitFor({ state: "hidden" });
  assert.equal(await page.evaluate(() => document.activeElement.closest("tr")?.dataset.model), "small");
});

flow("what an engine has loaded is seen", async ({ page }) => {
  loaded = ["small2"];
  await row(page, "small2").locator(".tag", { hasText: "loaded in Ollama" }).waitFor();
  loaded = [];
  await row(page, "small2").locator(".tag", { hasText: "loaded in Ollama" }).waitFor({ state: "detached" });
});

flow("search, filter and keys", async ({ page }) => {
  await page.keyboard.press("/");
  await page.keyboard.type("small2");
  await page.locator(".count", { hasText: "1 of" }).waitFor();
  await page.locator("#q").fill("nothing like this");
  await page.getByRole("button", { name: "Show all models" }).click();
  await page.locator(".chip", { hasText: "In RAM" }).click();
  assert.equal(await row(page, "large").count(), 0);
  await page.locator(".chip", { hasText: "All" }).first().click();
});

flow("several models at once", async ({ page }) => {
  for (const name of ["small", "small2"]) await row(page, name).locator(".pick").check();
  await page.locator(".picked", { hasText: "2 models chosen" }).waitFor();
  await page.getByRole("button", { name: "Demote 2" }).click();
  for (const name of ["small", "small2"]) await row(page, name).getByText("home only").waitFor();
  await page.getByRole("button", { name: "Clear choice" }).click();
});

flow("a pool is resized", async ({ page, site }) => {
  await go(page, "Tiers");
  await page.locator("[aria-label='Resize local']").click();
  await page.locator("#cap").fill(String(768 * MIB));
  await page.getByRole("button", { name: "Resize", exact: true }).last().click();
  await toast(page, "may hold");
  const { tiers } = await site.get("/tiers");
  assert.equal(tiers[0].capacity_bytes, 768 * MIB);
});

flow("memory that a pool has given back is drawn, and that there is little", async ({ page }) => {
  await page.locator(".pressure", { hasText: "No reserve is kept" }).waitFor();
  // As the daemon sends it under pressure, which no test should make here.
  await page.evaluate(async () => {
    const { db, emit } = await import("/js/state.js");
    const [pool, ...rest] = db.status.pools;
    const reserve = db.status.memory.total_bytes;
    const memory = { ...db.status.memory, reserve_bytes: reserve, available_bytes: reserve / 2, held_back_bytes: pool.capacity_bytes };
    db.status = { ...db.status, memory, pools: [{ ...pool, configured_bytes: 2 * pool.capacity_bytes }, ...rest] };
    emit("status");
  });
  await page.locator(".pressure", { hasText: "Memory is short" }).waitFor();
  await page.locator("dt", { hasText: "Given back to programs" }).waitFor();
  const share = await page.evaluate(() => document.querySelector(".target .bar").getBoundingClientRect().width / document.querySelector(".target").getBoundingClientRect().width);
  assert.ok(Math.abs(share - 0.5) < 0.02, `the bar is half of its target, not ${share}`);
  // What the daemon says next is drawn again.
  await page.locator(".pressure", { hasText: "No reserve is kept" }).waitFor();
});

flow("a pool is disconnected with an open model in it, and connected again", async ({ page, site }) => {
  await site.post("/models/promote", { names: ["small"], wait: true });
  const reader = openSync(site.path("mnt", "small.gguf"), "r");
  try {
    await until("the daemon sees the reader", async () => (await site.get("/models?filter=small")).models[0].open > 0);
    await page.locator(".facts", { hasText: "Models" }).first().waitFor();
    await until("the page sees the reader", async () => page.evaluate(() => !document.querySelector(".bar .seg.resident .cell") === false));
    await page.locator("[aria-label='Disconnect local']").click();
    await page.locator("dialog", { hasText: "1 model is open" }).waitFor();
    await page.getByRole("button", { name: "and disconnect" }).click();
    await page.locator("[aria-labelledby='pool-local'] .tag", { hasText: "draining" }).waitFor();
  } finally {
    closeSync(reader);
  }
  await until("its memory is free", async () => {
    await site.post("/tiers/local/connect", {}).catch(() => null);
    return (await site.get("/tiers")).tiers[0].state === "connected";
  });
  await page.locator("[aria-label='Disconnect local']").waitFor();
});

flow("a remote pool's steps are seen, the one that fails with its remedy, and what was done is undone", async ({ page, site }) => {
  await go(page, "Tiers");
  await page.locator("[aria-label='Connect other']").click();
  const steps = page.locator("ol[aria-label='Steps of other'] li");
  const failed = page.locator("ol[aria-label='Steps of other'] li.failed");
  await failed.waitFor();
  assert.equal(await steps.count(), 7);
  const all = await steps.allTextContents();
  assert.match(all[0], /reach the other machine.*done/s);
  assert.match(all[1], /take its memory.*undone.*64/s);
  const { tiers } = await site.get("/tiers");
  const other = tiers.find((pool) => pool.name === "other");
  assert.equal(other.kind, "remote");
  assert.equal(other.state, "disconnected");
  const wrong = other.steps.find((step) => step.state === "failed");
  assert.match(wrong.text, /;/, "what is wrong, and what to do about it");
  assert.equal(await failed.locator("p").textContent(), wrong.text);
  assert.ok(!existsSync("/run/speedloader/exports"), "its memory was given back");
  await page.locator("dialog", { hasText: "cannot" }).waitFor();
  await page.keyboard.press("Escape");
  // The browser itself tells of the answer that says so.
  assert.ok(page.complaints.splice(0).every((text) => /500 \(Internal Server Error\)/.test(text)));
});

flow("a wrong setting is refused as it is typed, a right one is saved with the comments kept", async ({ page, site }) => {
  await go(page, "Settings");
  const field = page.locator("#f-policy-half_life");
  await field.fill("0");
  await page.locator("#f-policy-half_life-e", { hasText: "wanted 1 to 1000000" }).waitFor();
  assert.equal(await field.getAttribute("aria-invalid"), "true");
  assert.ok(await page.getByRole("button", { name: "Review and save" }).isDisabled());
  await field.fill("20");
  await page.locator("#f-log-format").selectOption("json");
  await page.getByRole("button", { name: "Review and save" }).click();
  await page.locator("dialog .add", { hasText: "half_life = 20" }).waitFor();
  await page.locator("dialog", { hasText: "needs a restart" }).waitFor();
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await toast(page, "Saved");
  const text = readFileSync(site.config, "utf8");
  assert.match(text, /# A comment of its owner\./);
  assert.match(text, /# as large as that/);
  assert.match(text, /half_life = 20/);
  const { settings } = await site.get("/config", site.token());
  assert.equal(settings.find((one) => one.key === "policy.half_life").value, "20", "it counts at once");
});

flow("a daemon that is killed is missed, and found again", async ({ page, site }) => {
  await go(page, "Models");
  await site.end("SIGKILL");
  await page.locator(".notice", { hasText: "No connection to the daemon" }).waitFor();
  await act(page, "small", "Promote").click();
  await toast(page, "Not sent");
  await site.start();
  await page.locator(".notice", { hasText: "No connection" }).waitFor({ state: "detached" });
  await page.locator("#live", { hasText: "Live" }).waitFor();
  await toast(page, "Connected again");
  // The token was that of the daemon before.
  await act(page, "small", "Promote").click();
  await page.locator("#tok-err", { hasText: "Each start of the daemon makes another" }).waitFor();
  await page.locator("#tok").fill(site.token());
  await page.getByRole("button", { name: "Use token" }).click();
  await row(page, "small").locator(".place span", { hasText: /^local$/ }).waitFor();
});

flow("whoever has the daemon’s port while it is down is not sent the token", async ({ page, site }) => {
  await site.end("SIGKILL");
  const seen = [];
  // It does all that it can: a page that is open takes it for the daemon.
  const thief = createServer((request, response) => {
    seen.push(request.headers.authorization);
    const path = new URL(request.url, site.base).pathname.slice("/api/v1".length);
    const answers = {
      "/status": { pools: [{ name: "local", kind: "local", state: "connected", path: "/p", capacity_bytes: 9, configured_bytes: 9, used_bytes: 0, free_bytes: 9,
        draining_bytes: 0, reserved_bytes: 0, spare_bytes: 0, prefaulted_bytes: 0, resident_files: 0, speed_bytes_per_sec: 1, steps: [] }], homes: [], warnings: [], memory: {}, policy: {}, counts: {} },
      "/models": { models: [{ name: "small", kind: "gguf", size_bytes: 1, resident_bytes: {}, resident_total_bytes: 0, resident_percent: 0, loaded: [], open: 0, heat: 0, loads: 0, files: 1 }] },
      "/transfers": { transfers: [] }, "/history": { hours: [], loads: [], since_ms: 1 }, "/events": { events: [] },
      "/proof": { proof: "0".repeat(64), instance: "0" },
    };
    if (path !== "/stream") return response.end(JSON.stringify(answers[path] || {}));
    response.writeHead(200, { "content-type": "text/event-stream" });
    return response.write("event: hello\ndata: {}\n\n");
  });
  await page.locator(".notice", { hasText: "No connection to the daemon" }).waitFor();
  await new Promise((done) => thief.listen(site.port, "127.0.0.1", done));
  try {
    await page.locator(".notice", { hasText: "No connection" }).waitFor({ state: "detached" });
    await act(page, "small", "Pin").click();
    await page.locator("#tok-err", { hasText: "not the daemon’s" }).waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
    assert.ok(seen.length > 5);
    assert.deepEqual(seen.filter(Boolean), []);
  } finally {
    thief.closeAllConnections();
    await new Promise((done) => thief.close(done));
    await site.start();
  }
  await page.locator(".notice", { hasText: "No connection" }).waitFor({ state: "detached" });
  await row(page, "large").waitFor();
  await page.evaluate((token) => sessionStorage.setItem("speedloader-token", token), site.token());
});

flow("a daemon that falls silent is missed", async ({ page, site }) => {
  await page.locator("#live", { hasText: "Live" }).waitFor();
  site.daemon.kill("SIGSTOP");
  try {
    await page.locator(".notice", { hasText: "No connection to the daemon" }).waitFor({ timeout: 40000 });
  } finally {
    site.daemon.kill("SIGCONT");
  }
  await page.locator(".notice", { hasText: "No connection" }).waitFor({ state: "detached" });
});

flow("a question that fails at the start is asked again, and a person may ask at once", async ({ instance, site }) => {
  const context = await instance.newContext();
  const page = await context.newPage();
  await page.route("**/api/v1/history", (route) => route.fulfill({ status: 500, body: "{}" }));
  await page.goto(`${site.base}/`);
  await page.locator(".blank", { hasText: "could not be read" }).waitFor();
  assert.ok(!(await page.locator("[data-part=readouts]").textContent()).includes("0 GiB"), "nothing was measured");
  await page.unroute("**/api/v1/history");
  await page.getByRole("button", { name: "Try again now" }).click();
  await row(page, "large").waitFor();
  await context.close();
});

flow("a page for which there is no stream asks now and then", async ({ instance, site }) => {
  const context = await instance.newContext();
  const page = await context.newPage();
  await page.route("**/api/v1/stream", (route) => route.fulfill({ status: 503, body: "{}" }));
  await page.goto(`${site.base}/`);
  await row(page, "small").waitFor();
  site.cli("pin", "small", "local");
  await row(page, "small").locator(".tag", { hasText: "pinned" }).waitFor();
  assert.ok((await page.locator("#live").textContent()).includes("Live"));
  site.cli("unpin", "small");
  await context.close();
});

flow("many tabs do not hold each other up", async ({ instance, site }) => {
  const context = await instance.newContext();
  const tabs = [];
  for (let i = 0; i < 8; i += 1) {
    const page = await context.newPage();
    // No browser that a program steers hides its tabs.
    if (i > 0) await page.addInitScript(() => Object.defineProperty(document, "hidden", { value: true, configurable: true }));
    await page.goto(`${site.base}/`);
    tabs.push(page);
  }
  const back = tabs[7];
  await tabs[0].locator("tr[data-model]").first().waitFor();
  assert.equal(await back.locator("tr[data-model]").count(), 0, "nobody sees it");
  await back.evaluate(() => {
    Object.defineProperty(document, "hidden", { value: false, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await back.locator("tr[data-model]").first().waitFor();
  assert.ok(await back.locator("#toast").isHidden(), "it was not lost");
  await context.close();
});

flow("what is heard while all is asked for is not lost", async ({ instance, site }) => {
  const context = await instance.newContext();
  const page = await context.newPage();
  let release = null;
  await page.route("**/api/v1/models", async (route) => {
    // What was answered before the pin comes after what says that it is pinned.
    const answer = await route.fetch();
    await new Promise((done) => { release = done; });
    await route.fulfill({ response: answer });
  });
  await page.goto(`${site.base}/`);
  await until("the models are asked for", async () => release !== null);
  site.cli("pin", "small", "local");
  await new Promise((done) => setTimeout(done, 3000));
  release();
  await row(page, "small").locator(".tag", { hasText: "pinned" }).waitFor();
  site.cli("unpin", "small");
  await context.close();
});

flow("the token asked for inside another dialog lets the action go on", async ({ instance, site }) => {
  site.cli("unpin", "large");
  site.cli("promote", "large", "--wait");
  const reader = openSync(site.path("mnt", "large.gguf"), "r");
  try {
    const page = await tab(instance, site);
    await row(page, "large").locator(".tag", { hasText: "open" }).waitFor();
    await act(page, "large", "Demote").click();
    await page.getByRole("button", { name: "Demote", exact: true }).last().click();
    await page.locator("#tok").fill(site.token());
    await page.getByRole("button", { name: "Use token" }).click();
    await toast(page, "Demoted large");
    await page.context().close();
  } finally {
    closeSync(reader);
  }
});

flow("several models at once: what was refused is not counted as done", async ({ instance, site }) => {
  site.cli("promote", "small", "small2", "--wait");
  site.cli("pin", "small2", "local");
  const page = await tab(instance, site, { link: `#token=${site.token()}` });
  for (const name of ["small", "small2"]) await row(page, name).locator(".pick").check();
  await page.getByRole("button", { name: "Demote 2" }).click();
  await page.locator("dialog", { hasText: "1 is pinned" }).waitFor();
  await page.locator("dialog").getByRole("button", { name: "Demote 2" }).click();
  await page.locator("dialog", { hasText: "Not all of it was done" }).waitFor();
  await page.locator("dialog td", { hasText: "is pinned to local" }).waitFor();
  await toast(page, "Demoted 1 model");
  site.cli("unpin", "small2");
  await page.context().close();
});

flow("the explanation follows the model", async ({ instance, site }) => {
  site.cli("demote", "small2");
  const page = await tab(instance, site, { link: "#/models/small2" });
  await page.locator("#drawer .sentence").waitFor();
  const before = await page.locator("#drawer .sentence").textContent();
  await page.locator("#drawer", { hasText: "shown to who has the token" }).waitFor();
  site.cli("promote", "small2", "--wait");
  await page.locator("#drawer .sentence", { hasText: "resident in local" }).waitFor();
  assert.notEqual(await page.locator("#drawer .sentence").textContent(), before);
  await page.context().close();
});

flow("a placement strategy that was not saved is not shown as chosen", async ({ instance, site }) => {
  const page = await tab(instance, site, { link: "#/tiers" });
  const now = await page.locator("[name=strategy]:checked").getAttribute("value");
  await page.locator("[name=strategy][value=round-robin]").check();
  await page.locator("#tok").waitFor();
  await page.keyboard.press("Escape");
  await until("it is as it was", async () => (await page.locator("[name=strategy]:checked").getAttribute("value")) === now);
  await page.context().close();
});

flow("settings are shown to who has the token, and what is not saved stays", async ({ instance, site }) => {
  const page = await tab(instance, site, { link: "#/settings" });
  await page.getByRole("button", { name: "Show settings" }).click();
  await page.locator("#tok").fill(site.token());
  await page.getByRole("button", { name: "Use token" }).click();
  await page.locator("#f-policy-half_life").fill("30");
  assert.equal(await page.locator("#f-http-token").inputValue(), "");
  await page.locator("[aria-label='Remove Pool 1']").click();
  await page.locator("[aria-label='Keep Pool 1']").waitFor();
  await go(page, "Models");
  await go(page, "Settings");
  assert.equal(await page.locator("#f-policy-half_life").inputValue(), "30");
  await page.locator("[aria-label='Keep Pool 1']").click();
  await page.locator(".savebar", { hasText: "1 change" }).waitFor();
  await page.getByRole("button", { name: "Discard" }).click();
  assert.notEqual(await page.locator("#f-policy-half_life").inputValue(), "30");
  await page.context().close();
});

flow("a resize that changes nothing says so, whatever the size", async ({ instance, site }) => {
  const page = await tab(instance, site, { link: "#/tiers" });
  await page.locator("[aria-label='Resize local']").waitFor();
  await page.evaluate(async () => {
    const { db, emit } = await import("/js/state.js");
    const [pool, ...rest] = db.status.pools;
    db.status = { ...db.status, pools: [{ ...pool, capacity_bytes: pool.capacity_bytes + 123456789 }, ...rest] };
    emit("status");
  });
  await page.locator("[aria-label='Resize local']").click();
  await page.locator("dialog [role=status]", { hasText: "From" }).waitFor();
  assert.ok(await page.getByRole("button", { name: "Resize", exact: true }).last().isDisabled());
  await page.context().close();
});

flow("a resize takes the room of copies that were left behind before it demotes models", async ({ instance, site }) => {
  const page = await tab(instance, site, { link: "#/tiers" });
  await page.locator("[aria-label='Resize local']").waitFor();
  await page.evaluate(async (MIB) => {
    const { db, emit } = await import("/js/state.js");
    const [pool, ...rest] = db.status.pools;
    const full = { capacity_bytes: 512 * MIB, used_bytes: 512 * MIB, free_bytes: 0, reserved_bytes: 0, draining_bytes: 0, spare_bytes: 300 * MIB };
    const status = { ...db.status, memory: { ...db.status.memory, total_bytes: 1024 * MIB }, pools: [{ ...pool, ...full }, ...rest] };
    const models = [...db.models.values()].map((model) => [model.name, { ...model, open: 0, pinned: null, resident_bytes: { [pool.name]: 20 * MIB } }]);
    // What the daemon says meanwhile is not heard.
    Object.defineProperty(db, "status", { get: () => status, set: () => {} });
    Object.defineProperty(db, "models", { get: () => new Map(models), set: () => {} });
    emit("status");
  }, MIB);
  await page.locator("[aria-label='Resize local']").click();
  const said = (text) => page.locator("dialog [role=status]", { hasText: text }).waitFor();
  await page.locator("#cap").fill(String(256 * MIB));
  await said("Nothing moves");
  await page.locator("#cap").fill(String(192 * MIB));
  await said("demotes 1 model,");
  await page.context().close();
});

flow("first-run set-up to a working mount", async ({ instance }) => {
  const fresh = new Site();
  try {
    gguf(fresh.path("cold", "found.gguf"), 8 * MIB);
    mkdirSync(fresh.path("full"));
    gguf(fresh.path("full", "in-the-way.gguf"), 1024);
    await fresh.startWithoutConfiguration();
    assert.equal(existsSync(fresh.config), false);
    const page = await tab(instance, fresh);
    // Looking needs the token here: what is found are directories that others may not read.
    await page.locator("#tok").fill(fresh.token());
    await page.getByRole("button", { name: "Use token" }).click();
    await page.locator("h1", { hasText: "Models found" }).waitFor();
    await page.getByRole("button", { name: "Add a directory" }).click();
    await page.locator("#dir").fill(fresh.path("cold"));
    await page.getByRole("button", { name: "Look at it" }).click();
    const store = page.locator(".found", { hasText: fresh.path("cold") });
    await store.getByText("1 model").waitFor();
    assert.ok(await store.locator("input").isChecked(), "what was named is chosen");
    await page.getByRole("button", { name: "Continue" }).click();
    await page.locator("#cap").fill("1");
    await page.locator("p[role=status]", { hasText: "for models" }).waitFor();
    await page.getByRole("button", { name: "Continue" }).click();
    await page.locator("#p-mountpoint").fill(fresh.path("full"));
    await page.locator("#p-mountpoint-e", { hasText: "is not empty" }).waitFor();
    assert.ok(await page.getByRole("button", { name: "Continue" }).isDisabled());
    await page.locator("#p-mountpoint").fill(fresh.path("mnt"));
    await page.locator("#p-models_dir").fill(fresh.path("models"));
    await page.locator(".main:enabled", { hasText: "Continue" }).click();
    await page.locator("pre", { hasText: `path = "${fresh.path("cold")}"` }).waitFor();
    assert.equal(existsSync(fresh.config), false, "nothing is written before it is said so");
    await page.getByRole("button", { name: "Write configuration and mount" }).click();
    await page.locator("h1", { hasText: `Mounted at ${fresh.path("mnt")}` }).waitFor();
    await page.locator("code", { hasText: `OLLAMA_MODELS=${fresh.path("mnt")}` }).waitFor();
    assert.equal(readFileSync(fresh.path("mnt", "found.gguf")).length, 8 * MIB + 24, "the mount serves what was found");
    await page.getByRole("link", { name: "Show the models" }).click();
    // It has just been read, so the policy may have promoted it by itself.
    fresh.cli("promote", "found", "--wait");
    await row(page, "found").locator(".place span", { hasText: /^local$/ }).waitFor();
    const grave = page.complaints.filter((text) => !CONSOLE_DURING_LOSS.test(text));
    assert.deepEqual(grave, []);
    await page.context().close();
  } finally {
    await fresh.finish();
  }
});

flow("the set-up says why a mount could not be made, and goes on from there", async ({ instance }) => {
  const fresh = new Site();
  try {
    // The socket's group is not there, which only the start of the daemon finds.
    await fresh.startWithoutConfiguration({ SPEEDLOADER_CONTROL_GROUP: "no-such-group-here", SPEEDLOADER_HTTP_TOKEN: "0123456789abcdef-0123" });
    const page = await tab(instance, fresh, { link: "#token=0123456789abcdef-0123" });
    await page.locator("h1", { hasText: "Models found" }).waitFor();
    for (const name of ["Models found", "Memory to use"]) {
      await page.locator("h1", { hasText: name }).waitFor();
      if (name === "Memory to use") await page.locator("#cap").fill("1");
      await page.getByRole("button", { name: "Continue" }).click();
    }
    await page.locator("#p-mountpoint").fill(fresh.path("mnt"));
    await page.locator("#p-models_dir").fill(fresh.path("models"));
    await page.locator(".main:enabled", { hasText: "Continue" }).click();
    await page.getByRole("button", { name: "Write configuration and mount" }).click();
    await page.locator(".notice", { hasText: "no-such-group-here" }).waitFor();
    assert.ok(existsSync(fresh.config));
    await page.context().close();
  } finally {
    await fresh.finish();
  }
});

flow("a link from web-url brings the token and hides it", async ({ instance, site }) => {
  const link = new URL(site.cli("web-url").trim());
  assert.equal(link.origin, site.base);
  const page = await tab(instance, site, { link: link.hash });
  await act(page, "small", "Pin").click();
  await toast(page, "Pinned small");
  assert.ok(!page.url().includes(site.token()));
  site.cli("unpin", "small");
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

flow("a link opened in a tab that shows the page brings its token and is hidden", async ({ instance, site }) => {
  const page = await tab(instance, site);
  await row(page, "small").waitFor();
  for (const [hash, kept] of [[`#token=${site.token()}`, site.token()], ["#token=not/a/token", site.token()]]) {
    await page.evaluate((to) => { location.hash = to; }, hash);
    await until("it is hidden", async () => page.url().endsWith("#/models"));
    assert.equal(await page.evaluate(() => sessionStorage.getItem("speedloader-token")), kept);
  }
  await page.context().close();
});

flow("a hostile name is only text", async ({ page, site }) => {
  const name = "<img src=x onerror=alert(1)> \"'&";
  gguf(site.path("models", `${name}.gguf`), MIB);
  site.cli("rescan");
  await page.locator("tr[data-model] .open", { hasText: "<img src=x" }).waitFor();
  await page.locator("tr[data-model] .open", { hasText: "<img src=x" }).click();
  await page.locator("#drawer-title", { hasText: "<img src=x" }).waitFor();
  assert.equal(await page.locator("main img, #drawer img").count(), 0);
  await page.keyboard.press("Escape");
});

flow("the guide has no serious accessibility fault, in light and dark, narrow and wide", async ({ instance }) => {
  const fresh = new Site();
  try {
    gguf(fresh.path("cold", "found.gguf"), 1024);
    await fresh.startWithoutConfiguration();
    for (const colorScheme of ["light", "dark"]) {
      for (const width of [390, 1920]) {
        const page = await tab(instance, fresh, { colorScheme, viewport: { width, height: 900 }, bypassCSP: true, link: `#token=${fresh.token()}` });
        await page.addScriptTag({ content: axe });
        for (const name of ["Models found", "Memory to use", "Where to mount", "Review"]) {
          await page.locator("h1", { hasText: name }).waitFor();
          const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"] }));
          const grave = found.violations.filter((one) => ["serious", "critical"].includes(one.impact));
          assert.deepEqual(grave.map((one) => [one.id, one.nodes.map((node) => node.html).slice(0, 3)]), [], `${name}, ${colorScheme}, ${width}`);
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          assert.ok(wide <= 0, `${name} at ${width} scrolls sideways by ${wide}`);
          if (name !== "Review") await page.locator(".main:enabled", { hasText: "Continue" }).click();
        }
        await page.context().close();
      }
    }
  } finally {
    await fresh.finish();
  }
});

flow("no page has a serious accessibility fault, in light and dark, narrow and wide", async ({ instance, site }) => {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [320, 390, 1920]) {
      const page = await tab(instance, site, { colorScheme, viewport: { width, height: 900 }, bypassCSP: true, link: `#token=${site.token()}` });
      await page.locator("tr[data-model]").first().waitFor();
      await page.addScriptTag({ content: axe });
      for (const name of ["models", "models/small", "tiers", "activity", "plan", "settings"]) {
        await page.evaluate((hash) => { location.hash = hash; }, `#/${name}`);
        await page.locator("main h1").first().waitFor({ state: "attached" });
        await page.locator(DRAWN[name]).first().waitFor();
        const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"] }));
        const grave = found.violations.filter((one) => ["serious", "critical"].includes(one.impact));
        assert.deepEqual(grave.map((one) => [one.id, one.nodes.map((node) => node.html).slice(0, 3)]), [], `${name}, ${colorScheme}, ${width}`);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(wide <= 0, `${name} at ${width} scrolls sideways by ${wide}`);
      }
      await page.context().close();
    }
  }
});

// An Ollama that has loaded what the test wants.
let loaded = [];
const engine = createServer((request, response) => response.end(JSON.stringify({ models: loaded.map((name) => ({ name })) })));
const site = new Site();
const instance = await browser();
let failed = 0;
try {
  for (const [name, mib] of [["small", 24], ["small2", 32], ["large", 440]]) gguf(site.path("cold", `${name}.gguf`), mib * MIB);
  mkdirSync(site.path("cold", "empty"));
  await new Promise((done) => engine.listen(0, "127.0.0.1", done));
  await site.configure(undefined, `http://127.0.0.1:${engine.address().port}`);
  site.post = async (path, body) => {
    const headers = { "content-type": "application/json", authorization: `Bearer ${site.token()}` };
    const answer = await fetch(`${site.base}/api/v1${path}`, { method: "POST", headers, body: JSON.stringify(body) });
    const text = await answer.json();
    if (!answer.ok) throw new Error(text.error.message);
    return text;
  };
  await site.start();
  const page = await tab(instance, site);
  const other = await tab(instance, site, { link: `#token=${site.token()}` });
  for (const [name, run] of flows) {
    const began = performance.now();
    try {
      await run({ page, other, site, instance });
      const complaints = [...page.complaints.splice(0), ...other.complaints.splice(0)];
      const grave = complaints.filter((text) => !CONSOLE_DURING_LOSS.test(text) && !/401 \(Unauthorized\)/.test(text));
      assert.deepEqual(grave, [], "the console complains");
      console.log(`ok      ${name} (${Math.round(performance.now() - began)} ms)`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${name}: ${error.stack}`);
      const shot = `${process.env.SPEEDLOADER_SHOTS || site.root}/failed-${failed}.png`;
      await page.screenshot({ path: shot }).catch(() => null);
    }
  }
} finally {
  await instance.close();
  engine.close();
  await site.finish();
}
console.log(`test result: ${failed ? "FAILED" : "ok"}. ${flows.length - failed} passed; ${failed} failed; 0 ignored`);
process.exit(failed ? 1 : 0);
