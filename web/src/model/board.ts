// What the page shows, kept apart from how and how often it is painted.

import type { Link } from "../base/link";
import type { Sequence, WallMs } from "../base/nominal";
import { SlidingQuantiles } from "../base/quantiles";
import { RateMeter } from "../base/rate";
import { Ring } from "../base/ring";
import { type Hello, type SourceStatus, STATUSES, type Status, type Trade } from "../protocol/messages";

/** Trades that the table shows. */
export const SHOWN_TRADES = 100;

/** Seconds of the small curve of rates. */
export const RATE_HISTORY_SECONDS = 60;

/** Seconds that latencies are taken over. */
export const LATENCY_SECONDS = 10;

/** Parts of the page that have to be painted anew; they add up to a mask. */
export const Part = { trades: 1, meters: 2, status: 4, all: 7 } as const;

/** Which trades are looked at. */
export type Selection = Status | "ALL";

export interface NumberedTrade {
  readonly seq: Sequence;
  readonly trade: Trade;
}

/** New trades, each once, in the order of the tape. */
export interface Arrival {
  readonly trades: readonly Trade[];
  readonly seqs: readonly Sequence[];
  /** How many, from the front, were on the tape before the page connected: shown and counted, but no rate or latency. */
  readonly old: number;
  /** The gateway's clock when it sent them. */
  readonly sentMs: WallMs;
  /** The gateway's clock when they came, as estimated; `undefined` while there is no estimate. */
  readonly receivedMs: WallMs | undefined;
}

/** Accounts of sequences, as the ledger keeps them. */
export interface Accounts {
  readonly last: number;
  readonly received: number;
  readonly gapped: number;
  readonly missing: number;
  readonly duplicates: number;
}

export interface Notice {
  readonly at: WallMs;
  readonly text: string;
}

const NO_ACCOUNTS: Accounts = { last: 0, received: 0, gapped: 0, missing: 0, duplicates: 0 };

/** The page's state. Whoever changes it says so through `changed`; the painter asks back when it paints. */
export class Board {
  readonly #changed: (parts: number) => void;
  readonly #rings: Readonly<Record<Selection, Ring<NumberedTrade>>>;
  readonly #counts: Record<Status, number> = { VALID: 0, INVALID: 0, UNKNOWN: 0 };

  /** Sent by the gateway → handled by the page. */
  readonly wire = new SlidingQuantiles(LATENCY_SECONDS);
  /** Event time of the tick → handled by the page. */
  readonly age = new SlidingQuantiles(LATENCY_SECONDS);
  readonly rate: RateMeter;

  #link: Link = { state: "connecting", why: "", retryAt: undefined };
  #source: SourceStatus | undefined;
  #hello: Hello | undefined;
  #accounts: () => Accounts = () => NO_ACCOUNTS;
  #notice: Notice | undefined;
  #connections = 0;
  #lives = 0;

  /** @param changed Is told which parts of the page to paint, as a mask of `Part`. */
  constructor(changed: (parts: number) => void, now: WallMs) {
    this.#changed = changed;
    this.rate = new RateMeter(RATE_HISTORY_SECONDS, now);
    const ring = (): Ring<NumberedTrade> => new Ring(SHOWN_TRADES);
    this.#rings = { ALL: ring(), VALID: ring(), INVALID: ring(), UNKNOWN: ring() };
  }

  get link(): Link {
    return this.#link;
  }
  get source(): SourceStatus | undefined {
    return this.#source;
  }
  get hello(): Hello | undefined {
    return this.#hello;
  }
  get accounts(): Accounts {
    return this.#accounts();
  }
  /** The last thing that went wrong without ending the connection. */
  get notice(): Notice | undefined {
    return this.#notice;
  }
  /** Subscriptions so far. */
  get connections(): number {
    return this.#connections;
  }
  /** Grows when all that was shown stops being true (another epoch). */
  get lives(): number {
    return this.#lives;
  }

  /** The last trades of a kind. */
  ring(selection: Selection): Ring<NumberedTrade> {
    return this.#rings[selection];
  }

  /** Trades of that status since the page began with this epoch. */
  count(status: Status): number {
    return this.#counts[status];
  }

  setLink(link: Link): void {
    this.#link = link;
    this.#changed(Part.status);
  }

  setSource(source: SourceStatus): void {
    this.#source = source;
    this.#changed(Part.status);
  }

  setNotice(text: string, at: WallMs): void {
    this.#notice = { at, text };
    this.#changed(Part.meters);
  }

  /** A subscription begins; a fresh one has nothing to do with what was shown before. */
  begin(hello: Hello, fresh: boolean, accounts: () => Accounts): void {
    this.#hello = hello;
    this.#accounts = accounts;
    this.#connections++;
    if (fresh) {
      this.#lives++;
      for (const ring of Object.values(this.#rings)) ring.clear();
      for (const status of STATUSES) this.#counts[status] = 0;
      this.wire.clear();
      this.age.clear();
    }
    this.#changed(Part.all);
  }

  add(arrival: Arrival, now: WallMs): void {
    const { trades, seqs, old, sentMs, receivedMs } = arrival;
    trades.forEach((trade, i) => {
      const item = { seq: seqs[i] as Sequence, trade };
      this.#rings.ALL.push(item);
      this.#rings[trade.status].push(item);
      this.#counts[trade.status]++;
      if (i >= old && receivedMs !== undefined) this.age.add(receivedMs - Number(trade.timestampNs) / 1e6, now);
    });
    const news = trades.length - old;
    this.rate.add(news, now);
    if (receivedMs !== undefined && news > 0) this.wire.add(receivedMs - sentMs, now, news);
    this.#changed(Part.trades);
  }
}
