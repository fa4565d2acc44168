// One row per instrument: what the watchlist shows, gathered from the stream where it arrives.

import type { ColumnData } from "@tickcast/client";

const VALID = 1;
const INVALID = 2;

/** Seconds over which the rate of an instrument is averaged. */
const RATE_S = 5;

/** The newest of an instrument. Times are milliseconds since the Unix epoch. */
export interface Quote {
  readonly instrument: string;
  /** Price of the newest VALID trade. */
  last: number;
  /** The last one that was another price. */
  previous: number;
  /** The first VALID one since the watch began. */
  first: number;
  vwap: number;
  /** Units of VALID trades since the watch began; exact up to 2^53. */
  volume: number;
  trades: number;
  rejects: number;
  /** VALID trades a second, as of `ratedMs`; fades from there. */
  rate: number;
  ratedMs: number;
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
      const status = rows.status[row];
      const quote = this.#of(rows.instrument[row] as string, status === VALID);
      if (quote === undefined) continue;
      this.#changed.add(quote);
      if (status === INVALID) quote.rejects++;
      if (status === VALID) this.#trade(quote, rows, row, row >= old, nowMs);
    }
  }

  /** Takes the newest trade of each instrument as a beginning, where nothing newer is known. */
  seed(rows: ColumnData, nowMs: number): void {
    for (let row = 0; row < rows.length; row++) {
      const quote = this.#of(rows.instrument[row] as string, true);
      if (quote === undefined || quote.seq >= (rows.seq[row] as number)) continue;
      const { trades, volume } = quote;
      this.#trade(quote, rows, row, false, nowMs);
      quote.trades = trades;
      quote.volume = volume;
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
    if (Number.isNaN(quote.first)) quote.first = price;
    quote.vwap = rows.vwap[row] as number;
    quote.volume += Number(rows.volume[row]);
    quote.trades++;
    quote.timeMs = Number(rows.timestampNs[row]) / 1e6;
    quote.seq = rows.seq[row] as number;
    if (!live) return;
    quote.heardMs = nowMs;
    quote.rate = fadedRate(quote, nowMs) + 1 / RATE_S;
    quote.ratedMs = nowMs;
  }

  /** Names that never made a VALID trade are left out: they may be anything, and endless. */
  #of(instrument: string, make: boolean): Quote | undefined {
    let quote = this.#quotes.get(instrument);
    if (quote === undefined && make) {
      quote = {
        instrument,
        last: Number.NaN,
        previous: Number.NaN,
        first: Number.NaN,
        vwap: Number.NaN,
        volume: 0,
        trades: 0,
        rejects: 0,
        rate: 0,
        ratedMs: 0,
        timeMs: Number.NaN,
        heardMs: 0,
        seq: 0,
      };
      this.#quotes.set(instrument, quote);
    }
    return quote;
  }
}

/** Returns VALID trades a second, exponentially averaged. */
export function fadedRate(quote: Quote, nowMs: number): number {
  return quote.rate * Math.exp((quote.ratedMs - nowMs) / (RATE_S * 1000));
}
