// One row per instrument: where it stands, and how old that is.

import { useSignal } from "@preact/signals";
import { wallNow } from "@tickcast/client";
import { useEffect, useMemo, useRef } from "preact/hooks";
import {
  formatAge,
  formatCount,
  formatFixed,
  formatPercent,
  formatRate,
  formatShort,
  NONE,
} from "../../base/format.ts";
import { distance } from "../../model/selection.ts";
import type { Quote } from "../../model/watch.ts";
import type { Activity } from "../api.ts";
import type { App } from "../app.ts";
import { Grid, type GridColumn, type GridModel, NARROW, set } from "../parts/grid.ts";
import { icons } from "../parts/icons.tsx";
import { isFinger, rowHeight } from "../parts/pointer.ts";
import { useApi } from "../parts/useApi.ts";
import { inField } from "../shell.tsx";

/** An instrument that says nothing for so long is marked stale. */
const STALE_MS = 30_000;
const FLASH_MS = 500;

const COLUMNS: readonly GridColumn[] = [
  { id: "instrument", title: "Instrument", width: 116, sortable: true, priority: 0 },
  {
    id: "last",
    title: "Last",
    hint: "Price of the newest VALID trade; ▲ above, ▼ below the one before",
    width: 112,
    right: true,
    sortable: true,
    priority: 0,
  },
  {
    id: "change",
    title: "Change",
    hint: "Since the first VALID trade of the last 20 minutes",
    width: 96,
    right: true,
    sortable: true,
    priority: 1,
  },
  { id: "vwap", title: "VWAP 20 min", width: 116, right: true, sortable: true, priority: 4 },
  { id: "distance", title: "To VWAP", hint: "Last over VWAP", width: 130, right: true, sortable: true, priority: 2 },
  {
    id: "volume",
    title: "Volume 20 min",
    hint: "VALID trades of the last 20 minutes",
    width: 116,
    right: true,
    sortable: true,
    priority: 5,
  },
  {
    id: "rate",
    title: "Trades/s",
    hint: "VALID trades, averaged over 5 s",
    width: 88,
    right: true,
    sortable: true,
    priority: 3,
  },
  {
    id: "rejects",
    title: "Rejects",
    hint: "Of the last 20 minutes",
    width: 84,
    right: true,
    sortable: true,
    priority: 6,
  },
  {
    id: "age",
    title: "Age",
    hint: `Since its newest VALID trade came; stale after ${STALE_MS / 1000} s`,
    width: 92,
    right: true,
    sortable: true,
    priority: 0,
  },
];

/** On a phone: two of the columns above to one, the second below the first. */
const NARROW_COLUMNS: readonly GridColumn[] = [
  paired("instrument", "age", 96, 0),
  paired("last", "vwap", 92, 0, "VWAP"),
  paired("change", "distance", 80, 0),
  { ...paired("volume", "rate", 92, 1), title: "Volume" },
];

function paired(first: string, second: string, width: number, priority: number, title?: string): GridColumn {
  const [upper, lower] = [first, second].map((id) => COLUMNS.find((column) => column.id === id));
  if (upper === undefined || lower === undefined) throw new Error(`no column ${first} or ${second}`);
  return { ...upper, width, priority, second: { ...lower, title: title ?? lower.title } };
}

/** What the gateway adds up of an instrument. */
interface Figures {
  readonly first: number;
  readonly volume: number;
  readonly rejects: number;
  readonly perSecond: number;
}

const UNKNOWN: Figures = { first: Number.NaN, volume: Number.NaN, rejects: Number.NaN, perSecond: Number.NaN };
const NOTHING: Figures = { first: Number.NaN, volume: 0, rejects: 0, perSecond: 0 };

class Watchlist implements GridModel {
  readonly label = "Instruments";
  readonly #app: App;
  grid: Grid | undefined;
  #filter = "";
  #sort = { id: "instrument", descending: false };
  #shown: Quote[] = [];
  #figures: ReadonlyMap<string, Figures> | undefined;
  readonly #seen = new Map<string, { price: number; until: number; up: boolean }>();

  constructor(app: App) {
    this.#app = app;
  }

  get length(): number {
    return this.#shown.length;
  }

  setFilter(text: string): void {
    this.#filter = text.trim().toUpperCase();
    this.update();
  }

