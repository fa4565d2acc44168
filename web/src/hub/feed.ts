// The page's end of the hub: a store of its own, filled once per animation frame, and the newest state.

import { type ColumnData, type Int64Text, socketUrl, type Trade, type WallMs, wallNow } from "@tickcast/client";
import { Decimals } from "../model/decimals.ts";
import { TradeStore } from "../model/store.ts";
import type { Quote } from "../model/watch.ts";
import { KEPT_TRADES } from "./hub.ts";
import type { FromHub, HubState, Need, ToHub } from "./messages.ts";

export interface FeedListener {
  /** All that was shown has nothing to do with what comes. */
  began(): void;
  /** Once per animation frame in which something came: the store has it, paint it. */
  frame(came: number): void;
  stateChanged(): void;
}

type Rows = Extract<FromHub, { type: "rows" }>;

/** When the newest rows were sent, received and painted; milliseconds. */
export interface Painted {
  /** Sent by the gateway, in its clock. */
  readonly sentMs: WallMs;
  /** Received by the hub. */
  readonly receivedMs: WallMs;
  /** Painted by this page. */
  readonly paintedMs: WallMs;
}

export class Feed {
  readonly #port: { postMessage(message: ToHub): void };
  readonly #waiting = new Map<number, { resolve: (trade: Trade) => void; reject: (error: Error) => void }>();
  readonly #listeners = new Set<FeedListener>();
  readonly quotes = new Map<string, Quote>();
  readonly decimals = new Decimals();
  store = new TradeStore(KEPT_TRADES, 0);
  /** By slot of the store: 1 above the instrument's VALID price before it, -1 below, 0 the same. */
  readonly direction = new Int8Array(KEPT_TRADES);
  enrichments: readonly string[] = [];
  /** Rows that came while nobody took them, too many to be kept. */
  skipped = 0;
  state: HubState | undefined;
  painted: Painted | undefined;
  readonly #prices = new Map<string, number>();
  #life = -1;
  /** Come and not yet painted; one as a rule. */
  #rows: Rows[] = [];
  #asked = false;
  #paused = false;
  #nextId = 1;

  constructor(port: { postMessage(message: ToHub): void }) {
    this.#port = port;
  }

  subscribe(listener: FeedListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Trades that the hub has and this page has not taken. */
  get waiting(): number {
    return Math.max(0, (this.state?.rows ?? 0) - this.store.end - this.#unpainted - this.skipped);
  }

  get #unpainted(): number {
    return this.#paused ? 0 : this.#rows.reduce((sum, message) => sum + message.rows.length, 0);
  }

  get paused(): boolean {
    return this.#paused;
  }

  /** Takes nothing more until it is called with `false`; the hub goes on. */
  pause(paused: boolean): void {
    this.#paused = paused;
    if (!paused) this.#ask();
  }

  /** Tells the hub what this page shows. */
  need(need: Need): void {
    this.#port.postMessage({ type: "need", need });
  }

  hurry(): void {
    this.#port.postMessage({ type: "hurry" });
  }

  start(): void {
    this.#port.postMessage({ type: "start" });
  }

  /** Asks for a verdict on a tick; rejects with a reason for people. */
  judge(instrumentId: string, price: number, volume: Int64Text): Promise<Trade> {
    const id = this.#nextId++;
    this.#port.postMessage({ type: "judge", id, instrumentId, price, volume });
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  receive(message: FromHub): void {
    switch (message.type) {
      case "life":
        this.#begin(message);
        break;
      case "rows":
        if (message.life !== this.#life) return;
        this.#rows.push(message);
        this.#ask();
        break;
      case "state":
        this.#take(message);
        break;
      case "verdict":
        this.#waiting.get(message.id)?.resolve(message.trade);
        this.#waiting.delete(message.id);
        break;
      case "refused":
        this.#waiting.get(message.id)?.reject(new Error(message.why));
        this.#waiting.delete(message.id);
        break;
    }
  }

  #begin(message: Extract<FromHub, { type: "life" }>): void {
    this.#life = message.life;
    this.enrichments = message.enrichments;
    this.store = new TradeStore(KEPT_TRADES, message.enrichments.length);
    this.skipped = 0;
    this.quotes.clear();
    for (const quote of message.quotes) this.quotes.set(quote.instrument, quote);
    this.#rows = [];
    this.#prices.clear();
    for (const listener of this.#listeners) listener.began();
  }

  #take(message: Extract<FromHub, { type: "state" }>): void {
    this.#port.postMessage({ type: "seen" });
    this.state = message.state;
    for (const quote of message.quotes) {
      this.quotes.set(quote.instrument, quote);
      this.decimals.note(quote.instrument, quote.last);
    }
    for (const listener of this.#listeners) listener.stateChanged();
  }

  #ask(): void {
    if (this.#asked || this.#paused || this.#rows.length === 0) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#paint();
    });
  }

  #paint(): void {
    if (this.#paused || this.#rows.length === 0) return;
    const messages = this.#rows;
    this.#rows = [];
    let came = 0;
    for (const message of messages) {
      this.skipped += message.skipped;
      this.#append(message.rows);
      came += message.rows.length;
    }
    for (const listener of this.#listeners) listener.frame(came);
    // Asked for after painting: a page that is not painted any more asks for nothing.
    this.#port.postMessage({ type: "more" });
    const { sentMs, receivedMs, old, rows } = messages.at(-1) as Rows;
    if (old >= rows.length) return;
    // A task of its own runs after the frame has been handed over.
    setTimeout(() => {
      this.painted = { sentMs, receivedMs, paintedMs: wallNow() };
    });
  }

  #append(rows: ColumnData): void {
    const start = this.store.end;
    this.store.append(rows);
    for (let row = 0; row < rows.length; row++) {
      const instrument = rows.instrument[row] as string;
      const price = rows.price[row] as number;
      const before = this.#prices.get(instrument) ?? price;
      this.direction[this.store.slot(start + row)] = Math.sign(price - before) || 0;
      if (rows.status[row] !== 1) continue; // a refused price may be anything
      this.#prices.set(instrument, price);
      this.decimals.note(instrument, price);
    }
  }
}

/** Connects this page, which shows `need`, to the browser's hub, making it where it is the first. */
export function openFeed(need: Need): Feed {
  const { port1, port2 } = new MessageChannel();
  const lock = `tickcast page ${crypto.randomUUID?.() ?? String(Math.random())}`;
  const url = socketUrl("ws/marketdata", document.baseURI);
  const port = sharedPort() ?? dedicatedPort(port1, port2);
  const feed = new Feed({ postMessage: (message) => port.postMessage(message) });
  port.onmessage = ({ data }: MessageEvent<FromHub>) => feed.receive(data);
  const open = () => port.postMessage({ type: "open", url, lock, need } satisfies ToHub);
  if (navigator.locks === undefined) {
    // Not a secure context: a page on another host without TLS.
    open();
    addEventListener("pagehide", () => port.postMessage({ type: "gone" } satisfies ToHub));
    addEventListener("pageshow", ({ persisted }) => persisted && open());
  } else {
    // Held until the page is gone.
    void navigator.locks.request(lock, () => {
      open();
      return new Promise<never>(() => undefined);
    });
  }
  return feed;
}

function sharedPort(): MessagePort | undefined {
  if (typeof SharedWorker === "undefined") return undefined;
  return new SharedWorker(new URL("./worker.ts", import.meta.url), { type: "module", name: "tickcast" }).port;
}

function dedicatedPort(ours: MessagePort, theirs: MessagePort): MessagePort {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "tickcast" });
  worker.postMessage(undefined, [theirs]);
  return ours;
}
