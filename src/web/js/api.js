// The daemon: requests, the token, and the stream of what changes.

const API = "/api/v1";
const TOKEN = "speedloader-token";
const INSTANCE = "speedloader-instance";
// What is looked at is there at once; what is changed may wait for another machine.
const LOOK_MS = 20000;
const CHANGE_MS = 600000;
// The daemon says something every two seconds, if only that it is there.
const SILENCE_MS = 15000;
const REOPEN_MS = 2000;
// How often all is asked for where there is no stream for this page.
const POLL_MS = 10000;

/** An answer that is a refusal: the daemon's own words. */
export class Refusal extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.hint = error.hint;
    this.suggestions = error.suggestions || [];
  }
}

/** Nobody has answered, and what was wanted was not sent. */
export class Unsent extends Error {}

// A link from `speedloader web-url` has the token in its fragment; it must not stay in the address bar, nor in the
// history, whatever it looks like.
function takeTokenFromLink() {
  if (!location.hash.startsWith("#token=")) return;
  const found = location.hash.match(/^#token=([\w.-]+)$/);
  if (found) keepToken(found[1]);
  history.replaceState(null, "", location.pathname + "#/models");
}

export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;
export const forgetToken = () => sessionStorage.removeItem(TOKEN);
export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token);
  sessionStorage.removeItem(INSTANCE);
}
takeTokenFromLink();
// Before anybody else hears of the new address: a link may be opened in a tab that shows the page already.
addEventListener("hashchange", takeTokenFromLink);

// Ends what waits for a daemon that has fallen silent.
let broken = new AbortController();
function breakOff() {
  broken.abort();
  broken = new AbortController();
}

async function send(method, path, body, token) {
  const headers = {};
  if (body !== undefined) headers["content-type"] = "application/json";
  if (token) headers.authorization = `Bearer ${token}`;
  const patience = AbortSignal.timeout(method === "GET" ? LOOK_MS : CHANGE_MS);
  const signal = AbortSignal.any([patience, broken.signal]);
  const response = await fetch(API + path, { method, headers, body: body && JSON.stringify(body), signal }).catch(() => {
    throw new Error("the daemon does not answer");
  });
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  if (response.ok) throw new Error("the daemon’s answer was cut short");
  const error = answer?.error || { code: "failed", message: `the daemon answered ${response.status}` };
  throw new Refusal(response.status, error);
}

const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/**
 * Whether who answers now has the token already. While the daemon is down anybody on its machine can listen at its
 * port, and would be sent the token with the next change.
 */
async function knows(token) {
  const nonce = hex(crypto.getRandomValues(new Uint8Array(24)));
  const { proof, instance } = await send("GET", `/proof?nonce=${nonce}`);
  // Over plain HTTP from another machine the browser computes nothing; there the token is for one run of the daemon.
  if (!crypto.subtle) {
    const known = sessionStorage.getItem(INSTANCE);
    sessionStorage.setItem(INSTANCE, instance);
    return known === null || known === instance;
  }
  const bytes = (text) => new TextEncoder().encode(text);
  const key = await crypto.subtle.importKey("raw", bytes(token), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return hex(new Uint8Array(await crypto.subtle.sign("HMAC", key, bytes(nonce)))) === proof;
}

async function request(method, path, body) {
  const token = sessionStorage.getItem(TOKEN);
  if (token === null) return send(method, path, body);
  const isDaemon = await knows(token).catch((error) => {
    throw error instanceof Refusal ? error : new Unsent(error.message);
  });
  if (!isDaemon) throw new Refusal(401, { code: "denied", message: "this is not the daemon’s token" });
  return send(method, path, body, token);
}

const query = (fields) => {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== "");
  return given.length ? "?" + new URLSearchParams(given) : "";
};

export const get = (path, fields = {}) => send("GET", path + query(fields));
/** Looks at what only those may see who have the token. */
export const getGuarded = (path, fields = {}) => request("GET", path + query(fields));
export const post = (path, body = {}) => request("POST", path, body);
export const remove = (path) => request("DELETE", path);

/**
 * Calls `heard[kind](data)` for each message, and `lost()` when the connection breaks or nothing is heard any more.
 * A page that nobody sees hears nothing: browsers have six connections for all tabs together.
 */
export function listen(heard, lost) {
  let source = null;
  let last = 0;
  let reopening = 0;
  const end = () => {
    clearTimeout(reopening);
    source?.close();
    source = null;
  };
  const open = () => {
    end();
    if (document.hidden) return;
    last = Date.now();
    source = new EventSource(API + "/stream");
    for (const kind of ["beat", ...Object.keys(heard)]) {
      source.addEventListener(kind, (message) => {
        last = Date.now();
        heard[kind]?.(JSON.parse(message.data));
      });
    }
    source.addEventListener("error", () => (source.readyState === EventSource.CLOSED ? refused() : miss()));
  };
  // A daemon that answers may have no stream to spare: then it is asked now and then.
  const refused = async () => {
    end();
    const answers = await send("GET", "/version").then(() => true, () => false);
    if (source) return;
    if (answers) heard.hello();
    else lost();
    reopening = setTimeout(open, answers ? POLL_MS : REOPEN_MS);
  };
  const miss = () => {
    end();
    lost();
    reopening = setTimeout(open, REOPEN_MS);
  };
  setInterval(() => {
    if (!source || Date.now() - last <= SILENCE_MS) return;
    breakOff();
    miss();
  }, 1000);
  document.addEventListener("visibilitychange", () => (document.hidden ? end() : source || open()));
  open();
}
