// A grid over rows that somebody else keeps: regular-table draws what is in view, and this makes a grid of it, with
// one tab stop, keys, sorting, columns that give way on narrow screens, and marks on rows.
//
// regular-table (FINOS) asks for the texts in view and writes those that changed into cells that it keeps: ten thousand
// rows a second cost as much as one screen of them. Grids that have an object or a node per row do not get there.

import "regular-table";
import type { RegularTableElement } from "regular-table";

export interface GridColumn {
  readonly id: string;
  readonly title: string;
  /** Said of the column where the title is short. */
  readonly hint?: string;
  /** Least width, pixels. */
  readonly width: number;
  /** Takes what is left; one column of a grid as a rule. */
  readonly grows?: boolean;
  readonly right?: boolean;
  readonly mono?: boolean;
  readonly sortable?: boolean;
  /** Columns with larger numbers give way first where there is no room; 0 never does. */
  readonly priority: number;
  /** Stands below, in the same cell: rows of a narrow grid have two lines where any column has one. */
  readonly second?: GridColumn;
}

/** Grids that are narrower, in pixels, are a phone's. */
export const NARROW = 600;

const TWO_LINES = 52;

/** What a grid shows; places count from the top. */
export interface GridModel {
  readonly label: string;
  /** All columns that are wanted in a grid of this width, in order. */
  columns(width: number): readonly GridColumn[];
  readonly length: number;
  text(column: GridColumn, place: number): string;
  /** Identity of a row: the mark stays with it when it moves. */
  key(place: number): number | string;
  /** Returns where the row is now, -1 where it is not shown. */
  placeOf(key: number | string): number;
  /** What stands in place of rows where there are none. */
  nothing(): string;
  /** Marks a row that is drawn. */
  decorate?(row: HTMLTableRowElement, place: number): void;
  /** Marks a cell that is drawn. */
  decorateCell?(cell: HTMLElement, column: GridColumn, place: number): void;
  sorted?(): { readonly id: string; readonly descending: boolean };
  sort?(column: GridColumn): void;
  /** Enter, a double click, or a tap. */
  open?(place: number): void;
  /** The mark has moved; `undefined`: there is none. */
  marked?(key: number | string | undefined): void;
}

let grids = 0;

export class Grid {
  readonly element: RegularTableElement;
  readonly #model: GridModel;
  readonly #id = `grid-${++grids}`;
  readonly #resize: ResizeObserver;
  readonly #empty = document.createElement("p");
  #columns: readonly GridColumn[] = [];
  #mark: number | string | undefined;
  #width = 0;
  #drawing = false;
  #again = false;
  readonly #oneLine: number;
  #twoLines = false;
  #closed = false;

