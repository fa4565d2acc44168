// The form that asks for a verdict on a tick.

import { formatInt64, formatMs, formatPrice, formatVwap } from "../base/format";
import type { Board } from "../model/board";
import { readTick, type TickInput } from "../model/tickInput";
import type { Trade } from "../protocol/messages";
import { part, setText } from "./dom";

/** Names suggested while typing; more would only be scrolled. */
const SUGGESTIONS = 500;

/** Asks the gateway; rejects with a reason for people. */
export type Judge = (tick: TickInput) => Promise<Trade>;

export class TickForm {
  readonly #form: HTMLFormElement;
  readonly #inputs: Readonly<Record<"instrument" | "price" | "volume", HTMLInputElement>>;
  readonly #send: HTMLButtonElement;
  readonly #verdict: HTMLElement;
  readonly #status: HTMLElement;
  readonly #reason: HTMLElement;
  readonly #detail: HTMLElement;
  #suggested: readonly string[] = [];
  /** Number of the last question: answers to earlier ones are not shown. */
  #asked = 0;

  constructor(root: ParentNode, judge: Judge) {
    this.#form = part(root, "tick-form", HTMLFormElement);
    this.#inputs = {
      instrument: part(root, "tick-instrument", HTMLInputElement),
      price: part(root, "tick-price", HTMLInputElement),
      volume: part(root, "tick-volume", HTMLInputElement),
    };
    this.#send = part(root, "tick-send", HTMLButtonElement);
    this.#verdict = part(root, "verdict", HTMLElement);
    this.#status = part(root, "verdict-status", HTMLElement);
    this.#reason = part(root, "verdict-reason", HTMLElement);
    this.#detail = part(root, "verdict-detail", HTMLElement);
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit(judge);
    });
  }

  paint(board: Board): void {
    const connected = board.link.state === "live" || board.link.state === "stale";
    this.#send.disabled = !connected;
    this.#send.title = connected ? "" : "Not connected to the gateway";
    const names = board.hello?.instruments ?? [];
    if (names !== this.#suggested) this.#suggest(names);
  }

  async #submit(judge: Judge): Promise<void> {
    const { instrument, price, volume } = this.#inputs;
    const tick = readTick(instrument.value, price.value, volume.value);
    const wrong = "why" in tick ? tick : undefined;
    for (const [field, input] of Object.entries(this.#inputs)) {
      input.setAttribute("aria-invalid", String(field === wrong?.field));
    }
    if ("why" in tick) {
      this.#inputs[tick.field].focus();
      return this.#show("ERROR", "Not sent", tick.why, "");
    }
    const question = ++this.#asked;
    const sent = performance.now();
    this.#show("WAITING", "Waiting for the verdict", "", "");
    try {
      const trade = await judge(tick);
      if (question === this.#asked) this.#showTrade(trade, performance.now() - sent);
    } catch (error) {
      if (question === this.#asked) this.#show("ERROR", "No verdict", error instanceof Error ? error.message : "", "");
    }
  }

  #showTrade(trade: Trade, tookMs: number): void {
    const tick = `${trade.instrumentId} · ${formatInt64(trade.volume)} at ${formatPrice(trade.price)}`;
    const vwap = trade.vwap20m === undefined ? "" : ` · VWAP ${formatVwap(trade.vwap20m)}`;
    this.#show(trade.status, trade.status, trade.reason ?? "", `${tick}${vwap} · answered in ${formatMs(tookMs)}`);
  }

  #show(status: string, title: string, reason: string, detail: string): void {
    this.#verdict.dataset.status = status;
    this.#verdict.hidden = false;
    setText(this.#status, title);
    setText(this.#reason, reason);
    setText(this.#detail, detail);
  }

  #suggest(names: readonly string[]): void {
    this.#suggested = names;
    const options = names.slice(0, SUGGESTIONS).map((name) => {
      const option = this.#form.ownerDocument.createElement("option");
      option.value = name;
      return option;
    });
    this.#inputs.instrument.list?.replaceChildren(...options);
  }
}
