// What the worker that holds the connection and the pages that show it say to one another.

import type { ColumnData, Hello, Int64Text, Link, Offset, SourceStatus, Trade, WallMs } from "@tickcast/client";
import type { Quote } from "../model/watch.ts";

/** Accounts of sequences of the present epoch. */
export interface Accounts {
  readonly first: number;
  readonly last: number;
  readonly received: number;
  readonly gapped: number;
  readonly missing: number;
  /** Of the gapped: not asked for. */
  readonly leftOut: number;
  readonly duplicates: number;
}

/** Median and 99th percentile, milliseconds. */
export interface Spread {
  readonly p50: number | undefined;
  readonly p99: number | undefined;
}

/** Sequences that did not come one by one. */
export interface Missed {
  readonly from: number;
  readonly to: number;
  readonly why: string;
  readonly atMs: WallMs;
}

/** Everything that pages show besides the trades themselves. */
export interface HubState {
  readonly link: Link;
  readonly epoch: string;
  readonly hello: Hello | undefined;
  readonly source: SourceStatus | undefined;
  readonly accounts: Accounts;
  /** Newest sequence that the gateway has spoken of. */
  readonly head: number;
  /** When the gateway was last heard. */
  readonly heardMs: WallMs | undefined;
  /** Rows that the hub has got since the life began; what a page has less, waits for it. */
  readonly rows: number;
  /** How old the newest frame was when it came; `undefined` before one did. */
  readonly lagMs: number | undefined;
  readonly counts: readonly [unknown: number, valid: number, invalid: number];
  readonly perSecond: number;
  /** Trades in each of the last 60 seconds, oldest first. */
  readonly history: Float64Array;
  readonly offset: Offset | undefined;
  /** Sent by the gateway → taken by the hub. */
  readonly wire: Spread;
  /** Of the newest trades of frames; empty while no page shows them. */
  readonly stages: Readonly<Record<Stage, Spread>>;
  /** Event time of the tick → taken by the hub. */
  readonly age: Spread;
  readonly connections: number;
  /** Whether every trade comes, or of each instrument the newest. */
  readonly mode: "tape" | "latest";
  /** Pages that share this connection. */
  readonly pages: number;
  readonly shared: boolean;
  readonly notice: { readonly text: string; readonly atMs: WallMs } | undefined;
  readonly missed: readonly Missed[];
}

/** What a page shows: all trades (with the times of their stages), the newest of each instrument, or either will do. */
export type Need = "trades" | "stages" | "quotes" | "either";

/** Stages of a trade on its way, in their order; those of the browser come after. */
export const STAGES = ["decode", "rules", "enrich", "tape", "send"] as const;
export type Stage = (typeof STAGES)[number];

export type FromHub =
  /** All that was known before has nothing to do with what comes (first connection, another epoch). */
  | {
      readonly type: "life";
      readonly life: number;
      readonly enrichments: readonly string[];
      readonly quotes: readonly Quote[];
    }
  /** New rows, each once; `skipped` were too old to be kept for a page that did not ask for so long. */
  | {
      readonly type: "rows";
      readonly life: number;
      readonly rows: ColumnData;
      readonly skipped: number;
      /** How many of them, from the front, were history when they came. */
      readonly old: number;
      /** When the newest of them came, by the hub's clock. */
      readonly receivedMs: WallMs;
      /** When the gateway sent the newest of them, by its own clock. */
      readonly sentMs: WallMs;
    }
  | { readonly type: "state"; readonly life: number; readonly state: HubState; readonly quotes: readonly Quote[] }
  | { readonly type: "verdict"; readonly id: number; readonly trade: Trade }
  | { readonly type: "refused"; readonly id: number; readonly why: string };

export type ToHub =
  /** A page opens; `lock` is the name of a Web Lock that it holds while it lives. */
  | { readonly type: "open"; readonly url: string; readonly lock: string; readonly need: Need }
  /** The page shows something else now. */
  | { readonly type: "need"; readonly need: Need }
  /** The page goes, and says so where there are no locks to tell it. */
  | { readonly type: "gone" }
  /** The page has painted what it got, and takes more. */
  | { readonly type: "more" }
  /** The page has taken the state. */
  | { readonly type: "seen" }
  /** Somebody looks: a planned attempt is made at once. */
  | { readonly type: "hurry" }
  /** Somebody asks for a connection, also where the gateway said not to come back. */
  | { readonly type: "start" }
  | {
      readonly type: "judge";
      readonly id: number;
      readonly instrumentId: string;
      readonly price: number;
      readonly volume: Int64Text;
    };
