// One connection for all pages of a browser: decodes, keeps the newest trades, and serves each page at its own pace.
//
// A page gets rows only when it has painted those before. So a page that sleeps is sent nothing, and when it wakes it
// gets what the store still holds, not a backlog; its place is a row number, as a client's on the tape is a sequence.

import {
  type ColumnData,
  type Delivery,
  type Hello,
  type Link,
  type OpenSocket,
  Session,
  type SourceStatus,
  type StageTimes,
  type WallMs,
  type Wanted,
  wallNow,
} from "@tickcast/client";
import { SlidingQuantiles } from "../base/quantiles.ts";
import { RateMeter } from "../base/rate.ts";
import { TradeStore } from "../model/store.ts";
import { type Quote, Watch } from "../model/watch.ts";
import { type FromHub, type HubState, type Missed, type Need, STAGES, type Stage, type ToHub } from "./messages.ts";

/** Trades that are kept: about six seconds of a very busy market, half an hour of a calm one. */
export const KEPT_TRADES = 65_536;

/** Trades before the newest that a fresh page asks for. */
const HISTORY = 5_000;

/** Most trades to catch up on after a lost connection; what is older would leave the store unread. */
const CATCH_UP = KEPT_TRADES;

/** Between two states, milliseconds: nobody reads figures that change faster. */
export const STATE_EVERY_MS = 250;

/** While nobody looks at trades: what a list of quotes needs, faster than anybody reads. */
const LATEST: Wanted = { mode: "latest", status: ["VALID"], maxRateHz: 10 };

const EVERYTHING: Wanted = {};
const WITH_STAGES: Wanted = { stages: true };

const RATE_SECONDS = 60;
const LATENCY_SECONDS = 10;
const REMEMBERED_MISSES = 20;

/** What the hub needs of a `MessagePort`. */
export interface Port {
  postMessage(message: FromHub): void;
}

interface Page {
  readonly port: Port;
  /** First row that it has not got. */
  place: number;
  /** Whether it has painted what it got. */
  ready: boolean;
  /** Whether it has taken the last state. */
  seen: boolean;
  /** Whether it has missed changes of quotes. */
  slept: boolean;
  need: Need;
}

