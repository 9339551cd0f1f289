// Figures as people read them. Sizes are GiB, rates GB/s, and a number keeps its unit on its line.

import { faint, h } from "./dom.js";

export const NB = "\u00a0";
const GIB = 2 ** 30;
const MIB = 2 ** 20;
const oneDigit = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const twoDigits = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const n0 = (value) => whole.format(value);
export const n1 = (value) => oneDigit.format(value);
/** GiB without the unit, for tables that have it in the heading. */
export function gib(bytes) {
  const value = bytes / GIB;
  if (value > 0 && value < 0.095) return twoDigits.format(value);
  return value >= 999.95 ? n0(value) : n1(value);
}
export function size(bytes) {
  if (bytes === 0) return `0${NB}GiB`;
  if (bytes >= GIB / 10) return gib(bytes) + NB + "GiB";
  return bytes < MIB ? `under 1${NB}MiB` : n0(bytes / MIB) + NB + "MiB";
}
/** A part of the address; what is no such part is nothing. */
export function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}
export const rate = (bytesPerSec) => n1(bytesPerSec / 1e9) + NB + "GB/s";
/** Rounded down: all of it is 100 % only when it is all of it. */
export const percent = (part, all) => {
  const share = all > 0 ? part / all : 0;
  return n0(share >= 1 ? 100 : Math.min(99, Math.floor(share * 100))) + NB + "%";
};
export function duration(seconds) {
  if (seconds > 0 && seconds < 0.0995) return n0(seconds * 1000) + NB + "ms";
  if (seconds < 9.95) return n1(seconds) + NB + "s";
  if (seconds < 90) return n0(seconds) + NB + "s";
  if (seconds < 5400) return n0(seconds / 60) + NB + "min";
  return Math.floor(seconds / 3600) + NB + "h " + Math.round((seconds % 3600) / 60) + NB + "min";
}
export const plural = (count, one, many = one + "s") => n0(count) + NB + (count === 1 ? one : many);

// Times come from the daemon's clock, which need not be this one.
let ahead = 0;
/** Takes over what time it is where the daemon is. */
export const setNow = (ms) => { ahead = ms - Date.now(); };
/** What time it is there. */
export const now = () => Date.now() + ahead;

export const absolute = (ms) =>
  new Date(ms).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
export const clockTime = (ms) => new Date(ms).toLocaleTimeString("en-GB");
export function ago(ms) {
  const seconds = Math.max(0, (now() - ms) / 1000);
  if (seconds < 60) return n0(seconds) + NB + "s ago";
  if (seconds < 3600) return n0(seconds / 60) + NB + "min ago";
  if (seconds < 172800) return n0(seconds / 3600) + NB + "h ago";
  return n0(seconds / 86400) + NB + "d ago";
}
export const when = (ms) => ms
  ? h("time", { "data-t": ms, datetime: new Date(ms).toISOString(), title: absolute(ms) }, ago(ms))
  : faint("never");
export const lastLoad = (m) => (m.last_load_ms || !m.heat ? when(m.last_load_ms) : faint("before start"));
export const weekday = (ms) => new Date(ms).toLocaleDateString("en-GB", { weekday: "short" });

export const ENGINES = { ollama: "Ollama", gguf: "GGUF", huggingface: "Hugging Face", file: "File" };
export const engine = (kind) => ENGINES[kind] || kind;
