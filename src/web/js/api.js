// The daemon: requests, the token, and the stream of what changes.

const API = "/api/v1";
const TOKEN = "speedloader-token";

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

// A link from `speedloader web-url` has the token in its fragment; it must not stay in the address bar.
function takeTokenFromLink() {
  const found = location.hash.match(/^#token=([\w.-]+)$/);
  if (!found) return;
  sessionStorage.setItem(TOKEN, found[1]);
  history.replaceState(null, "", location.pathname + "#/models");
}
takeTokenFromLink();

export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;
export const keepToken = (token) => sessionStorage.setItem(TOKEN, token);
export const forgetToken = () => sessionStorage.removeItem(TOKEN);

async function request(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["content-type"] = "application/json";
  if (method !== "GET" && hasToken()) headers.authorization = `Bearer ${sessionStorage.getItem(TOKEN)}`;
  const response = await fetch(API + path, { method, headers, body: body && JSON.stringify(body) });
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  const error = answer?.error || { code: "failed", message: `the daemon answered ${response.status}` };
  throw new Refusal(response.status, error);
}

const query = (fields) => {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== "");
  return given.length ? "?" + new URLSearchParams(given) : "";
};

export const get = (path, fields = {}) => request("GET", path + query(fields));
export const post = (path, body = {}) => request("POST", path, body);
export const remove = (path) => request("DELETE", path);

/** Calls `heard[kind](data)` for each message, `lost()` when the connection breaks. */
export function listen(heard, lost) {
  const source = new EventSource(API + "/stream");
  for (const [kind, hear] of Object.entries(heard)) {
    source.addEventListener(kind, (message) => hear(JSON.parse(message.data)));
  }
  source.addEventListener("error", () => {
    lost();
    // A server that answers, but not with a stream, ends it for good.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(heard, lost), 2000);
  });
}
