// A real daemon on a temporary tree, as a stranger would run it, and a browser in front of it.

import { spawn, execFileSync } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer } from "node:net";
import { randomBytes } from "node:crypto";
import { chromium } from "playwright-core";

const PROGRAM = process.env.SPEEDLOADER || "target/debug/speedloader";
const MIB = 2 ** 20;
export const CONSOLE_DURING_LOSS = /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/;

export async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** Asks again until it is so; the whole run is killed from outside if it never is. */
export async function until(what, isSo, patience_ms = 60000) {
  const end = Date.now() + patience_ms;
  for (;;) {
    if (await isSo()) return;
    if (Date.now() > end) throw new Error(`never: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

/** A GGUF file with a header that is right and random tensors. */
export function gguf(path, bytes) {
  const header = Buffer.alloc(24);
  header.write("GGUF");
  header.writeUInt32LE(3, 4);
  const file = openSync(path, "w");
  writeSync(file, header);
  const block = randomBytes(Math.min(bytes, 4 * MIB));
  for (let left = bytes; left > 0; left -= block.length) writeSync(file, block, 0, Math.min(left, block.length));
  closeSync(file);
}

export class Site {
  constructor() {
    this.root = mkdtempSync(join(process.env.TMPDIR || tmpdir(), "speedloader-web-"));
    for (const name of ["models", "cold", "mnt", "state"]) mkdirSync(join(this.root, name));
    this.config = join(this.root, "config.toml");
  }

  path(...names) {
    return join(this.root, ...names);
  }

  async configure(capacity = "512MiB", engine = null) {
    this.port = await freePort();
    this.base = `http://127.0.0.1:${this.port}`;
    writeFileSync(this.config, `# A comment of its owner.
models_dir = "${this.path("models")}"
mountpoint = "${this.path("mnt")}"
state_dir = "${this.path("state")}"

[[cold]]
path = "${this.path("cold")}"

[[pool]]
name = "local"
capacity = "${capacity}" # as large as that
path = "${this.path("pool")}"

# Reached by a stand-in for ssh, which runs the agent here. Too small for its file system: wherever the kernel has
# an NVMe target, bringing it up fails then, and elsewhere one step earlier.
[remote.other]
ssh = "other"
address = "127.0.0.1"
transport = "tcp"
capacity = "64MiB"
connect = false

[policy]
enabled = false
memory_reserve = "0B"

# The disk may be busy with what others do here.
[mover]
back_off = "0s"

${engine ? `[engines]\nask = ["${engine}"]\ninterval = "1s"\n` : ""}
[http]
listen = "127.0.0.1:${this.port}"

[control]
socket = "${this.path("sock")}"
`);
  }

  async start() {
    const log = openSync(this.path("log"), "a");
    mkdirSync(this.path("bin"), { recursive: true });
    writeFileSync(this.path("bin", "ssh"), `#!/bin/sh\nexec '${PROGRAM}' remote-agent\n`, { mode: 0o755 });
    const env = { ...process.env, PATH: `${this.path("bin")}:${process.env.PATH}` };
    this.daemon = spawn(PROGRAM, ["serve", "--config", this.config], { stdio: ["ignore", log, log], env });
    closeSync(log);
    await until("the daemon serves the page", async () => {
      if (this.daemon.exitCode !== null) throw new Error(readFileSync(this.path("log"), "utf8"));
      return fetch(`${this.base}/readyz`).then((answer) => answer.ok, () => false);
    });
  }

  /** The daemon before anybody has configured anything: it serves the guide. */
  async startWithoutConfiguration(environment = {}) {
    this.port = await freePort();
    this.base = `http://127.0.0.1:${this.port}`;
    this.socket = this.path("sock");
    const options = `http.listen=127.0.0.1:${this.port},state_dir=${this.path("state")},control.socket=${this.path("sock")}`;
    const log = openSync(this.path("log"), "a");
    const env = { ...process.env, HOME: this.root, ...environment };
    this.daemon = spawn(PROGRAM, ["serve", "--config", this.config, "-o", options], { stdio: ["ignore", log, log], env });
    closeSync(log);
    await until("the daemon serves the guide", async () => {
      if (this.daemon.exitCode !== null) throw new Error(readFileSync(this.path("log"), "utf8"));
      return fetch(`${this.base}/health`).then(async (answer) => (await answer.json()).status === "setup", () => false);
    });
  }

  async end(signal = "SIGINT") {
    if (!this.daemon || this.daemon.exitCode !== null || this.daemon.signalCode !== null) return;
    const ended = new Promise((done) => this.daemon.once("exit", done));
    this.daemon.kill(signal);
    await ended;
  }

  cli(...words) {
    return execFileSync(PROGRAM, ["--config", this.config, ...(this.socket ? ["--socket", this.socket] : []), ...words], { encoding: "utf8" });
  }

  token() {
    return readFileSync(this.path("state", "http-token"), "utf8").trim();
  }

  async get(path, token = null) {
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    return (await fetch(`${this.base}/api/v1${path}`, { headers })).json();
  }

  async finish() {
    await this.end();
    // What a killed daemon has left.
    for (const mount of ["mnt", "pool"]) {
      try {
        execFileSync("umount", ["-l", this.path(mount)], { stdio: "ignore" });
      } catch {
        // It was not mounted any more.
      }
    }
    rmSync(this.root, { recursive: true, force: true });
  }
}

export async function browser() {
  const profile = mkdtempSync(join(process.env.TMPDIR || tmpdir(), "speedloader-browser-"));
  return chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    env: { ...process.env, HOME: profile },
    args: ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
}

/** A tab whose complaints are kept. */
export async function tab(instance, site, options = {}) {
  const context = await instance.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  page.complaints = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) page.complaints.push(message.text());
  });
  page.on("pageerror", (error) => page.complaints.push(String(error)));
  page.setDefaultTimeout(30000);
  await page.goto(`${site.base}/${options.link || ""}`);
  return page;
}
