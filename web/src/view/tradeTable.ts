// The last trades, newest on top.

import type { Ring } from "../base/ring";
import type { NumberedTrade } from "../model/board";
import { TradeRow } from "./tradeRow";

/**
 * Shows a ring of trades in as many rows as it holds.
 *
 * A row keeps its trade while it stays in the table: news only fill the oldest rows again and move them to the top, so
 * the work of a painting grows with what is new, up to the size of the table, and never with what came meanwhile.
 */
export class TradeTable {
  readonly #body: HTMLTableSectionElement;
  /** Newest first, as in the document. */
  readonly #rows: TradeRow[] = [];
  #ring: Ring<NumberedTrade> | undefined;
  #life = -1;
  /** Of the ring's items, how many were shown or passed by. */
  #painted = 0;

  constructor(body: HTMLTableSectionElement) {
    this.#body = body;
  }

  /** Rows shown. */
  get size(): number {
    return this.#rows.length;
  }

  /**
   * Brings the table up to date; returns how many rows it had to fill.
   *
   * Another ring, or another `life` of it, begins with an empty table.
   */
  paint(ring: Ring<NumberedTrade>, life: number): number {
    if (ring !== this.#ring || life !== this.#life) {
      this.#ring = ring;
      this.#life = life;
      this.#painted = 0;
      this.#resize(Math.min(this.#rows.length, ring.size));
    }
    const fresh = Math.min(ring.pushed - this.#painted, ring.size);
    if (fresh === 0) return 0;
    this.#painted = ring.pushed;
    const top = this.#take(fresh, ring.size);
    top.forEach((row, i) => {
      const item = ring.at(ring.pushed - 1 - i);
      if (item !== undefined) row.fill(item);
    });
    return fresh;
  }

  /** Returns `count` rows, now on top: the oldest ones, and new ones until the table has `size`. */
  #take(count: number, size: number): TradeRow[] {
    const added = Array.from({ length: size - this.#rows.length }, () => new TradeRow(this.#body.ownerDocument));
    const moved = this.#rows.splice(this.#rows.length - (count - added.length));
    const top = [...moved, ...added];
    // Where every row is filled again, as with thousands of trades a second, none has to move.
    if (added.length > 0 || moved.length < size) {
      const fragment = this.#body.ownerDocument.createDocumentFragment();
      fragment.append(...top.map((row) => row.element));
      this.#body.prepend(fragment);
    }
    this.#rows.unshift(...top);
    return top;
  }

  #resize(size: number): void {
    for (const row of this.#rows.splice(size)) row.element.remove();
  }
}
