// Text of a message -> a message that is what its type says. Nothing behind this file checks a field again.

import { TradeColumns, writeId } from "./columns.ts";
import type { Enrichment, ServerMessage, StageTimes, Trade, Trades } from "./messages.ts";
import type { Epoch, Int64Text, Sequence, Status, WallMs } from "./nominal.ts";
import { int64Text, STATUS_OF_CODE, wallMsOfNs } from "./nominal.ts";

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
 * @param enrichments Names of the further fields on trades, as `hello` gave them.
 * @throws ProtocolError The text is no JSON object, or a field is missing or wrong.
 */
export function parseMessage(text: string, enrichments: readonly string[] = []): ServerMessage | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ProtocolError(`message: not JSON, was ${excerpt(text)}`);
  }
  const fields = object("message", value);
  switch (fields.type) {
    case "trades":
      return trades(fields, enrichments);
    case "snapshot":
      return snapshot(fields, enrichments);
    case "heartbeat":
      return { type: "heartbeat", seq: fields.seq === undefined ? undefined : sequence(fields, "seq") };
    case "pong":
      return { type: "pong", t: number(fields, "t"), serverMs: timeNs(fields, "serverNs") };
    case "verdict":
      return { type: "verdict", id: requestId(fields), trade: trade(fields.trade, enrichments) };
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
        reasons: names(fields.reasons),
        enrichments: enrichmentList(fields.enrichments),
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

function trades(fields: Fields, enrichments: readonly string[]): Trades {
  const seq = sequence(fields, "seq");
  const toSeq = sequence(fields, "toSeq");
  const columns = tradeColumns(fields, enrichments);
  const sentMs = timeNs(fields, "sentNs");
  const stages = stageTimes(fields.stages, columns.length);
  const message = { type: "trades", seq, toSeq, sentMs, trades: columns, stages } as const;
  if (fields.seqs === undefined || fields.seqs === null) {
    if (columns.length !== toSeq - seq + 1) {
      throw new ProtocolError(`trades: ${columns.length} for the sequences ${seq} to ${toSeq}, without seqs`);
    }
    for (let row = 0; row < columns.length; row++) columns.seq[row] = seq + row;
    return message;
  }
  numberRows(columns, array(fields, "seqs"), seq, toSeq);
  return message;
}

/** Returns the times of the last trade. */
function stageTimes(value: unknown, count: number): StageTimes | undefined {
  if (value === undefined || value === null || count === 0) return undefined;
  const fields = object("stages", value);
  const last = (key: string) => number({ [key]: array(fields, key)[count - 1] }, key);
  return {
    decodeUs: last("decode"),
    rulesUs: last("rules"),
    enrichUs: last("enrich"),
    tapeUs: last("tape"),
    sentUs: last("sent"),
  };
}

function snapshot(fields: Fields, enrichments: readonly string[]): ServerMessage {
  const toSeq = sequence(fields, "toSeq");
  const columns = tradeColumns(fields, enrichments);
  if (fields.seqs !== undefined && fields.seqs !== null) numberRows(columns, array(fields, "seqs"), 0, toSeq);
  return { type: "snapshot", toSeq, trades: columns };
}

/** Writes the numbers of trades that are not one after the other. */
function numberRows(columns: TradeColumns, seqs: readonly unknown[], from: number, to: number): void {
  if (seqs.length !== columns.length) throw new ProtocolError(`seqs: ${seqs.length} for ${columns.length} trades`);
  let least = from;
  seqs.forEach((value, row) => {
    const seq = sequenceOf("seqs", value);
    if (seq < least || seq > to) throw new ProtocolError(`seqs: must ascend within ${from} to ${to}, was ${seq}`);
    columns.seq[row] = seq;
    least = seq + 1;
  });
}

function tradeColumns(fields: Fields, enrichments: readonly string[]): TradeColumns {
  const list = array(fields, "trades");
  const columns = new TradeColumns(list.length, enrichments.length);
  list.forEach((value, row) => {
    writeTrade(columns, row, trade(value, enrichments));
  });
  return columns;
}

function writeTrade(columns: TradeColumns, row: number, trade: Trade): void {
  columns.instrument[row] = trade.instrumentId;
  columns.status[row] = STATUS_OF_CODE.indexOf(trade.status);
  columns.reason[row] = trade.reason ?? "";
  columns.timestampNs[row] = BigInt(trade.timestampNs);
  columns.price[row] = trade.price ?? Number.NaN;
  columns.volume[row] = BigInt(trade.volume);
  columns.vwap[row] = trade.vwap20m ?? Number.NaN;
  writeId(columns.id, row, trade.tradeId);
  trade.enrichments.forEach((value, k) => {
    const column = columns.enrichments[k];
    if (column !== undefined) column[row] = value;
  });
}

/**
 * Returns the trade of its plain form, as `/api` gives it too.
 *
 * @param enrichments Names of the further fields.
 * @throws ProtocolError A field is missing or wrong.
 */
export function trade(value: unknown, enrichments: readonly string[] = []): Trade {
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
    enrichments: enrichments.map((name) => optional(fields, name, "number") ?? Number.NaN),
  };
}

function enrichmentList(value: unknown): readonly Enrichment[] {
  if (!Array.isArray(value)) return [];
  return value.map((entry) => {
    const fields = object("enrichment", entry);
    return { name: string(fields, "name"), unit: textOr(fields, "unit", "") };
  });
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
