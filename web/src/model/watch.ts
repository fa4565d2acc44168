// One row per instrument: what the watchlist shows, gathered from the stream where it arrives.

import type { ColumnData } from "@tickcast/client";

const VALID = 1;

/** The newest of an instrument. Times are milliseconds since the Unix epoch. */
export interface Quote {
  readonly instrument: string;
  /** Price of the newest VALID trade. */
  last: number;
  /** The last one that was another price. */
  previous: number;
  vwap: number;
  /** Event time of the newest VALID trade. */
  timeMs: number;
  /** When it came. */
  heardMs: number;
  seq: number;
}

export class Watch {
  readonly #quotes = new Map<string, Quote>();
  readonly #changed = new Set<Quote>();

  get quotes(): ReadonlyMap<string, Quote> {
    return this.#quotes;
  }

  /**
   * Takes trades in.
   *
   * @param old How many of them, from the front, are history: values, but neither rate nor sign of life.
   */
  add(rows: ColumnData, old: number, nowMs: number): void {
    for (let row = 0; row < rows.length; row++) {
      if (rows.status[row] !== VALID) continue; // the names of others may be anything, and endless
      const quote = this.#of(rows.instrument[row] as string);
      this.#changed.add(quote);
      this.#trade(quote, rows, row, row >= old, nowMs);
    }
  }

  /** Takes the newest trade of each instrument as a beginning, where nothing newer is known. */
  seed(rows: ColumnData, nowMs: number): void {
    for (let row = 0; row < rows.length; row++) {
      const quote = this.#of(rows.instrument[row] as string);
      if (quote.seq >= (rows.seq[row] as number)) continue;
      this.#trade(quote, rows, row, false, nowMs);
      this.#changed.add(quote);
    }
  }

  /** Returns the instruments that changed since the last call. */
  takeChanged(): Quote[] {
    const changed = [...this.#changed];
    this.#changed.clear();
    return changed;
  }

  clear(): void {
    this.#quotes.clear();
    this.#changed.clear();
  }

  #trade(quote: Quote, rows: ColumnData, row: number, live: boolean, nowMs: number): void {
    const price = rows.price[row] as number;
    if (price !== quote.last) quote.previous = quote.last;
    quote.last = price;
    quote.vwap = rows.vwap[row] as number;
    quote.timeMs = Number(rows.timestampNs[row]) / 1e6;
    quote.seq = rows.seq[row] as number;
    if (live) quote.heardMs = nowMs;
  }

  #of(instrument: string): Quote {
    let quote = this.#quotes.get(instrument);
    if (quote === undefined) {
      quote = {
        instrument,
        last: Number.NaN,
        previous: Number.NaN,
        vwap: Number.NaN,
        timeMs: Number.NaN,
        heardMs: 0,
        seq: 0,
      };
      this.#quotes.set(instrument, quote);
    }
    return quote;
  }
}
