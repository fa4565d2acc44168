// Text of a message -> a message that is what its type says. Nothing behind this file checks a field again.

import type { Epoch, Int64Text, Sequence, WallMs } from "../base/nominal";
import { int64Text, wallMsOfNs } from "../base/nominal";
import type { ServerMessage, Status, Trade, Trades } from "./messages";

/** A message that breaks the protocol; names the field, the rule and the value. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

type Fields = Readonly<Record<string, unknown>>;

/**
 * Returns the message of a text frame, or `undefined` for a type that this version does not know (later ones add some).
 *
 * Integers may come as JSON numbers or as strings of digits.
 *
 * @throws ProtocolError The text is no JSON object, or a field is missing or wrong.
 */
export function parseMessage(text: string): ServerMessage | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ProtocolError(`message: not JSON, was ${excerpt(text)}`);
  }
  const fields = object("message", value);
  switch (fields.type) {
    case "trades":
      return trades(fields);
    case "snapshot":
      return { type: "snapshot", toSeq: sequence(fields, "toSeq"), trades: tradeList(fields) };
    case "heartbeat":
      return { type: "heartbeat" };
    case "pong":
      return { type: "pong", t: number(fields, "t"), serverMs: timeNs(fields, "serverNs") };
    case "verdict":
      return { type: "verdict", id: requestId(fields), trade: trade(fields.trade) };
    case "gap":
      return {
        type: "gap",
        from: sequence(fields, "from"),
        to: sequence(fields, "to"),
        why: textOr(fields, "why", ""),
      };
    default:
      return rareMessage(fields);
  }
}

function rareMessage(fields: Fields): ServerMessage | undefined {
  switch (fields.type) {
    case "hello":
      return {
        type: "hello",
        epoch: epoch(fields),
        seq: sequence(fields, "seq"),
        heartbeatMs: numberOr(fields, "heartbeatMs", 0),
        instruments: names(fields.instruments),
        server: textOr(fields, "server", ""),
      };
    case "subscribed":
      return { type: "subscribed", id: requestId(fields) };
    case "status":
      return {
        type: "status",
        source: textOr(fields, "source", ""),
        state: string(fields, "state"),
        sinceMs: fields.since === undefined || fields.since === null ? undefined : timeNs(fields, "since"),
      };
    case "error":
      return {
        type: "error",
        id: requestId(fields),
        code: String(fields.code ?? ""),
        message: textOr(fields, "message", ""),
      };
    case "bye":
      return {
        type: "bye",
        code: number(fields, "code"),
        reason: textOr(fields, "reason", ""),
        retryAfterMs: Math.max(0, numberOr(fields, "retryAfterMs", 0)),
      };
    default:
      string(fields, "type");
      return undefined;
  }
}

function trades(fields: Fields): Trades {
  const seq = sequence(fields, "seq");
  const toSeq = sequence(fields, "toSeq");
  const list = tradeList(fields);
  const message = { type: "trades", seq, toSeq, sentMs: timeNs(fields, "sentNs"), trades: list } as const;
  if (fields.seqs === undefined || fields.seqs === null) {
    if (list.length !== toSeq - seq + 1) {
      throw new ProtocolError(`trades: ${list.length} for the sequences ${seq} to ${toSeq}, without seqs`);
    }
    return { ...message, seqs: undefined };
  }
  const seqs = array(fields, "seqs").map((value) => sequenceOf("seqs", value));
  if (seqs.length !== list.length) throw new ProtocolError(`seqs: ${seqs.length} for ${list.length} trades`);
  for (let i = 0, least = seq as number; i < seqs.length; i++) {
    const n = seqs[i] as number;
    if (n < least || n > toSeq) throw new ProtocolError(`seqs: must ascend within ${seq} to ${toSeq}, was ${n}`);
    least = n + 1;
  }
  return { ...message, seqs };
}

function tradeList(fields: Fields): Trade[] {
  return array(fields, "trades").map(trade);
}

