// Every trade as it is judged.

import { useSignal } from "@preact/signals";
import { idText, STATUS_OF_CODE, type Status } from "@tickcast/client";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { formatCount } from "../../base/format.ts";
import { toCsv } from "../../model/csv.ts";
import { type Filter, NEWEST_FIRST, NO_FILTER, Selection, type Sort, type SortKey } from "../../model/selection.ts";
import type { App } from "../app.ts";
import { Grid, type GridColumn, type GridModel, NARROW, set } from "../parts/grid.ts";
import { icons } from "../parts/icons.tsx";
import { isFinger, rowHeight } from "../parts/pointer.ts";
import {
  exportText,
  exportTitle,
  NARROW_COLUMNS,
  TRADE_COLUMNS,
  tradeText,
  USUAL_COLUMNS,
} from "../parts/tradeCells.ts";
import { inField } from "../shell.tsx";

/** Above so many rows a second a flash tells nothing: everything would. */
const FLASH_MOST_PER_SECOND = 60;
const FLASH_MS = 700;
const FLASH_MOST_ROWS = 40;
const STATUSES: readonly Status[] = ["VALID", "INVALID", "UNKNOWN"];

/** What the page shows of the store, and how it is drawn. */
class Blotter implements GridModel {
  readonly label = "Trades";
  readonly #app: App;
  #selection: Selection;
  grid: Grid | undefined;
  /** Rows from here on came a moment ago. */
  #freshFrom = 0;
  #freshUntil = 0;
  #marked: (key: number | undefined) => void = () => undefined;

  constructor(app: App) {
    this.#app = app;
    this.#selection = new Selection(app.feed.store);
  }

  onMarked(marked: (key: number | undefined) => void): void {
    this.#marked = marked;
  }

  get filter(): Filter {
    return this.#selection.filter;
  }
  get length(): number {
    return this.#selection.length;
  }

  restart(): void {
    const { filter, sort } = this.#selection;
    this.#selection = new Selection(this.#app.feed.store);
    this.#selection.setFilter(filter);
    this.#selection.setSort(sort);
    this.#freshFrom = 0;
    this.grid?.setMark(undefined);
    this.grid?.layout();
  }

  setFilter(filter: Filter): void {
    this.#selection.setFilter(filter);
    this.#selection.update(performance.now());
    this.grid?.toTop();
  }

  setSort(sort: Sort): void {
    this.#selection.setSort(sort);
    this.#selection.update(performance.now());
    this.grid?.toTop();
  }

