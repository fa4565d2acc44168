// The page: which part is painted when.

import { wallNow } from "../base/clock";
import { formatCount } from "../base/format";
import type { WallMs } from "../base/nominal";
import { type Board, Part, type Selection, SHOWN_TRADES } from "../model/board";
import { part, setAttribute, setText } from "./dom";
import { Header } from "./header";
import { type ClockEstimate, Meters } from "./meters";
import { type Judge, TickForm } from "./tickForm";
import { TradeTable } from "./tradeTable";

/** Between two paintings of the figures, milliseconds: nobody reads a number that changes sixty times a second. */
export const METERS_EVERY_MS = 250;

/**
 * Rest of the table for each row that it filled, milliseconds: it fills at most 1,000 rows a second. Up to there every
 * trade is seen with the next frame; beyond, rows fly by unread at 60 frames as at 10, and the page stays cool.
 */
const REST_PER_ROW_MS = 1;

export interface DashboardOptions {
  readonly document: Document;
  readonly board: Board;
  /** Asks for parts to be painted with the next frame. */
  readonly invalidate: (parts: number) => void;
  readonly connect: () => void;
  readonly judge: Judge;
  readonly clock: () => ClockEstimate | undefined;
}

export class Dashboard {
  readonly #options: DashboardOptions;
  readonly #header: Header;
  readonly #meters: Meters;
  readonly #form: TickForm;
  readonly #table: TradeTable;
  readonly #panel: HTMLElement;
  readonly #title: HTMLElement;
  readonly #empty: HTMLElement;
  readonly #pause: HTMLButtonElement;
  #selection: Selection = "ALL";
  /** When the table may be painted again. */
  #restsUntil = 0;
  #rest: ReturnType<typeof setTimeout> | undefined;
  /** Trades of the selection that had come when the table was paused. */
  #pausedAt: number | undefined;

  constructor(options: DashboardOptions) {
    const { document, board, invalidate } = options;
    this.#options = options;
    this.#header = new Header(document, options.connect);
    this.#meters = new Meters(document);
    this.#form = new TickForm(document, options.judge);
    this.#table = new TradeTable(part(document, "trades", HTMLTableSectionElement));
    this.#panel = part(document, "trades-panel", HTMLElement);
    this.#title = part(document, "trades-title", HTMLElement);
    this.#empty = part(document, "empty", HTMLElement);
    this.#pause = part(document, "pause", HTMLButtonElement);
    this.#pause.addEventListener("click", () => {
      this.#pausedAt = this.#pausedAt === undefined ? board.ring(this.#selection).pushed : undefined;
      invalidate(Part.trades | Part.meters);
    });
    part(document, "selection", HTMLFieldSetElement).addEventListener("change", (event) => {
      if (!(event.target instanceof HTMLInputElement)) return;
      this.#selection = event.target.value as Selection;
      const kind = this.#selection === "ALL" ? "" : `${this.#selection.toLowerCase()} `;
      setText(this.#title, `Last ${SHOWN_TRADES} ${kind}trades`);
      this.#pausedAt = undefined;
      this.#restsUntil = 0; // who asks gets an answer at once
      invalidate(Part.trades | Part.meters);
    });
  }

  /** Paints the parts of the mask. */
  paint(parts: number): void {
    const { board, document } = this.#options;
    const now = wallNow();
    if (parts & Part.trades) this.#paintTrades(now);
    if (parts & Part.meters) {
      this.#meters.paint(board, this.#options.clock(), now);
      this.#paintPause();
    }
    if (parts & (Part.status | Part.meters)) this.#header.paint(board, now); // with the meters: its countdown runs
    if (parts & Part.status) {
      this.#form.paint(board);
      setAttribute(this.#panel, "data-live", String(board.link.state === "live"));
      const title = board.link.state === "live" ? "tickcast" : `${board.link.state} · tickcast`;
      if (document.title !== title) document.title = title;
    }
  }

  #paintTrades(now: WallMs): void {
    const { board } = this.#options;
    const ring = board.ring(this.#selection);
    if (this.#pausedAt !== undefined && ring.pushed >= this.#pausedAt) return;
    this.#pausedAt = undefined; // the ring began anew: nothing is left to look at
    if (now < this.#restsUntil) {
      this.#paintAfterRest(this.#restsUntil - now);
      return;
    }
    this.#restsUntil = now + REST_PER_ROW_MS * this.#table.paint(ring, board.lives);
    this.#empty.hidden = this.#table.size > 0;
  }

  #paintAfterRest(ms: number): void {
    this.#rest ??= setTimeout(() => {
      this.#rest = undefined;
      this.#options.invalidate(Part.trades);
    }, ms);
  }

  #paintPause(): void {
    const paused = this.#pausedAt;
    const came = paused === undefined ? 0 : this.#options.board.ring(this.#selection).pushed - paused;
    setAttribute(this.#pause, "aria-pressed", String(paused !== undefined));
    setText(this.#pause, paused === undefined ? "Pause" : `Resume · ${formatCount(Math.max(0, came))} new`);
  }
}
