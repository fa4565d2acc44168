// The newest trades as columns in a ring: what grids and charts read from, outside of any view.

import { type ColumnData, TradeColumns } from "@tickcast/client";

/**
 * Holds the newest `capacity` trades. Rows are numbered from 0 as they came; a row keeps its number while it is held.
 * Memory is fixed apart from the texts; adding copies and allocates nothing.
 */
export class TradeStore {
  readonly capacity: number;
  readonly columns: TradeColumns;
  readonly #mask: number;
  #end = 0;

  /** @param capacity A power of two. */
  constructor(capacity: number, enrichments: number) {
    this.capacity = capacity;
    this.#mask = capacity - 1;
    this.columns = new TradeColumns(capacity, enrichments);
  }

  /** Number after the newest row. */
  get end(): number {
    return this.#end;
  }

  /** Number of the oldest row that is held. */
  get first(): number {
    return Math.max(0, this.#end - this.capacity);
  }

  /** Returns where in the columns a held row lies. */
  slot(row: number): number {
    return row & this.#mask;
  }

  /** Adds rows; of more than fit only the newest. */
  append(rows: ColumnData): void {
    const from = Math.max(0, rows.length - this.capacity);
    this.#end += from;
    let at = from;
    while (at < rows.length) {
      const slot = this.#end & this.#mask;
      const count = Math.min(rows.length - at, this.capacity - slot);
      this.#copy(rows, at, slot, count);
      at += count;
      this.#end += count;
    }
  }

  /** Counts rows that were never here: those that come next get later numbers. */
  skip(count: number): void {
    this.#end += count;
  }

  /** Returns the held rows `from` … `to` − 1 as columns of their own. */
  slice(from: number, to: number): TradeColumns {
    const start = Math.max(from, this.first);
    const out = new TradeColumns(Math.max(0, to - start), this.columns.enrichments.length);
    let at = 0;
    while (at < out.length) {
      const slot = this.slot(start + at);
      const count = Math.min(out.length - at, this.capacity - slot);
      copy(this.columns, slot, out, at, count);
      at += count;
    }
    return out;
  }

  #copy(rows: ColumnData, from: number, to: number, count: number): void {
    copy(rows, from, this.columns, to, count);
  }
}

function copy(from: ColumnData, start: number, to: TradeColumns, at: number, count: number): void {
  const end = start + count;
  to.seq.set(from.seq.subarray(start, end), at);
  to.status.set(from.status.subarray(start, end), at);
  to.timestampNs.set(from.timestampNs.subarray(start, end), at);
  to.price.set(from.price.subarray(start, end), at);
  to.volume.set(from.volume.subarray(start, end), at);
  to.vwap.set(from.vwap.subarray(start, end), at);
  to.id.set(from.id.subarray(start * 4, end * 4), at * 4);
  for (let i = 0; i < count; i++) {
    to.instrument[at + i] = from.instrument[start + i] as string;
    to.reason[at + i] = from.reason[start + i] as string;
  }
  to.enrichments.forEach((column, k) => {
    const source = from.enrichments[k];
    if (source === undefined) column.fill(Number.NaN, at, at + count);
    else column.set(source.subarray(start, end), at);
  });
}