  /** Takes in what came with this frame. */
  frame(came: number): void {
    const now = performance.now();
    if ((this.#app.feed.state?.perSecond ?? 0) <= FLASH_MOST_PER_SECOND && came > 0 && came < FLASH_MOST_PER_SECOND) {
      if (now > this.#freshUntil) this.#freshFrom = this.#app.feed.store.end - came;
      this.#freshUntil = now + FLASH_MS;
      setTimeout(() => this.grid?.draw(), FLASH_MS + 20);
    }
    const matching = this.#selection.update(now);
    const onTop = this.#selection.sort.key === "seq" && this.#selection.sort.descending;
    this.grid?.draw(onTop ? matching : 0);
  }

  columns(width: number): readonly GridColumn[] {
    const { columns } = this.#app;
    return columns.value === "" && width < NARROW ? NARROW_COLUMNS : this.#wanted();
  }

  #wanted(): readonly GridColumn[] {
    const { columns, feed } = this.#app;
    const chosen = columns.value === "" ? USUAL_COLUMNS : columns.value.split(",");
    return allColumns(feed.enrichments).filter((column) => chosen.includes(column.id));
  }

  text(column: GridColumn, place: number): string {
    const { store, decimals } = this.#app.feed;
    const slot = store.slot(this.#selection.at(place));
    const digits = decimals.of(store.columns.instrument[slot] as string);
    return tradeText(column.id, store.columns, slot, digits, this.#app.zone.peek());
  }

  /** Rows are numbered for as long as they are held, so their number tells them apart. */
  key(place: number): number {
    return this.#selection.at(place);
  }

  placeOf(key: number | string): number {
    return this.#selection.placeOf(key as number);
  }

  decorate(row: HTMLTableRowElement, place: number): void {
    const { store } = this.#app.feed;
    const at = this.#selection.at(place);
    set(row, "data-status", STATUS_OF_CODE[store.columns.status[store.slot(at)] as number] as string);
    set(row, "data-testid", "trade");
    const few = store.end - this.#freshFrom <= FLASH_MOST_ROWS;
    const fresh = few && at >= this.#freshFrom && performance.now() < this.#freshUntil;
    row.classList.toggle("fresh", fresh);
  }

  decorateCell(cell: HTMLElement, column: GridColumn, place: number): void {
    if (column.id === "price") {
      const direction = this.#app.feed.direction[this.#app.feed.store.slot(this.#selection.at(place))] as number;
      set(cell, "data-move", direction > 0 ? "up" : direction < 0 ? "down" : "same");
    } else if (column.id === "reason") {
      set(cell, "title", cell.textContent ?? "");
    }
  }

  nothing(): string {
    const { store } = this.#app.feed;
    return store.end > store.first ? "No trade that is held is like this" : "Waiting for the first trade";
  }

  sorted(): { id: string; descending: boolean } {
    const { key, descending } = this.#selection.sort;
    return { id: typeof key === "number" ? `+${key}` : key, descending };
  }

  sort(column: GridColumn): void {
    const { key, descending } = this.#selection.sort;
    const wanted: SortKey = column.id.startsWith("+") ? Number(column.id.slice(1)) : (column.id as SortKey);
    if (key !== wanted) this.setSort({ key: wanted, descending: true });
    else if (descending) this.setSort({ key: wanted, descending: false });
    else this.setSort(NEWEST_FIRST);
  }

  open(place: number): void {
    this.#app.openTrade(this.idAt(place));
  }

  marked(key: number | string | undefined): void {
    this.#marked(key as number | undefined);
  }

  idAt(place: number): string {
    const { store } = this.#app.feed;
    return idText(store.columns.id, store.slot(this.#selection.at(place)));
  }

  /** Returns what is shown, top to bottom, as CSV. */
  csv(): string {
    const columns = this.#wanted();
    const { store } = this.#app.feed;
    const places = Array.from({ length: this.length }, (_, place) => store.slot(this.#selection.at(place)));
    return toCsv(
      columns.map(exportTitle),
      places.map((slot) => columns.map((column) => exportText(column.id, store.columns, slot))),
    );
  }

  /** Returns the marked row as text with tabs. */
  line(place: number): string {
    const { store } = this.#app.feed;
    const slot = store.slot(this.#selection.at(place));
    return this.#wanted()
      .map((column) => exportText(column.id, store.columns, slot))
      .join("\t");
  }
}

function allColumns(enrichments: readonly string[]): readonly GridColumn[] {
  const further = enrichments.map((name, k) => ({
    id: `+${k}`,
    title: name,
    hint: "Enrichment of the rule set",
    width: 110,
    right: true,
    sortable: true,
    priority: 9,
  }));
  return [...TRADE_COLUMNS, ...further];
}

export function BlotterPage({ app }: { app: App }) {
  const model = useMemo(() => new Blotter(app), [app]);
  const host = useRef<HTMLDivElement>(null);
  const search = useRef<HTMLInputElement>(null);
  const filter = useSignal<Filter>(NO_FILTER);
  const paused = useSignal(false);
  const marked = useSignal<number | undefined>(undefined);
  const choosing = useSignal(false);

  useEffect(() => {
    if (host.current === null) return;
    const grid = new Grid(host.current, model, rowHeight());
    model.grid = grid;
    model.onMarked((key) => {
      marked.value = key;
    });
    model.restart();
    const leave = app.feed.subscribe({
      began: () => model.restart(),
      frame: (came) => model.frame(came),
      stateChanged: () => undefined,
    });
    model.frame(0);
    return () => {
      leave();
      grid.close();
      model.grid = undefined;
      app.feed.pause(false);
    };
  }, [app, model, marked]);
  useEffect(() => model.grid?.layout(), [model, app.columns.value]);
  useEffect(() => model.grid?.draw(), [model, app.zone.value]);

  const pause = (on: boolean) => {
    paused.value = on;
    app.feed.pause(on);
    app.say(on ? "Paused" : "Live again", true);
  };
  const change = (more: Partial<Filter>) => {
    filter.value = { ...filter.value, ...more };
    model.setFilter(filter.value);
  };
  const why = () => {
    const place = model.grid?.markedPlace ?? -1;
    if (place >= 0) model.open(place);
    else app.say("Choose a row first: arrow keys or a click", true);
  };
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.altKey) return;
      if ((event.ctrlKey || event.metaKey) && event.key === "c") return copyMarked(app, model);
      if (event.ctrlKey || event.metaKey || inField(event.target)) return;
      if (event.key === "/") search.current?.focus();
      else if (event.key === " " && !(event.target instanceof HTMLButtonElement)) pause(!paused.value);
      else if (event.key === "w") why();
      else if (event.key === "e") download(model);
      else if (event.key === "c") copyMarked(app, model);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });

  const state = app.state.value;
  const waiting = paused.value ? app.feed.waiting : 0;
  useEffect(() => {
    const state = app.feed.state;
    if (state !== undefined && !paused.value) {
      const [unknown, valid, invalid] = state.counts;
      app.say(`${formatCount(valid)} valid, ${formatCount(invalid)} invalid, ${formatCount(unknown)} unknown trades`);
    }
  }, [app, Math.floor((state?.accounts.received ?? 0) / 5000)]);

  return (
    <div class="page page-blotter">
      <div class="tools" role="toolbar" aria-label="Blotter">
        <label class="field field-search">
          <icons.search />
          <span class="hidden">Instrument</span>
          <input
            ref={search}
            type="search"
            placeholder="Instrument"
            value={filter.value.instrument}
            autocomplete="off"
            spellcheck={false}
            data-testid="filter-instrument"
            onInput={(event) => change({ instrument: event.currentTarget.value })}
            onKeyDown={(event) => {
              if (event.key === "Escape" || event.key === "Enter") model.grid?.element.focus();
            }}
          />
          <kbd>/</kbd>
        </label>
        <label class="field">
          <span class="hidden">Reason</span>
          <input
            type="search"
            placeholder="Reason"
            value={filter.value.reason}
            autocomplete="off"
            data-testid="filter-reason"
            onInput={(event) => change({ reason: event.currentTarget.value })}
          />
        </label>
        <fieldset class="choices" data-testid="selection">
          <legend class="hidden">Status</legend>
          <Choice
            label="All"
            count={undefined}
            checked={filter.value.status.length === 0}
            pick={() => change({ status: [] })}
          />
          {STATUSES.map((status) => {
            const code = STATUS_OF_CODE.indexOf(status);
            return (
              <Choice
                key={status}
                label={status}
                count={state?.counts[code] ?? 0}
                checked={filter.value.status[0] === code}
                pick={() => change({ status: [code] })}
              />
            );
          })}
        </fieldset>
        <span class="grow" />
        <div class="popover-at">
          <button
            type="button"
            class="button quiet"
            aria-expanded={choosing.value}
            onClick={() => {
              choosing.value = !choosing.value;
            }}
            data-testid="columns"
          >
            <icons.columns /> <span>Columns</span>
          </button>
          {choosing.value && (
            <ColumnChoice
              app={app}
              close={() => {
                choosing.value = false;
              }}
            />
          )}
        </div>
        <button
          type="button"
          class="button quiet"
          onClick={() => download(model)}
          data-testid="export"
          title="What is shown, as CSV (e)"
        >
          <icons.download /> <span>Export</span>
        </button>
        <button
          type="button"
          class="button"
          aria-pressed={paused.value}
          onClick={() => pause(!paused.value)}
          data-testid="pause"
          title="Space"
        >
          {paused.value ? <icons.play /> : <icons.pause />}
          <span class="pause-text">{paused.value ? "Resume" : "Pause"}</span>
        </button>
      </div>
      <div class="grid-host" ref={host} data-paused={paused.value} data-stale={state?.link.state !== "live"} />
      <div class="foot">
        {paused.value ? (
          <p class="paused" data-testid="waiting">
            <b>{formatCount(waiting)}</b> trades wait. {isFinger() ? "Resume" : "Space"} goes on
            {waiting > 65_536 ? " at the newest 65 536" : ""}.
          </p>
        ) : (
          <p data-testid="shown">
            {formatCount(model.length)} shown of the newest {formatCount(app.feed.store.end - app.feed.store.first)}
          </p>
        )}
        <span class="grow" />
        <Gaps app={app} />
        <p class="keys" aria-hidden="true">
          <kbd>/</kbd> filter <kbd>space</kbd> pause <kbd>w</kbd> why <kbd>e</kbd> export <kbd>?</kbd> help
        </p>
      </div>
    </div>
  );
}

function Choice({
  label,
  count,
  checked,
  pick,
}: {
  label: string;
  count: number | undefined;
  checked: boolean;
  pick: () => void;
}) {
  return (
    <label data-status={label}>
      <input type="radio" name="status" checked={checked} onChange={pick} value={label} />
      <span>
        {label === "All" ? label : label.charAt(0) + label.slice(1).toLowerCase()}
        {count !== undefined && <b data-testid={label.toLowerCase()}>{formatCount(count)}</b>}
      </span>
    </label>
  );
}

function Gaps({ app }: { app: App }) {
  const accounts = app.state.value?.accounts;
  const gapped = (accounts?.gapped ?? 0) - (accounts?.leftOut ?? 0);
  const lost = gapped + (accounts?.missing ?? 0);
  return (
    <p
      class={lost > 0 ? "gaps alert" : "gaps"}
      data-testid="gaps"
      title="In gaps: announced by the gateway as not coming one by one. Missing: never came, never announced."
    >
      <span data-testid="gapped">{formatCount(gapped)}</span> in gaps ·{" "}
      <span data-testid="missing">{formatCount(accounts?.missing ?? 0)}</span> missing
      {app.feed.skipped > 0 && ` · ${formatCount(app.feed.skipped)} passed over while not shown`}
    </p>
  );
}

function ColumnChoice({ app, close }: { app: App; close: () => void }) {
  const chosen = app.columns.value === "" ? USUAL_COLUMNS : app.columns.value.split(",");
  const toggle = (id: string) => {
    const next = chosen.includes(id) ? chosen.filter((other) => other !== id) : [...chosen, id];
    if (next.length > 0) app.columns.value = next.join(",");
  };
  const first = useRef<HTMLInputElement>(null);
  useEffect(() => first.current?.focus(), []);
  return (
    <fieldset
      class="popover"
      onKeyDown={(event) => {
        if (event.key === "Escape") close();
      }}
    >
      <legend class="hidden">Columns</legend>
      {allColumns(app.feed.enrichments).map((column, i) => (
        <label key={column.id}>
          <input
            {...(i === 0 ? { ref: first } : {})}
            type="checkbox"
            checked={chosen.includes(column.id)}
            onChange={() => toggle(column.id)}
          />
          {column.title}
        </label>
      ))}
      <button
        type="button"
        class="button quiet"
        onClick={() => {
          app.columns.value = "";
          close();
        }}
      >
        Usual columns
      </button>
    </fieldset>
  );
}

function download(model: Blotter): void {
  const url = URL.createObjectURL(new Blob([model.csv()], { type: "text/csv" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `tickcast-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.csv`;
  link.click();
  URL.revokeObjectURL(url);
}

function copyMarked(app: App, model: Blotter): void {
  if (String(getSelection() ?? "") !== "") return; // somebody marked text: that is what they mean
  const place = model.grid?.markedPlace ?? -1;
  if (place < 0) return;
  navigator.clipboard.writeText(model.line(place)).then(
    () => app.say("Copied", true),
    () => app.say("Not copied: the browser forbids it", true),
  );
}
