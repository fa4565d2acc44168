// Every wait of the connection, in one place.

import type { BackoffLimits } from "./backoff.ts";

export interface Timing {
  readonly backoff: BackoffLimits;
  /** From opening to `subscribed`; a gateway that accepts and says nothing is left after it. */
  readonly handshakeMs: number;
  /** A connection has to hold so long before the next failure counts as the first one again. */
  readonly steadyMs: number;
  /** Where `hello` states none. */
  readonly heartbeatMs: number;
  /** Between two pings. */
  readonly pingMs: number;
  /** After which a tick without a verdict is given up. */
  readonly verdictMs: number;
}

export const TIMING: Timing = {
  backoff: { firstMs: 250, mostMs: 8000 },
  handshakeMs: 10_000,
  steadyMs: 5000,
  heartbeatMs: 5000,
  pingMs: 1000,
  verdictMs: 5000,
};

/** Silence is counted in halves of the heartbeat's interval: so many mean at least one and a half intervals. */
export const STALE_HALF_BEATS = 4;

/** So many mean at least three intervals: the connection is given up. */
export const LOST_HALF_BEATS = 7;