  constructor(host: HTMLElement, model: GridModel, rowHeight: number) {
    this.#model = model;
    this.#oneLine = rowHeight;
    this.element = document.createElement("regular-table") as RegularTableElement;
    const { element } = this;
    element.setAttribute("role", "grid");
    element.setAttribute("aria-label", model.label);
    element.tabIndex = 0;
    this.#empty.className = "grid-empty";
    this.#empty.dataset.testid = "grid-empty";
    host.append(element, this.#empty);
    element.setDataListener(async (x0, y0, x1, y1) => this.#data(x0, y0, x1, y1), {
      virtual_mode: "both",
      column_classes: true,
    });
    element.addStyleListener(() => this.#style());
    element.addEventListener("click", (event) => this.#clicked(event));
    element.addEventListener("dblclick", () => this.#open());
    element.addEventListener("keydown", (event) => this.#key(event));
    this.#resize = new ResizeObserver(([entry]) => {
      const width = entry?.contentRect.width ?? 0;
      if (width > 0) this.#resized(width);
    });
    this.#resize.observe(host);
  }

  get #rowHeight(): number {
    return this.#twoLines ? TWO_LINES : this.#oneLine;
  }

  /** Columns that are shown now. */
  get columns(): readonly GridColumn[] {
    return this.#columns;
  }

  get mark(): number | string | undefined {
    return this.#mark;
  }

  /** Place of the marked row, -1 where there is none. */
  get markedPlace(): number {
    return this.#mark === undefined ? -1 : this.#model.placeOf(this.#mark);
  }

  close(): void {
    this.#closed = true;
    this.#resize.disconnect();
    this.element.remove();
    this.#empty.remove();
  }

  /** Draws what is in view; `above` rows have come in above what was there, which stays in view where it was scrolled to. */
  draw(above = 0): void {
    if (this.#closed || this.#width === 0) return;
    if (above > 0 && this.element.scrollTop > this.#rowHeight / 2) {
      this.element.scrollTop += above * this.#rowHeight;
    }
    if (this.#drawing) {
      this.#again = true;
      return;
    }
    this.#drawing = true;
    void this.element.draw({ invalid_viewport: true, throttle: false }).finally(() => {
      this.#drawing = false;
      if (!this.#again) return;
      this.#again = false;
      this.draw();
    });
  }

  /** The wanted columns have changed. */
  layout(): void {
    if (this.#width > 0) this.#resized(this.#width);
  }

  toTop(): void {
    this.element.scrollTop = 0;
    this.draw();
  }

  setMark(key: number | string | undefined): void {
    this.#mark = key;
    this.#model.marked?.(key);
    this.draw();
  }

  #resized(width: number): void {
    this.#width = width;
    this.#columns = fitting(this.#model.columns(width), width);
    this.#twoLines = this.#columns.some((column) => column.second !== undefined);
    this.element.classList.toggle("two-lines", this.#twoLines);
    this.element.restoreColumnSizes({ ...widths(this.#columns, width) });
    this.draw();
  }

  #data(x0: number, y0: number, x1: number, y1: number) {
    const model = this.#model;
    const columns = this.#columns.slice(x0, x1);
    const end = Math.min(y1, model.length);
    const data = columns.map((column) => {
      const texts: string[] = [];
      const { second } = column;
      for (let place = y0; place < end; place++) {
        const text = model.text(column, place);
        texts.push(second === undefined ? text : `${text}\n${model.text(second, place)}`);
      }
      return texts;
    });
    return {
      num_rows: model.length,
      num_columns: this.#columns.length,
      row_height: this.#rowHeight,
      column_headers: columns.map((column) => [this.#title(column)]),
      data,
    };
  }

  #title(column: GridColumn): string {
    const { second } = column;
    return second === undefined ? column.title : `${this.#arrowed(column)}\n${this.#arrowed(second)}`;
  }

  /** A sheet can put an arrow behind a head, but not behind one of its lines. */
  #arrowed({ id, title }: GridColumn): string {
    const sorted = this.#model.sorted?.();
    return sorted?.id === id ? `${title} ${sorted.descending ? "↓" : "↑"}` : title;
  }

  #style(): void {
    const table = this.element.querySelector("table");
    if (table === null) return;
    table.setAttribute("role", "presentation");
    table.tHead?.setAttribute("role", "rowgroup");
    const body = table.tBodies[0];
    body?.setAttribute("role", "rowgroup");
    const { element } = this;
    set(element, "aria-rowcount", String(this.#model.length + 1));
    set(element, "aria-colcount", String(this.#columns.length));
    this.#empty.textContent = this.#model.length === 0 ? this.#model.nothing() : "";
    this.#styleHeader(table);
    let active = "";
    for (const row of body?.rows ?? []) {
      const cell = row.cells[0];
      const meta = cell === undefined ? undefined : element.getMeta(cell);
      const place = meta?.type === "body" ? meta.y : -1;
      if (place < 0 || place >= this.#model.length) {
        row.hidden = true;
        continue;
      }
      row.hidden = false;
      const key = this.#model.key(place);
      set(row, "role", "row");
      set(row, "aria-rowindex", String(place + 2));
      set(row, "aria-selected", String(key === this.#mark));
      const id = `${this.#id}-${key}`;
      if (row.id !== id) row.id = id;
      if (key === this.#mark) active = id;
      this.#model.decorate?.(row, place);
      for (let i = 0; i < row.cells.length; i++) {
        const column = this.#columns[i];
        const at = row.cells[i];
        if (column === undefined || at === undefined) continue;
        set(at, "role", "gridcell");
        set(at, "data-field", column.id);
        if (column.second !== undefined) set(at, "data-second", column.second.id);
        else at.removeAttribute("data-second");
        this.#model.decorateCell?.(at, column, place);
      }
    }
    if (active === "") element.removeAttribute("aria-activedescendant");
    else set(element, "aria-activedescendant", active);
  }

  #styleHeader(table: HTMLTableElement): void {
    const head = table.tHead?.rows[0];
    if (head === undefined) return;
    set(head, "role", "row");
    set(head, "aria-rowindex", "1");
    const sorted = this.#model.sorted?.();
    for (let i = 0; i < head.cells.length; i++) {
      const column = this.#columns[i];
      const cell = head.cells[i];
      if (column === undefined || cell === undefined) continue;
      set(cell, "role", "columnheader");
      set(cell, "data-field", column.id);
      set(cell, "title", column.hint ?? "");
      const by = sorted !== undefined && (sorted.id === column.id || sorted.id === column.second?.id);
      const order = by ? (sorted.descending ? "descending" : "ascending") : "none";
      if (column.sortable === true) set(cell, "aria-sort", order);
      else cell.removeAttribute("aria-sort");
      cell.classList.toggle("right", column.right === true);
    }
  }

  #clicked(event: Event): void {
    const cell = event.target instanceof Element ? event.target.closest("th,td") : null;
    if (!(cell instanceof HTMLTableCellElement)) return;
    if (cell.tagName === "TH") {
      const column = headed(this.#columns[cell.cellIndex], cell, event);
      if (column?.sortable === true) this.#model.sort?.(column);
      return;
    }
    const meta = this.element.getMeta(cell);
    if (meta?.type !== "body") return;
    this.setMark(this.#model.key(meta.y));
    // A finger neither hovers nor has an Enter key.
    if (event instanceof PointerEvent && event.pointerType === "touch") this.#open();
  }

  #open(): void {
    const place = this.markedPlace;
    if (place >= 0) this.#model.open?.(place);
  }

  #key(event: KeyboardEvent): void {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.#rowHeight) - 2);
    const step: Readonly<Record<string, number>> = {
      ArrowDown: 1,
      ArrowUp: -1,
      PageDown: page,
      PageUp: -page,
      Home: Number.NEGATIVE_INFINITY,
      End: Number.POSITIVE_INFINITY,
    };
    const by = step[event.key];
    if (by !== undefined) {
      event.preventDefault();
      this.#moveMark(by);
    } else if (event.key === "Enter") {
      event.preventDefault();
      this.#open();
    }
  }

  #moveMark(by: number): void {
    const last = this.#model.length - 1;
    if (last < 0) return;
    const top = Math.ceil(this.element.scrollTop / this.#rowHeight);
    const from = this.markedPlace;
    const place = Math.max(0, Math.min(last, from < 0 ? (Number.isFinite(by) ? top : top + by) : from + by));
    this.#reveal(place);
    this.setMark(this.#model.key(place));
  }

  #reveal(place: number): void {
    const header = this.#rowHeight;
    const top = place * this.#rowHeight;
    const room = this.element.clientHeight - header - this.#rowHeight;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top > this.element.scrollTop + room) this.element.scrollTop = top - room;
  }
}

/** Returns the column whose title is under the pointer, of the two that a head may hold. */
function headed(column: GridColumn | undefined, cell: HTMLElement, event: Event): GridColumn | undefined {
  if (column?.second?.sortable !== true || !(event instanceof MouseEvent)) return column;
  const { top, height } = cell.getBoundingClientRect();
  return event.clientY > top + height / 2 ? column.second : column;
}

/** Returns the columns that have room, giving up those of the largest priority first. */
export function fitting(columns: readonly GridColumn[], width: number): readonly GridColumn[] {
  let kept = columns;
  let needed = kept.reduce((sum, column) => sum + column.width, 0);
  while (needed > width) {
    const least = kept.reduce((worst, column) => (column.priority >= worst.priority ? column : worst));
    if (least.priority === 0) break;
    kept = kept.filter((column) => column !== least);
    needed -= least.width;
  }
  return kept;
}

/** Returns the width of each column in pixels; those that grow share what is left. */
export function widths(columns: readonly GridColumn[], width: number): number[] {
  const spare = Math.max(0, width - columns.reduce((sum, column) => sum + column.width, 0));
  const growing = columns.filter((column) => column.grows === true).length;
  const even = growing === 0 ? spare / columns.length : 0;
  return columns.map((column) => Math.floor(column.width + even + (column.grows === true ? spare / growing : 0)));
}

/** Writes an attribute where it changed. */
export function set(node: Element, name: string, value: string): void {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}
