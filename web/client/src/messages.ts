// Messages of `tickcast.v1.json`, as the page uses them; docs/protocol.md is the full text.

import type { TradeColumns } from "./columns.ts";
import type { Epoch, Int64Text, Sequence, Status, WallMs } from "./nominal.ts";

/** A tick after judgement. */
export interface Trade {
  /** 32 hex digits. */
  readonly tradeId: string;
  readonly instrumentId: string;
  /** Quote currency per unit; `null` where the tick's price was no finite number. */
  readonly price: number | null;
  /** Units traded. */
  readonly volume: Int64Text;
  /** Event time, nanoseconds since the Unix epoch. */
  readonly timestampNs: Int64Text;
  readonly status: Status;
  /** Why it is not VALID. */
  readonly reason: string | undefined;
  /** VWAP of the instrument's last 20 minutes; VALID trades only. */
  readonly vwap20m: number | undefined;
  /** The rule set's further columns, in the order of `hello`; NaN where one does not apply. */
  readonly enrichments: readonly number[];
}

/** A further column of the rule set's. */
export interface Enrichment {
  readonly name: string;
  readonly unit: string;
}

/** First message of the gateway. */
export interface Hello {
  readonly type: "hello";
  /** Empty while the gateway has no tape; another hello follows when it has. */
  readonly epoch: Epoch;
  /** Newest sequence on the tape; 0 where it is empty. */
  readonly seq: Sequence;
  /** Milliseconds after which the gateway says something even if nothing happens. */
  readonly heartbeatMs: number;
  /** Names known so far; suggestions for the form. */
  readonly instruments: readonly string[];
  /** Reasons in order of their codes, those known so far. */
  readonly reasons: readonly string[];
  /** Further fields on trades. */
  readonly enrichments: readonly Enrichment[];
  /** The gateway's name and version. */
  readonly server: string;
}

/** Answer to `subscribe`: what comes now is the stream that it asked for. */
export interface Subscribed {
  readonly type: "subscribed";
  /** The request's. */
  readonly id: number | undefined;
}

/** How long the newest trade of a frame was under way, each stage in microseconds. */
export interface StageTimes {
  readonly decodeUs: number;
  readonly rulesUs: number;
  readonly enrichUs: number;
  /** From coming in to the tape. */
  readonly tapeUs: number;
  /** From coming in to this frame. */
  readonly sentUs: number;
}

/** A run of trades of the tape, covering the sequences `seq` … `toSeq`. */
export interface Trades {
  readonly type: "trades";
  readonly seq: Sequence;
  readonly toSeq: Sequence;
  /** The gateway's clock when the frame was made. */
  readonly sentMs: WallMs;
  readonly trades: TradeColumns;
  /** Of its newest trade, where they were asked for. */
  readonly stages: StageTimes | undefined;
}

/** Newest VALID trade of each instrument at or before `toSeq`; live goes on right after it. */
export interface Snapshot {
  readonly type: "snapshot";
  readonly toSeq: Sequence;
  readonly trades: TradeColumns;
}

/** Answers `tick`, to its sender alone. */
export interface Verdict {
  readonly type: "verdict";
  readonly id: number | undefined;
  readonly trade: Trade;
}

/** Sequences `from` … `to` don't come one by one. */
export interface Gap {
  readonly type: "gap";
  readonly from: Sequence;
  readonly to: Sequence;
  readonly why: string;
}

/** State of the source that feeds the processor. */
export interface SourceStatus {
  readonly type: "status";
  readonly source: string;
  /** `live`, `stale`, `reconnecting`, `ended`, or what later versions add. */
  readonly state: string;
  readonly sinceMs: WallMs | undefined;
}

/** Nothing else was sent for a while: everything up to `seq` was sent, or not subscribed to. */
export interface Heartbeat {
  readonly type: "heartbeat";
  readonly seq: Sequence | undefined;
}

/** Something that the client asked for could not be done. */
export interface ErrorMessage {
  readonly type: "error";
  readonly id: number | undefined;
  readonly code: string;
  readonly message: string;
}

/** Answers `ping`. */
export interface Pong {
  readonly type: "pong";
  /** The `t` of the ping. */
  readonly t: number;
  /** The gateway's clock when it answered. */
  readonly serverMs: WallMs;
}

/** Announces that the gateway closes the connection, and what the client is to do. */
export interface Bye {
  readonly type: "bye";
  readonly code: number;
  readonly reason: string;
  readonly retryAfterMs: number;
}

export type ServerMessage =
  | Hello
  | Subscribed
  | Trades
  | Snapshot
  | Verdict
  | Gap
  | SourceStatus
  | Heartbeat
  | ErrorMessage
  | Pong
  | Bye;

/** Asks for the stream from `fromSeq` of this epoch on; without it, for what comes from now on. */
export interface Subscribe {
  readonly type: "subscribe";
  readonly id: number;
  readonly epoch?: Epoch;
  /** First sequence wanted. */
  readonly fromSeq?: Sequence;
  readonly snapshot: boolean;
  /** Every trade (`tape`, where absent), or of each instrument the newest since the last frame. */
  readonly mode?: "tape" | "latest";
  /** Most frames a second. */
  readonly maxRateHz?: number;
  /** Whether times per stage come along. */
  readonly stages?: boolean;
  /** Only these instruments; all where absent. */
  readonly instruments?: readonly string[];
  /** Only these statuses; all where absent. */
  readonly status?: readonly Status[];
}

/** Asks for a verdict on a tick; it does not reach the tape. */
export interface Tick {
  readonly type: "tick";
  readonly id: number;
  readonly instrumentId: string;
  readonly price: number;
  readonly volume: Int64Text;
}

export interface Ping {
  readonly type: "ping";
  /** Comes back unchanged. */
  readonly t: number;
}

export type ClientMessage = Subscribe | Tick | Ping;
