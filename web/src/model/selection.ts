// Which rows of the store a grid shows, and in what order.

import type { ColumnData } from "@tickcast/client";
import type { TradeStore } from "./store.ts";

/** What a row has to be like; an empty field lets everything pass. */
export interface Filter {
  /** Part of the instrument's name, in any case; several, split by blanks or commas, are alternatives. */
  readonly instrument: string;
  /** Numbers of statuses, all where empty. */
  readonly status: readonly number[];
  /** Part of the reason, in any case. */
  readonly reason: string;
}

export const NO_FILTER: Filter = { instrument: "", status: [], reason: "" };

export type SortKey =
  | "seq"
  | "time"
  | "instrument"
  | "price"
  | "volume"
  | "vwap"
  | "distance"
  | "status"
  | "reason"
  | number;

export interface Sort {
  /** A column, or the number of an enrichment. */
  readonly key: SortKey;
  readonly descending: boolean;
}

/** Newest first: needs no sorting, rows come in that order. */
export const NEWEST_FIRST: Sort = { key: "seq", descending: true };

/** Between two sortings of a moving stream, milliseconds: rows that change place faster can't be read. */
const RESORT_MS = 500;

/** Returns a test of a slot of the columns. */
export function matcher(filter: Filter): (columns: ColumnData, slot: number) => boolean {
  const names = filter.instrument
    .toUpperCase()
    .split(/[\s,]+/)
    .filter((part) => part !== "");
  const reason = filter.reason.trim().toLowerCase();
  const status = new Set(filter.status);
  return (columns, slot) => {
    if (status.size > 0 && !status.has(columns.status[slot] as number)) return false;
    if (names.length > 0) {
      const instrument = (columns.instrument[slot] as string).toUpperCase();
      if (!names.some((name) => instrument.includes(name))) return false;
    }
    return reason === "" || (columns.reason[slot] as string).toLowerCase().includes(reason);
  };
}

export class Selection {
  readonly #store: TradeStore;
  #filter = NO_FILTER;
  #matches = matcher(NO_FILTER);
  #sort = NEWEST_FIRST;
  /** Matching rows in the order in which they came; those before `#from` are gone. */
  #rows: number[] = [];
  #from = 0;
  #seen: number;
  #sorted: number[] | undefined;
  #sortedAt = Number.NEGATIVE_INFINITY;

  constructor(store: TradeStore) {
    this.#store = store;
    this.#seen = store.first;
  }

  get filter(): Filter {
    return this.#filter;
  }
  get sort(): Sort {
    return this.#sort;
  }

  setFilter(filter: Filter): void {
    this.#filter = filter;
    this.#matches = matcher(filter);
    this.#rows = [];
    this.#from = 0;
    this.#seen = this.#store.first;
    this.#sorted = undefined;
    this.#sortedAt = Number.NEGATIVE_INFINITY;
  }

  setSort(sort: Sort): void {
    this.#sort = sort;
    this.#sorted = undefined;
    this.#sortedAt = Number.NEGATIVE_INFINITY;
  }

  /** Takes in what the store has got since; returns how many matching rows came. */
  update(nowMs: number): number {
    const { first, end, columns } = this.#store;
    let came = 0;
    for (let row = Math.max(this.#seen, first); row < end; row++) {
      if (!this.#matches(columns, this.#store.slot(row))) continue;
      this.#rows.push(row);
      came++;
    }
    this.#seen = end;
    while (this.#from < this.#rows.length && (this.#rows[this.#from] as number) < first) this.#from++;
    if (this.#from > this.#store.capacity) {
      this.#rows = this.#rows.slice(this.#from);
      this.#from = 0;
    }
    if (!this.#inOrder) this.#resort(nowMs, first);
    return came;
  }

  get #inOrder(): boolean {
    return this.#sort.key === "seq";
  }

  /** Number of rows to show. */
  get length(): number {
    return this.#sorted?.length ?? this.#rows.length - this.#from;
  }

  /** Returns the row that is shown at a place from the top. */
  at(place: number): number {
    if (this.#sorted !== undefined) return this.#sorted[place] as number;
    return this.#rows[this.#sort.descending ? this.#rows.length - 1 - place : this.#from + place] as number;
  }

  /** Returns the place at which a row is shown, -1 where it is not. */
  placeOf(row: number): number {
    if (this.#sorted !== undefined) return this.#sorted.indexOf(row);
    let low = this.#from;
    let high = this.#rows.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const found = this.#rows[middle] as number;
      if (found === row) return this.#sort.descending ? this.#rows.length - 1 - middle : middle - this.#from;
      if (found < row) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  #resort(nowMs: number, first: number): void {
    if (this.#sorted !== undefined && nowMs - this.#sortedAt < RESORT_MS) {
      // Rows that have left the store meanwhile must not show what has taken their slots.
      if (this.#sorted.some((row) => row < first)) this.#sorted = this.#sorted.filter((row) => row >= first);
      return;
    }
    this.#sortedAt = nowMs;
    this.#sorted = sortRows(this.#store, this.#rows.slice(this.#from), this.#sort);
  }
}

/** Returns the rows in order; equal ones newest first, those without a value last. */
export function sortRows(store: TradeStore, rows: number[], sort: Sort): number[] {
  const { columns } = store;
  const sign = sort.descending ? -1 : 1;
  if (sort.key === "instrument" || sort.key === "reason") {
    const texts = sort.key === "instrument" ? columns.instrument : columns.reason;
    return rows.sort((a, b) => {
      const [x, y] = [texts[store.slot(a)] as string, texts[store.slot(b)] as string];
      if (x === y) return b - a;
      if (x === "" || y === "") return x === "" ? 1 : -1;
      return x < y ? -sign : sign;
    });
  }
  const values = new Map(rows.map((row) => [row, numberOf(columns, store.slot(row), sort.key)]));
  return rows.sort((a, b) => {
    const [x, y] = [values.get(a) as number, values.get(b) as number];
    if (Number.isNaN(x) || Number.isNaN(y))
      return Number.isNaN(x) === Number.isNaN(y) ? b - a : Number.isNaN(x) ? 1 : -1;
    return x === y ? b - a : (x - y) * sign;
  });
}

function numberOf(columns: ColumnData, slot: number, key: SortKey): number {
  switch (key) {
    case "time":
      return Number(columns.timestampNs[slot]);
    case "price":
      return columns.price[slot] as number;
    case "volume":
      return Number(columns.volume[slot]);
    case "vwap":
      return columns.vwap[slot] as number;
    case "distance":
      return distance(columns.price[slot] as number, columns.vwap[slot] as number);
    case "status":
      return columns.status[slot] as number;
    case "seq":
      return columns.seq[slot] as number;
    default:
      return typeof key === "number" ? (columns.enrichments[key]?.[slot] ?? Number.NaN) : Number.NaN;
  }
}

/** Returns how far a price lies from a VWAP, as a share of it. */
export function distance(price: number, vwap: number): number {
  return price / vwap - 1;
}
