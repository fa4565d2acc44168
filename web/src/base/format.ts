// Numbers as text for people: grouped, with a steady number of digits, int64 without passing through a double.

import type { Int64Text, WallMs } from "@tickcast/client";

/** Shown where there is no value. */
export const NONE = "–";

/** Between groups of three digits: narrow, and no line breaks at it. */
const GROUP = "\u202f";

const MINUS = "\u2212";

function grouped(digits: string): string {
  if (digits.length <= 3) return digits;
  let out = digits.slice(0, digits.length % 3 || 3);
  for (let i = out.length; i < digits.length; i += 3) out += GROUP + digits.slice(i, i + 3);
  return out;
}

/** Returns an int64 in groups of three digits, exact. */
export function formatInt64(value: Int64Text): string {
  return value.startsWith("-") ? MINUS + grouped(value.slice(1)) : grouped(value);
}

/** Returns a count (a whole number ≥ 0) in groups of three digits. */
export function formatCount(value: number): string {
  return grouped(value.toFixed(0));
}

/** Returns a count in at most nine characters: exact below a million, then three significant digits. */
export function formatShort(value: number): string {
  if (value < 999_500) return formatCount(value);
  let scaled = value / 1e6;
  let unit = 0;
  while (scaled >= 999.5 && unit < SHORT_UNITS.length - 1) {
    scaled /= 1000;
    unit++;
  }
  const digits = scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0;
  return `${scaled.toFixed(digits)} ${SHORT_UNITS[unit]}`;
}

const SHORT_UNITS = ["M", "B", "T"] as const;

/** Returns a decimal in groups, with at least `least` and at most `most` fraction digits. */
function formatDecimal(value: number, least: number, most: number): string {
  const [whole = "", fraction = ""] = Math.abs(value).toFixed(most).split(".");
  let end = fraction.length;
  while (end > least && fraction[end - 1] === "0") end--;
  const text = end > 0 ? `${grouped(whole)}.${fraction.slice(0, end)}` : grouped(whole);
  return value < 0 ? MINUS + text : text;
}

/** What neither digits nor groups can show well is in e-notation. */
function formatValue(value: number | null, least: number, most: number): string {
  if (value === null || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-6)) return value.toExponential(4).replace(/-/g, MINUS);
  return formatDecimal(value, least, most);
}

/** Returns a price: two fraction digits, more where it has them: up to six, below 1 up to eight. */
export function formatPrice(price: number | null): string {
  return formatValue(price, 2, price !== null && Math.abs(price) < 1 ? 8 : 6);
}

/** Returns any quantity: whole numbers in groups and exact, others in six digits, e-notation below 0.0001. */
export function formatQuantity(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e15) return formatDecimal(value, 0, 0);
  if (size < 1e-4 || size >= 1e15) return Number(value.toPrecision(5)).toExponential().replace(/-/g, MINUS);
  return formatDecimal(value, 0, Math.max(0, 5 - Math.floor(Math.log10(size))));
}

/** Returns a price with a fixed number of decimals, NaN as a dash. */
export function formatFixed(price: number, decimals: number): string {
  return formatValue(Number.isNaN(price) ? null : price, decimals, decimals);
}

/** Returns a share of one as percent with its sign, two decimals. */
export function formatPercent(share: number): string {
  if (!Number.isFinite(share)) return NONE;
  const text = (Math.abs(share) * 100).toFixed(2);
  return text === "0.00" ? "0.00 %" : `${share < 0 ? MINUS : "+"}${text} %`;
}

/** Returns an age in words short enough for a cell. */
export function formatAge(ms: number): string {
  if (!Number.isFinite(ms)) return NONE;
  if (ms < 1000) return "< 1 s";
  if (ms < 60_000) return `${Math.floor(ms / 1000)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`;
  return `${Math.floor(ms / 3_600_000)} h`;
}

/** Returns a number of bytes. */
export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** Returns a mean price, whose digits have no end: four fraction digits, below 1 six. */
export function formatVwap(vwap: number): string {
  const digits = Math.abs(vwap) < 1 ? 6 : 4;
  return formatValue(vwap, digits, digits);
}

/** Returns a duration in milliseconds: three significant digits below a second, then seconds. */
export function formatMs(ms: number | undefined): string {
  if (ms === undefined || !Number.isFinite(ms)) return NONE;
  if (ms < 0.1) return "< 0.1 ms";
  if (ms < 10) return `${ms.toFixed(2)} ms`;
  if (ms < 100) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

/** Returns events per second: one fraction digit below 100, none above. */
export function formatRate(perSecond: number): string {
  return perSecond < 100 ? formatDecimal(perSecond, 1, 1) : formatCount(perSecond);
}

/** Returns the time of day in UTC, to the millisecond. */
export function formatTime(at: WallMs): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? NONE : date.toISOString().slice(11, 23);
}

/** Returns date and time in UTC with all nine fraction digits, exact: the digits are cut, not computed. */
export function formatTimestampNs(ns: Int64Text): string {
  if (ns.startsWith("-")) return ns;
  const digits = ns.padStart(10, "0");
  const date = new Date(Number(digits.slice(0, -9)) * 1000);
  return `${date.toISOString().slice(0, 19).replace("T", " ")}.${digits.slice(-9)} UTC`;
}