export class Hub {
  readonly #openSocket: OpenSocket;
  readonly #shared: boolean;
  readonly #pages = new Set<Page>();
  readonly #watch = new Watch();
  readonly #wire = new SlidingQuantiles(LATENCY_SECONDS);
  readonly #age = new SlidingQuantiles(LATENCY_SECONDS);
  readonly #stages = Object.fromEntries(
    STAGES.map((stage) => [stage, new SlidingQuantiles(LATENCY_SECONDS)]),
  ) as Readonly<Record<Stage, SlidingQuantiles>>;
  readonly #rate = new RateMeter(RATE_SECONDS, wallNow());
  #store = new TradeStore(KEPT_TRADES, 0);
  #session: Session | undefined;
  #link: Link = { state: "connecting", why: "", retryAt: undefined };
  #hello: Hello | undefined;
  #source: SourceStatus | undefined;
  #notice: HubState["notice"];
  #missed: Missed[] = [];
  #counts: [number, number, number] = [0, 0, 0];
  #connections = 0;
  #mode: "tape" | "latest" = "tape";
  #wanted = EVERYTHING;
  #life = 0;
  /** Rows up to this number were history when they came. */
  #oldRows = 0;
  #receivedMs = 0 as WallMs;
  #sentMs = 0 as WallMs;
  #lagMs: number | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(openSocket: OpenSocket, shared: boolean) {
    this.#openSocket = openSocket;
    this.#shared = shared;
  }

  /** Takes a page on; returns what to call with its messages and when it is gone. */
  connect(port: Port): { receive: (message: ToHub) => void; gone: () => void } {
    const page: Page = { port, place: 0, ready: true, seen: true, slept: false, need: "trades" };
    return {
      receive: (message) => this.#receive(page, message),
      gone: () => this.#gone(page),
    };
  }

  #receive(page: Page, message: ToHub): void {
    switch (message.type) {
      case "open":
        page.need = message.need;
        this.#open(page, message.url);
        break;
      case "gone":
        this.#gone(page);
        break;
      case "need":
        page.need = message.need;
        this.#choose();
        break;
      case "more":
        page.ready = true;
        this.#serve(page);
        break;
      case "seen":
        page.seen = true;
        break;
      case "hurry":
        this.#session?.hurry();
        break;
      case "start":
        this.#session?.start();
        break;
      case "judge":
        this.#judge(page, message);
        break;
    }
  }

  #open(page: Page, url: string): void {
    this.#pages.add(page);
    this.#choose();
    this.#timer ??= setInterval(() => this.#tellAll(), STATE_EVERY_MS);
    if (this.#session === undefined) {
      this.#session = this.#begin(url);
      this.#session.start();
    }
    this.#greet(page);
    page.slept = true;
    this.#tell(page, []);
    this.#serve(page);
  }

  #gone(page: Page): void {
    this.#pages.delete(page);
    if (this.#pages.size > 0) {
      this.#choose();
      return;
    }
    // Nobody looks any more; the next page begins afresh.
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#session?.stop();
    this.#session = undefined;
    this.#link = { state: "connecting", why: "", retryAt: undefined };
  }

  /** Asks for every trade only while some page shows them. */
  #choose(): void {
    const needs = new Set([...this.#pages].map((page) => page.need));
    const trades = needs.has("trades") || needs.has("stages");
    if (trades) this.#mode = "tape";
    else if (needs.has("quotes")) this.#mode = "latest";
    const wanted = this.#mode === "latest" ? LATEST : needs.has("stages") ? WITH_STAGES : EVERYTHING;
    if (wanted === this.#wanted) return;
    this.#wanted = wanted;
    this.#session?.want(wanted);
  }

  #begin(url: string): Session {
    return new Session({
      url,
      openSocket: this.#openSocket,
      history: HISTORY,
      catchUp: CATCH_UP,
      wanted: this.#wanted,
      listener: {
        linkChanged: (link) => {
          this.#link = link;
          this.#tellAll();
        },
        began: (hello, fresh) => this.#begun(hello, fresh),
        delivered: (delivery) => this.#delivered(delivery),
        snapshot: (rows) => this.#watch.seed(rows, wallNow()),
        missed: (from, to, why) => {
          this.#missed = [{ from, to, why, atMs: wallNow() }, ...this.#missed].slice(0, REMEMBERED_MISSES);
        },
        sourceChanged: (source) => {
          this.#source = source;
        },
        noticed: (text) => {
          this.#notice = { text, atMs: wallNow() };
        },
      },
    });
  }

  #begun(hello: Hello, fresh: boolean): void {
    this.#hello = hello;
    this.#connections++;
    if (!fresh) return;
    this.#life++;
    this.#store = new TradeStore(KEPT_TRADES, hello.enrichments.length);
    this.#oldRows = 0;
    this.#watch.clear();
    this.#wire.clear();
    this.#age.clear();
    this.#counts = [0, 0, 0];
    this.#lagMs = undefined;
    for (const page of this.#pages) {
      page.place = 0;
      page.ready = true; // what it has not painted yet, it will not paint
      this.#greet(page);
    }
  }

  #greet(page: Page): void {
    const enrichments = (this.#hello?.enrichments ?? []).map((enrichment) => enrichment.name);
    page.port.postMessage({ type: "life", life: this.#life, enrichments, quotes: [...this.#watch.quotes.values()] });
  }

  #delivered({ trades, old, leftOut, stages, sentMs, receivedMs }: Delivery): void {
    if (this.#mode === "tape") this.#keep(trades, old);
    this.#watch.add(trades, old, receivedMs);
    this.#rate.add(trades.length - old + leftOut, receivedMs);
    this.#receivedMs = receivedMs;
    this.#sentMs = sentMs;
    if (old < trades.length) {
      this.#measure(trades, old, sentMs, receivedMs);
      if (stages !== undefined) this.#measureStages(stages, receivedMs);
    }
    for (const page of this.#pages) this.#serve(page);
  }

  #keep(trades: ColumnData, old: number): void {
    this.#store.append(trades);
    if (old > 0) this.#oldRows = this.#store.end - trades.length + old;
    for (let row = 0; row < trades.length; row++) {
      const status = trades.status[row] as 0 | 1 | 2;
      this.#counts[status]++;
    }
  }

  #measure(trades: ColumnData, old: number, sentMs: WallMs, receivedMs: WallMs): void {
    const offset = this.#session?.offset;
    if (offset === undefined) return;
    const serverMs = receivedMs + offset.ms;
    this.#lagMs = Math.max(0, serverMs - sentMs);
    this.#wire.add(serverMs - sentMs, receivedMs, trades.length - old);
    for (let row = old; row < trades.length; row++) {
      this.#age.add(serverMs - Number(trades.timestampNs[row]) / 1e6, receivedMs);
    }
  }

  #measureStages({ decodeUs, rulesUs, enrichUs, tapeUs, sentUs }: StageTimes, nowMs: WallMs): void {
    this.#stages.decode.add(decodeUs / 1000, nowMs);
    this.#stages.rules.add(rulesUs / 1000, nowMs);
    this.#stages.enrich.add(enrichUs / 1000, nowMs);
    this.#stages.tape.add((tapeUs - decodeUs - rulesUs - enrichUs) / 1000, nowMs);
    this.#stages.send.add((sentUs - tapeUs) / 1000, nowMs);
  }

  #serve(page: Page): void {
    const { first, end } = this.#store;
    if (!page.ready || page.place >= end || !this.#pages.has(page)) return;
    const from = Math.max(page.place, first);
    const rows = this.#store.slice(from, end);
    page.port.postMessage({
      type: "rows",
      life: this.#life,
      rows: bare(rows),
      skipped: from - page.place,
      old: Math.max(0, Math.min(rows.length, this.#oldRows - from)),
      receivedMs: this.#receivedMs,
      sentMs: this.#sentMs,
    });
    page.place = end;
    page.ready = false;
  }

  #tellAll(): void {
    const quotes = this.#watch.takeChanged();
    for (const page of this.#pages) this.#tell(page, quotes);
  }

  #tell(page: Page, changed: readonly Quote[]): void {
    if (!page.seen) {
      page.slept = true; // what changes meanwhile is not kept for it: it gets all quotes when it wakes
      return;
    }
    const quotes = page.slept ? [...this.#watch.quotes.values()] : changed;
    page.slept = false;
    page.seen = false;
    page.port.postMessage({ type: "state", life: this.#life, state: this.#state(), quotes });
  }

  #judge(page: Page, { id, instrumentId, price, volume }: Extract<ToHub, { type: "judge" }>): void {
    const answer = this.#session?.judge(instrumentId, price, volume) ?? Promise.reject(new Error("Not connected"));
    answer.then(
      ({ trade }) => page.port.postMessage({ type: "verdict", id, trade }),
      (error: unknown) =>
        page.port.postMessage({ type: "refused", id, why: error instanceof Error ? error.message : "" }),
    );
  }

  #state(): HubState {
    const now = wallNow();
    const ledger = this.#session?.ledger;
    const history = new Float64Array(RATE_SECONDS);
    this.#rate.history(history, now);
    const spread = (of: SlidingQuantiles) => {
      const [p50, p99] = of.at([0.5, 0.99], now);
      return { p50, p99 };
    };
    return {
      link: this.#link,
      epoch: this.#session?.epoch ?? "",
      hello: this.#hello,
      source: this.#source,
      accounts: {
        first: ledger?.first ?? 0,
        last: ledger?.last ?? 0,
        received: ledger?.received ?? 0,
        gapped: ledger?.gapped ?? 0,
        missing: ledger?.missing ?? 0,
        leftOut: ledger?.leftOut ?? 0,
        duplicates: ledger?.duplicates ?? 0,
      },
      head: this.#session?.head ?? 0,
      heardMs: this.#session?.heardMs,
      rows: this.#store.end,
      lagMs: this.#lagMs,
      counts: [...this.#counts],
      perSecond: this.#rate.perSecond(now),
      history,
      offset: this.#session?.offset,
      wire: spread(this.#wire),
      stages: {
        decode: spread(this.#stages.decode),
        rules: spread(this.#stages.rules),
        enrich: spread(this.#stages.enrich),
        tape: spread(this.#stages.tape),
        send: spread(this.#stages.send),
      },
      age: spread(this.#age),
      connections: this.#connections,
      mode: this.#mode,
      pages: this.#pages.size,
      shared: this.#shared,
      notice: this.#notice,
      missed: this.#missed,
    };
  }
}

/** Returns the columns without their class, which a port could not carry. */
function bare(rows: ColumnData): ColumnData {
  const { length, seq, instrument, status, reason, timestampNs, price, volume, vwap, id, enrichments } = rows;
  return { length, seq, instrument, status, reason, timestampNs, price, volume, vwap, id, enrichments };
}
