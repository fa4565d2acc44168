// How long to wait before connecting again: full jitter, so that a thousand pages don't come back in step.

export interface BackoffLimits {
  /** Upper end of the first wait, milliseconds. */
  readonly firstMs: number;
  /** Upper end of every wait, milliseconds. */
  readonly mostMs: number;
}

/**
 * Returns a wait in milliseconds, even over 0 … min(mostMs, firstMs · 2^attempt), `attempt` counting from 0.
 *
 * Source: "Exponential Backoff And Jitter", the variant called full jitter.
 */
export function fullJitterMs(attempt: number, limits: BackoffLimits, random: () => number): number {
  return random() * Math.min(limits.mostMs, limits.firstMs * 2 ** Math.min(attempt, 30));
}
