// Bytes of a `.bin` frame -> the message that they stand for; docs/protocol.md, "The `.bin` frame", has every byte.

import { TradeColumns } from "./columns.ts";
import type { Snapshot, StageTimes, Trades } from "./messages.ts";
import type { Sequence, WallMs } from "./nominal.ts";
import { ProtocolError } from "./parse.ts";

const MAGIC = 0x3162_4354; // "TCb1"
const HEADER = 56;
const RECORD = 40;
const SNAPSHOT = 1 << 16;
const NO_INSTRUMENT = 0xffff_ffff;
const TEXT_REASON = 0xffff;
const SECTIONS = 16;
/** Bytes of one trade's stages. */
const STAGES = 32;

/** What codes mean: those of `hello`, and those that frames have brought since. */
export interface Dictionaries {
  /** By code. */
  readonly instruments: string[];
  /** By code less one. */
  readonly reasons: string[];
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

/**
 * Returns the message of a frame.
 *
 * @param names Grows by what the frame brings.
 * @param enrichments Number of further columns, as `hello` said.
 * @throws ProtocolError The bytes are no frame, or name what was never named.
 */
export function parseFrame(bytes: ArrayBuffer, names: Dictionaries, enrichments: number): Trades | Snapshot {
  try {
    return read(new DataView(bytes), names, enrichments);
  } catch (error) {
    // Beyond the end, or no UTF-8: the sizes within the frame were not true.
    if (error instanceof RangeError || error instanceof TypeError) throw wrong(error.message);
    throw error;
  }
}

function read(view: DataView, names: Dictionaries, enrichments: number): Trades | Snapshot {
  if (view.byteLength < HEADER || view.getUint32(0, true) !== MAGIC) throw wrong("it does not begin with TCb1");
  const count = view.getUint32(4, true);
  const seq = sequence(view, 8);
  const toSeq = sequence(view, 16);
  const recordSize = view.getUint16(48, true);
  const headerSize = view.getUint16(50, true);
  const flags = view.getUint32(52, true);
  if (recordSize % 8 !== 0 || recordSize < RECORD + 8 * enrichments || headerSize % 8 !== 0 || headerSize < HEADER) {
    throw wrong(`records of ${recordSize} bytes, a header of ${headerSize}`);
  }
  const { sections, end } = findSections(view, headerSize, flags);
  if (end + count * recordSize > view.byteLength) throw wrong(`${count} records do not fit`);
  grow(view, sections[0], names.instruments);
  grow(view, sections[1], names.reasons);
  const trades = new TradeColumns(count, enrichments);
  readRecords(view, end, recordSize, trades, names, readStrings(view, sections[4]));
  readIds(view, sections[2], trades);
  readSequences(view, sections[3], trades, seq, toSeq);
  if ((flags & SNAPSHOT) !== 0) return { type: "snapshot", toSeq, trades };
  const sentMs = (Number(view.getBigInt64(24, true)) / 1e6) as WallMs;
  return { type: "trades", seq, toSeq, sentMs, trades, stages: readStages(view, sections[5], count) };
}

interface Section {
  readonly at: number;
  readonly size: number;
  readonly count: number;
}

function findSections(
  view: DataView,
  start: number,
  flags: number,
): { sections: (Section | undefined)[]; end: number } {
  const sections = new Array<Section | undefined>(SECTIONS).fill(undefined);
  let at = start;
  for (let bit = 0; bit < SECTIONS; bit++) {
    if ((flags & (1 << bit)) === 0) continue;
    const size = view.getUint32(at, true);
    if (size < 8 || size % 8 !== 0 || at + size > view.byteLength) throw wrong(`section ${bit} has ${size} bytes`);
    sections[bit] = { at, size, count: view.getUint32(at + 4, true) };
    at += size;
  }
  return { sections, end: at };
}

/** Takes new entries into a dictionary; those that are known may come again. */
function grow(view: DataView, section: Section | undefined, names: string[]): void {
  if (section === undefined) return;
  const first = view.getUint32(section.at + 8, true);
  if (first > names.length) throw wrong(`names from ${first} on, where ${names.length} are known`);
  const bytes = section.at + 16 + 4 * section.count;
  let from = 0;
  for (let i = 0; i < section.count; i++) {
    const to = view.getUint32(section.at + 16 + 4 * i, true);
    names[first + i] = text(view, bytes, from, to, section);
    from = to;
  }
}

/** Returns the strings of the frame by record, instruments at twice its number, reasons behind. */
function readStrings(view: DataView, section: Section | undefined): ReadonlyMap<number, string> {
  const strings = new Map<number, string>();
  if (section === undefined) return strings;
  const bytes = section.at + 8 + 12 * section.count;
  let from = 0;
  for (let i = 0; i < section.count; i++) {
    const at = section.at + 8 + 12 * i;
    const to = view.getUint32(at + 8, true);
    strings.set(
      view.getUint32(at, true) * 2 + (view.getUint32(at + 4, true) & 1),
      text(view, bytes, from, to, section),
    );
    from = to;
  }
  return strings;
}

function text(view: DataView, bytes: number, from: number, to: number, section: Section): string {
  if (to < from || bytes + to > section.at + section.size) throw wrong("a string that goes beyond its section");
  return utf8.decode(new Uint8Array(view.buffer, view.byteOffset + bytes + from, to - from));
}

function readRecords(
  view: DataView,
  start: number,
  size: number,
  trades: TradeColumns,
  names: Dictionaries,
  strings: ReadonlyMap<number, string>,
): void {
  for (let row = 0; row < trades.length; row++) {
    const at = start + row * size;
    const instrument = view.getUint32(at, true);
    const reason = view.getUint16(at + 6, true);
    const status = view.getUint8(at + 4);
    if (status > 2) throw wrong(`status ${status}`);
    trades.instrument[row] = known(instrument === NO_INSTRUMENT ? strings.get(row * 2) : names.instruments[instrument]);
    trades.status[row] = status;
    if (reason !== 0) {
      trades.reason[row] = known(reason === TEXT_REASON ? strings.get(row * 2 + 1) : names.reasons[reason - 1]);
    }
    trades.timestampNs[row] = view.getBigInt64(at + 8, true);
    trades.price[row] = view.getFloat64(at + 16, true);
    trades.volume[row] = view.getBigInt64(at + 24, true);
    trades.vwap[row] = view.getFloat64(at + 32, true);
    for (let k = 0; k < trades.enrichments.length; k++) {
      const column = trades.enrichments[k];
      if (column !== undefined) column[row] = view.getFloat64(at + RECORD + 8 * k, true);
    }
  }
}

function known(name: string | undefined): string {
  if (name === undefined) throw wrong("a code that was never named");
  return name;
}

/** Trade ids come in runs: all of them, or the first, from which the offset or the index counts on. */
function readIds(view: DataView, section: Section | undefined, trades: TradeColumns): void {
  if (section === undefined) return;
  let at = section.at + 8;
  let row = 0;
  for (let run = 0; run < section.count; run++) {
    const length = view.getUint32(at, true);
    const kind = view.getUint32(at + 4, true);
    if (kind > 2 || row + length > trades.length) throw wrong(`a run of ${length} trade ids of kind ${kind}`);
    for (let i = 0; i < length; i++, row++) writeId(view, at + 8 + (kind === 2 ? 16 * i : 0), kind, i, trades.id, row);
    at += 8 + (kind === 2 ? 16 * length : 16);
    if (at > section.at + section.size) throw wrong("trade ids that go beyond their section");
  }
  if (row !== trades.length) throw wrong(`${row} trade ids for ${trades.length} trades`);
}

/** The offset fills the lower half of the second word to the upper half of the last, the index the rest. */
function writeId(view: DataView, at: number, kind: number, step: number, ids: Uint32Array, row: number): void {
  let w1 = view.getUint32(at + 4);
  let w2 = view.getUint32(at + 8);
  let w3 = view.getUint32(at + 12);
  if (kind === 1) w3 += step;
  else if (kind === 0 && step > 0) {
    const low = (w3 >>> 16) + (step & 0xffff);
    const middle = w2 + (step >>> 16) + (low >>> 16);
    w3 = (((low & 0xffff) << 16) | (w3 & 0xffff)) >>> 0;
    w1 += Math.floor(middle / 2 ** 32);
    w2 = middle >>> 0;
  }
  ids[row * 4] = view.getUint32(at);
  ids[row * 4 + 1] = w1;
  ids[row * 4 + 2] = w2;
  ids[row * 4 + 3] = w3;
}

/** Returns the times of the last trade alone: of thousands of a second, one a frame says enough. */
function readStages(view: DataView, section: Section | undefined, count: number): StageTimes | undefined {
  if (section === undefined || count === 0) return undefined;
  if (section.count !== count || section.size < 8 + STAGES * count) throw wrong(`stages of ${section.count} trades`);
  const at = section.at + 8 + STAGES * (count - 1);
  const [decodeUs, rulesUs, enrichUs, tapeUs, sentUs] = [8, 12, 16, 20, 24].map((by) =>
    view.getUint32(at + by, true),
  ) as [number, number, number, number, number];
  return { decodeUs, rulesUs, enrichUs, tapeUs, sentUs };
}

function readSequences(
  view: DataView,
  section: Section | undefined,
  trades: TradeColumns,
  seq: number,
  toSeq: number,
): void {
  if (section === undefined) {
    if (trades.length !== toSeq - seq + 1) throw wrong(`${trades.length} trades for the sequences ${seq} to ${toSeq}`);
    for (let row = 0; row < trades.length; row++) trades.seq[row] = seq + row;
    return;
  }
  if (section.count !== trades.length) throw wrong(`${section.count} sequences for ${trades.length} trades`);
  let least = seq;
  for (let row = 0; row < trades.length; row++) {
    const number = sequence(view, section.at + 8 + 8 * row);
    if (number < least || number > toSeq) throw wrong(`sequence ${number} out of place`);
    trades.seq[row] = number;
    least = number + 1;
  }
}

function sequence(view: DataView, at: number): Sequence {
  return Number(view.getBigUint64(at, true)) as Sequence;
}

function wrong(what: string): ProtocolError {
  return new ProtocolError(`frame: ${what}`);
}