  setActivity(activity: Activity): void {
    const { instruments, first, volume, rejects, perSecond } = activity;
    this.#figures = new Map(
      instruments.map((name, i) => [
        name,
        {
          first: first[i] ?? Number.NaN,
          volume: Number(volume[i]),
          rejects: rejects[i] ?? 0,
          perSecond: perSecond[i] ?? 0,
        },
      ]),
    );
    this.update();
  }

  #figuresOf(instrument: string): Figures {
    return this.#figures === undefined ? UNKNOWN : (this.#figures.get(instrument) ?? NOTHING);
  }

  /** Takes the newest quotes and draws. */
  update(): void {
    const now = wallNow();
    const all = [...this.#app.feed.quotes.values()];
    const found =
      this.#filter === "" ? all : all.filter((quote) => quote.instrument.toUpperCase().includes(this.#filter));
    this.#shown = found.sort(order(this.#sort.id, this.#sort.descending, (quote) => this.#figuresOf(quote.instrument)));
    for (const quote of this.#shown) this.#notice(quote, now);
    this.grid?.draw();
  }

  #notice(quote: Quote, now: number): void {
    const before = this.#seen.get(quote.instrument);
    if (before?.price === quote.last) return;
    const up = before === undefined ? !(quote.last < quote.previous) : quote.last > before.price;
    this.#seen.set(quote.instrument, { price: quote.last, until: before === undefined ? 0 : now + FLASH_MS, up });
  }

  columns(width: number): readonly GridColumn[] {
    return width < NARROW ? NARROW_COLUMNS : COLUMNS;
  }

  at(place: number): Quote {
    return this.#shown[place] as Quote;
  }

  text(column: GridColumn, place: number): string {
    const quote = this.at(place);
    const { instrument } = quote;
    if (column.id === "volume" && column.second !== undefined) {
      const { volume } = this.#figuresOf(instrument);
      return Number.isNaN(volume) ? NONE : formatShort(volume);
    }
    if (column.id === "age") return ageText(quote, wallNow(), this.#stale(quote, wallNow()));
    return quoteText(column.id, quote, this.#figuresOf(instrument), this.#app.feed.decimals.of(instrument));
  }

  #stale(quote: Quote, now: number): boolean {
    return this.#app.feed.state?.link.state !== "live" || now - heardAt(quote) > STALE_MS;
  }

  key(place: number): string {
    return this.at(place).instrument;
  }

  placeOf(key: number | string): number {
    return this.#shown.findIndex((quote) => quote.instrument === key);
  }

  decorate(row: HTMLTableRowElement, place: number): void {
    const quote = this.at(place);
    const now = wallNow();
    set(row, "data-testid", "quote");
    set(row, "data-stale", String(this.#stale(quote, now)));
    const flash = this.#seen.get(quote.instrument);
    set(row, "data-flash", flash !== undefined && now < flash.until ? (flash.up ? "up" : "down") : "none");
  }

  decorateCell(cell: HTMLElement, column: GridColumn, place: number): void {
    const quote = this.at(place);
    if (column.id === "last") set(cell, "data-move", this.#seen.get(quote.instrument)?.up === false ? "down" : "up");
    else if (column.id === "change") {
      set(cell, "data-sign", signOf(quote.last / this.#figuresOf(quote.instrument).first - 1));
      if (column.second !== undefined) set(cell, "data-second-sign", signOf(distance(quote.last, quote.vwap)));
    } else if (column.id === "distance") {
      const share = distance(quote.last, quote.vwap);
      set(cell, "data-sign", signOf(share));
      // The full bar, to either side, stands for one percent.
      cell.style.setProperty("--bar", String(Math.min(1, Math.abs(share) / 0.01 || 0)));
    }
  }

  nothing(): string {
    return this.#filter === "" ? "Waiting for the first VALID trade" : `No instrument is like “${this.#filter}”`;
  }

  sorted() {
    return this.#sort;
  }

  sort(column: GridColumn): void {
    const same = this.#sort.id === column.id;
    this.#sort = { id: column.id, descending: same ? !this.#sort.descending : column.right === true };
    this.update();
  }

  open(place: number): void {
    this.#app.go({ page: "instrument", of: this.at(place).instrument });
  }
}

/** Smaller changes are shown as 0.00 %: they have no sign then. */
const LEAST_SHARE = 0.00005;

function signOf(share: number): string {
  return Math.abs(share) < LEAST_SHARE ? "same" : move(share);
}

function move(by: number): string {
  return by > 0 ? "up" : by < 0 ? "down" : "same";
}

function quoteText(column: string, quote: Quote, figures: Figures, decimals: number): string {
  switch (column) {
    case "instrument":
      return quote.instrument;
    case "last":
      return formatFixed(quote.last, decimals);
    case "change":
      return formatPercent(quote.last / figures.first - 1);
    case "vwap":
      return formatFixed(quote.vwap, Math.min(8, decimals + 2));
    case "distance":
      return formatPercent(distance(quote.last, quote.vwap));
    case "volume":
      return formatWhole(figures.volume);
    case "rate":
      return Number.isNaN(figures.perSecond) ? NONE : formatRate(figures.perSecond);
    case "rejects":
      return formatWhole(figures.rejects);
    default:
      return NONE;
  }
}

/** What came with the beginning has been heard no earlier than it happened; when, nobody knows. */
function heardAt({ heardMs, timeMs }: Quote): number {
  return heardMs === 0 ? timeMs : heardMs;
}

function ageText(quote: Quote, now: number, stale: boolean): string {
  return `${stale ? "stale · " : ""}${formatAge(Math.max(0, now - heardAt(quote)))}`;
}

function formatWhole(value: number): string {
  return Number.isNaN(value) ? NONE : formatCount(value);
}

function order(id: string, descending: boolean, figuresOf: (quote: Quote) => Figures): (a: Quote, b: Quote) => number {
  const sign = descending ? -1 : 1;
  const name = (a: Quote, b: Quote) => (a.instrument < b.instrument ? -1 : 1);
  if (id === "instrument") return (a, b) => sign * name(a, b);
  const value = (quote: Quote): number => {
    if (id === "change") return quote.last / figuresOf(quote).first - 1;
    if (id === "distance") return distance(quote.last, quote.vwap);
    if (id === "rate") return figuresOf(quote).perSecond;
    if (id === "volume" || id === "rejects") return figuresOf(quote)[id];
    if (id === "age") return -heardAt(quote);
    return quote[id as "last" | "vwap"];
  };
  return (a, b) => sign * (value(a) - value(b) || 0) || name(a, b);
}

export function WatchlistPage({ app }: { app: App }) {
  const model = useMemo(() => new Watchlist(app), [app]);
  const host = useRef<HTMLDivElement>(null);
  const search = useRef<HTMLInputElement>(null);
  const filter = useSignal("");
  const { value: activity } = useApi<Activity>("activity", 1000).value;
  useEffect(() => {
    if (activity !== undefined) model.setActivity(activity);
  }, [activity, model]);
  useEffect(() => {
    if (host.current === null) return;
    const grid = new Grid(host.current, model, rowHeight());
    model.grid = grid;
    const leave = app.feed.subscribe({
      began: () => model.update(),
      frame: () => undefined,
      stateChanged: () => model.update(),
    });
    model.update();
    return () => {
      leave();
      grid.close();
    };
  }, [app, model]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "/" || inField(event.target)) return;
      event.preventDefault();
      search.current?.focus();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  const state = app.state.value;
  return (
    <div class="page page-watchlist">
      <div class="tools" role="toolbar" aria-label="Watchlist">
        <label class="field field-search">
          <icons.search />
          <span class="hidden">Instrument</span>
          <input
            ref={search}
            type="search"
            placeholder="Instrument"
            value={filter.value}
            autocomplete="off"
            spellcheck={false}
            data-testid="filter-instrument"
            onInput={(event) => {
              filter.value = event.currentTarget.value;
              model.setFilter(filter.value);
            }}
            onKeyDown={(event) => {
              if (event.key === "Escape" || event.key === "Enter") model.grid?.element.focus();
            }}
          />
          <kbd>/</kbd>
        </label>
        <span class="grow" />
        <p class="muted" data-testid="instruments">
          {formatCount(state === undefined ? 0 : app.feed.quotes.size)} instruments
        </p>
      </div>
      <div class="grid-host watch" ref={host} data-stale={state?.link.state !== "live"} />
      <div class="foot">
        <p>
          {isFinger() ? "A tap" : "Enter, or a double click,"} opens the instrument. One that went quiet for{" "}
          {STALE_MS / 1000} s is marked stale.
        </p>
        <span class="grow" />
        {activity?.complete === false && (
          <p data-testid="short-tape">Change, volume and rejects: as far back as the tape reaches, below 20 minutes.</p>
        )}
      </div>
    </div>
  );
}