function trade(value: unknown): Trade {
  const fields = object("trade", value);
  const price = fields.price ?? null;
  if (price !== null && typeof price !== "number") throw wrong("price", "a number or null", price);
  return {
    tradeId: string(fields, "tradeId"),
    instrumentId: string(fields, "instrumentId"),
    price,
    volume: int64(fields, "volume"),
    timestampNs: int64(fields, "timestampNs"),
    status: status(fields.status),
    reason: optional(fields, "reason", "string"),
    vwap20m: optional(fields, "vwap20m", "number"),
  };
}

function status(value: unknown): Status {
  if (value === "VALID" || value === "INVALID" || value === "UNKNOWN") return value;
  throw wrong("status", "VALID, INVALID or UNKNOWN", value);
}

function optional(fields: Fields, key: string, type: "string"): string | undefined;
function optional(fields: Fields, key: string, type: "number"): number | undefined;
function optional(fields: Fields, key: string, type: "string" | "number"): unknown {
  const value = fields[key];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== type) throw wrong(key, `a ${type}`, value);
  return value;
}

function object(what: string, value: unknown): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw wrong(what, "an object", value);
}

function array(fields: Fields, key: string): readonly unknown[] {
  const value = fields[key];
  if (Array.isArray(value)) return value;
  throw wrong(key, "an array", value);
}

function string(fields: Fields, key: string): string {
  const value = fields[key];
  if (typeof value === "string") return value;
  throw wrong(key, "a string", value);
}

function textOr(fields: Fields, key: string, otherwise: string): string {
  const value = fields[key];
  return typeof value === "string" ? value : otherwise;
}

function number(fields: Fields, key: string): number {
  const value = fields[key];
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw wrong(key, "a number", value);
}

function numberOr(fields: Fields, key: string, otherwise: number): number {
  const value = fields[key];
  return typeof value === "number" && Number.isFinite(value) ? value : otherwise;
}

function sequence(fields: Fields, key: string): Sequence {
  return sequenceOf(key, fields[key]);
}

function sequenceOf(key: string, value: unknown): Sequence {
  const n = typeof value === "string" && /^\d{1,16}$/.test(value) ? Number(value) : value;
  if (typeof n === "number" && Number.isSafeInteger(n) && n >= 0) return n as Sequence;
  throw wrong(key, "a whole number from 0 to 2^53", value);
}

function int64(fields: Fields, key: string): Int64Text {
  const value = fields[key];
  if (typeof value === "number" && !Number.isSafeInteger(value)) throw wrong(key, "an int64 as a string", value);
  const text = typeof value === "string" ? value : typeof value === "number" ? String(value) : "";
  const parsed = int64Text(text);
  if (parsed === undefined) throw wrong(key, "an int64 as a string", value);
  return parsed;
}

/** Nanoseconds for measuring: a JSON number beyond 2^53 is rounded to about a quarter of a microsecond. */
function timeNs(fields: Fields, key: string): WallMs {
  const value = fields[key];
  if (typeof value === "number" && Number.isFinite(value)) return (value / 1e6) as WallMs;
  return wallMsOfNs(int64(fields, key));
}

function epoch(fields: Fields): Epoch {
  const value = fields.epoch;
  if (typeof value === "string" || typeof value === "number") return String(value) as Epoch;
  throw wrong("epoch", "a string", value);
}

/** Ids of requests are numbers here; whatever else comes back belongs to no request of ours. */
function requestId(fields: Fields): number | undefined {
  const id = Number(fields.id ?? Number.NaN);
  return Number.isSafeInteger(id) ? id : undefined;
}

function names(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((name): name is string => typeof name === "string") : [];
}

function wrong(key: string, rule: string, value: unknown): ProtocolError {
  return new ProtocolError(
    `${key}: must be ${rule}, was ${excerpt(value === undefined ? "absent" : JSON.stringify(value))}`,
  );
}

function excerpt(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
