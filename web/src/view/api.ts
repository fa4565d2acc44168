// What the gateway's `/api` answers, as far as the pages use it; python/tickcast/gateway/api.py is the other side.

/** A trade in the plain form. */
export interface ApiTrade {
  readonly tradeId: string;
  readonly instrumentId: string;
  readonly price: number | null;
  readonly volume: string;
  readonly timestampNs: string;
  readonly status: "VALID" | "INVALID" | "UNKNOWN";
  readonly reason?: string;
  readonly vwap20m?: number;
}

/** `/api/search`: newest first. */
export interface Found {
  readonly epoch: string;
  readonly head: number;
  /** Sequence down to which the tape was looked through; asking for less goes on. */
  readonly scannedTo: number;
  readonly seqs: readonly number[];
  readonly rules: readonly (string | null)[];
  readonly trades: readonly ApiTrade[];
}

export interface Why {
  readonly seq: number;
  readonly epoch: string;
  readonly trade: ApiTrade;
  /** Rule that refused it, `screen` for the built-in checks. */
  readonly rule: string | null;
  readonly ruleSet: string | null;
  readonly observed: number | null;
  readonly limit: number | null;
  readonly rulesVwap: number | null;
  readonly screened: boolean;
  readonly stamped: boolean;
  readonly late: boolean;
  readonly ingestNs: string;
  readonly stagesUs: {
    readonly decode: number;
    readonly rules: number;
    readonly enrich: number;
    readonly tape: number;
  };
  /** All rules that the tape's rule set has, in the order in which they are asked. */
  readonly rules: readonly string[];
}

/** `/api/trades/{seq}/rejudge`. */
export interface Rejudged {
  readonly status: "VALID" | "INVALID" | "UNKNOWN";
  readonly reason: string | null;
  readonly rule: string | null;
  readonly ruleSet: string;
  readonly observed: number | null;
  readonly limit: number | null;
}

export interface Counted {
  readonly name: string;
  readonly count: number;
}

/** `/api/rejects`: what the tape holds. */
export interface Rejects {
  readonly oldest: number;
  readonly head: number;
  readonly trades: number;
  readonly rejects: number;
  readonly bucketS: number;
  /** Start of each bucket, seconds since the Unix epoch. */
  readonly times: readonly number[];
  /** Of each reason, most frequent first: how many in each bucket. */
  readonly reasons: readonly (Counted & { readonly counts: readonly number[] })[];
  readonly rules: readonly Counted[];
  readonly instruments: readonly Counted[];
}

/** `/api/activity`: the last `windowS` seconds, a row for each instrument. */
export interface Activity {
  /** Whether the tape reaches back so far. */
  readonly complete: boolean;
  readonly windowS: number;
  readonly instruments: readonly string[];
  readonly trades: readonly number[];
  /** Units of VALID trades, as digits. */
  readonly volume: readonly string[];
  /** Price of the oldest VALID trade. */
  readonly first: readonly (number | null)[];
  readonly rejects: readonly number[];
  /** VALID trades, over five seconds. */
  readonly perSecond: readonly number[];
}

export interface RuleRow {
  readonly name: string;
  readonly kind?: string;
  readonly calls?: number;
  readonly rows?: number;
  readonly raised?: number;
  readonly seconds?: number;
  readonly breaker?: "closed" | "open" | "half-open";
  readonly rejects?: number;
  /** Whether what it says decides, or is only counted. */
  readonly mode?: "live" | "shadow";
}

export interface BreakerRow {
  readonly rule: string;
  readonly instrument: string | null;
  readonly state: string;
  readonly sinceNs: number;
  readonly why: string;
}

/** `/api/rules`. */
export interface RulesAnswer {
  readonly ruleSet: string;
  readonly policy: string | null;
  readonly rules: readonly RuleRow[];
  readonly breakers: readonly BreakerRow[];
}

export interface Board {
  readonly pid?: number;
  readonly heartbeatNs?: number;
  readonly startedNs?: number;
  readonly source?: {
    readonly url: string;
    readonly state: string;
    readonly since: number;
    readonly detail?: string;
  };
  /** What each partition of the source still holds; `null`: not known yet. Messages. */
  readonly partitions?: readonly { readonly name: string; readonly lag: number | null }[];
  readonly sinks?: readonly { readonly url: string; readonly state: string; readonly lag: number }[];
  readonly workers?: readonly {
    readonly pid: number;
    readonly role?: string;
    readonly state: string;
    readonly respawns: number;
  }[];
  readonly counters?: Readonly<Record<string, number>>;
  readonly ruleCounters?: Readonly<Record<string, number>>;
  readonly window?: { readonly held: number; readonly bytes: number; readonly inBuckets: number };
}

/** `/api/status`. */
export interface StatusAnswer {
  readonly readiness: {
    readonly ready: boolean;
    readonly reason: string | null;
    readonly processor: string;
    readonly seq: number;
  };
  readonly board: Board;
  readonly gateway: {
    readonly clients: number;
    readonly cycleUs: number;
    readonly counters: Readonly<Record<string, number>>;
  };
}
