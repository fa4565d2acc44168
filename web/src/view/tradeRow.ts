// One row of the table, built once and filled again and again.

import { formatInt64, formatPrice, formatTimestampNs, formatVwap, NONE } from "../base/format";
import type { NumberedTrade } from "../model/board";
import { statusText } from "./status";

const FIELDS = ["id", "instrument", "price", "volume", "vwap", "status", "reason"] as const;
type Field = (typeof FIELDS)[number];

/** How much of a trade id is shown: its end, where neighbours differ. */
const ID_CHARACTERS = 8;

export class TradeRow {
  readonly element: HTMLTableRowElement;
  readonly #texts: Readonly<Record<Field, Text>>;
  #item: NumberedTrade | undefined;
  #status = "";

  constructor(document: Document) {
    this.element = document.createElement("tr");
    this.element.dataset.testid = "trade";
    const text = (field: Field): Text => {
      const cell = document.createElement("td");
      cell.className = `c-${field}`;
      cell.dataset.field = field;
      const node = document.createTextNode("");
      cell.append(node);
      this.element.append(cell);
      return node;
    };
    this.#texts = Object.fromEntries(FIELDS.map((field) => [field, text(field)])) as Record<Field, Text>;
    // Everything there is to know, composed when somebody points at the row and not for each that passes by.
    this.element.addEventListener("pointerenter", () => {
      if (this.#item !== undefined) this.element.title = describe(this.#item);
    });
  }

  fill(item: NumberedTrade): void {
    if (item === this.#item) return;
    const { trade } = item;
    this.#item = item;
    if (trade.status !== this.#status) {
      this.#status = trade.status;
      this.element.dataset.status = trade.status;
      set(this.#texts.status, statusText(trade.status));
    }
    if (this.element.title !== "") this.element.title = "";
    set(this.#texts.id, trade.tradeId.slice(-ID_CHARACTERS));
    set(this.#texts.instrument, trade.instrumentId);
    set(this.#texts.price, formatPrice(trade.price));
    set(this.#texts.volume, formatInt64(trade.volume));
    set(this.#texts.vwap, trade.vwap20m === undefined ? NONE : formatVwap(trade.vwap20m));
    set(this.#texts.reason, trade.reason ?? "");
  }
}

function set(node: Text, text: string): void {
  if (node.data !== text) node.data = text;
}

function describe({ seq, trade }: NumberedTrade): string {
  const lines = [`Sequence ${seq}`, `Trade ${trade.tradeId}`, formatTimestampNs(trade.timestampNs)];
  if (trade.reason !== undefined) lines.push(trade.reason);
  return lines.join("\n");
}
