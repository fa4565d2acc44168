// A run of trades as columns: what both forms of the stream are decoded to, and what costs nothing to hand on.

import type { Trade } from "./messages.ts";
import { type Int64Text, type Sequence, STATUS_OF_CODE, type Status } from "./nominal.ts";

/** The bare columns, each with a row for each trade; can be posted to another thread as they are. */
export interface ColumnData {
  readonly length: number;
  /** Numbers on the tape, ascending. */
  readonly seq: Float64Array;
  readonly instrument: readonly string[];
  /** 0 UNKNOWN, 1 VALID, 2 INVALID. */
  readonly status: Uint8Array;
  /** Why it is not VALID; empty where there is nothing to say. */
  readonly reason: readonly string[];
  /** Event time, nanoseconds since the Unix epoch. */
  readonly timestampNs: BigInt64Array;
  /** Quote currency per unit; NaN where the tick's price was no finite number. */
  readonly price: Float64Array;
  /** Units traded. */
  readonly volume: BigInt64Array;
  /** VWAP of the instrument's last 20 minutes; NaN on trades that are not VALID. */
  readonly vwap: Float64Array;
  /** Trade ids, four words of 32 bits each, the first eight hex digits first. */
  readonly id: Uint32Array;
  /** The rule set's further columns, in the order of `hello`; NaN where they don't apply. */
  readonly enrichments: readonly Float64Array[];
}

export class TradeColumns implements ColumnData, Iterable<Trade> {
  readonly length: number;
  readonly seq: Float64Array;
  readonly instrument: string[];
  readonly status: Uint8Array;
  readonly reason: string[];
  readonly timestampNs: BigInt64Array;
  readonly price: Float64Array;
  readonly volume: BigInt64Array;
  readonly vwap: Float64Array;
  readonly id: Uint32Array;
  readonly enrichments: readonly Float64Array[];

  /** Makes columns of `length` rows, to be filled. */
  constructor(length: number, enrichments: number) {
    this.length = length;
    this.seq = new Float64Array(length);
    this.instrument = new Array<string>(length).fill("");
    this.status = new Uint8Array(length);
    this.reason = new Array<string>(length).fill("");
    this.timestampNs = new BigInt64Array(length);
    this.price = new Float64Array(length).fill(Number.NaN);
    this.volume = new BigInt64Array(length);
    this.vwap = new Float64Array(length).fill(Number.NaN);
    this.id = new Uint32Array(length * 4);
    this.enrichments = Array.from({ length: enrichments }, () => new Float64Array(length).fill(Number.NaN));
  }

  /** Returns one trade as an object; for hot loops take the columns. */
  at(row: number): Trade {
    return tradeAt(this, row);
  }

  *[Symbol.iterator](): Iterator<Trade> {
    for (let row = 0; row < this.length; row++) yield this.at(row);
  }

  /** Returns the rows whose place `keep` says, in order. */
  select(keep: readonly number[]): TradeColumns {
    const out = new TradeColumns(keep.length, this.enrichments.length);
    keep.forEach((from, to) => {
      copyRow(this, from, out, to);
    });
    return out;
  }
}

/** Returns one row of columns as an object. */
export function tradeAt(columns: ColumnData, row: number): Trade {
  const price = columns.price[row] as number;
  const vwap = columns.vwap[row] as number;
  return {
    tradeId: idText(columns.id, row),
    instrumentId: columns.instrument[row] as string,
    price: Number.isFinite(price) ? price : null,
    volume: String(columns.volume[row]) as Int64Text,
    timestampNs: String(columns.timestampNs[row]) as Int64Text,
    status: STATUS_OF_CODE[columns.status[row] as number] as Status,
    reason: columns.reason[row] || undefined,
    vwap20m: Number.isFinite(vwap) ? vwap : undefined,
    enrichments: columns.enrichments.map((column) => column[row] as number),
  };
}

/** Returns the number of a row. */
export function seqAt(columns: ColumnData, row: number): Sequence {
  return columns.seq[row] as Sequence;
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Returns a trade id as its 32 hex digits. */
export function idText(words: Uint32Array, row: number): string {
  let text = "";
  for (let i = row * 4; i < row * 4 + 4; i++) {
    const word = words[i] as number;
    text += `${HEX[word >>> 24]}${HEX[(word >>> 16) & 255]}${HEX[(word >>> 8) & 255]}${HEX[word & 255]}`;
  }
  return text;
}

/** Writes the 32 hex digits of a trade id as words; anything else becomes zeros. */
export function writeId(words: Uint32Array, row: number, text: string): void {
  for (let i = 0; i < 4; i++) words[row * 4 + i] = Number.parseInt(text.slice(i * 8, i * 8 + 8), 16) || 0;
}

/** Copies a row from one set of columns to a place in another. */
export function copyRow(from: ColumnData, row: number, to: TradeColumns, place: number): void {
  to.seq[place] = from.seq[row] as number;
  to.instrument[place] = from.instrument[row] as string;
  to.status[place] = from.status[row] as number;
  to.reason[place] = from.reason[row] as string;
  to.timestampNs[place] = from.timestampNs[row] as bigint;
  to.price[place] = from.price[row] as number;
  to.volume[place] = from.volume[row] as bigint;
  to.vwap[place] = from.vwap[row] as number;
  for (let i = 0; i < 4; i++) to.id[place * 4 + i] = from.id[row * 4 + i] as number;
  to.enrichments.forEach((column, k) => {
    column[place] = from.enrichments[k]?.[row] ?? Number.NaN;
  });
}
