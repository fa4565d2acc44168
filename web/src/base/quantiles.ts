// Quantiles over the last seconds, without keeping the samples: thousands arrive each second.

/** Smallest duration told apart, milliseconds. */
const FLOOR_MS = 0.01;

/** Ratio of neighbouring buckets: a quantile is right to 2 %. */
const RATIO = 1.02;

/** Enough buckets to reach beyond 1000 s. */
const BUCKETS = Math.ceil(Math.log(1e8) / Math.log(RATIO));

const SLOT_MS = 1000;

/** A histogram of durations over a sliding window of whole seconds. Memory is fixed; adding allocates nothing. */
export class SlidingQuantiles {
  readonly #slots: readonly Uint32Array[];
  readonly #totals: Float64Array;
  /** Number of the second that each slot holds, counted from the clock's zero. */
  readonly #seconds: Float64Array;

  /** @param windowSeconds Seconds remembered, the current, unfinished one included. */
  constructor(windowSeconds: number) {
    this.#slots = Array.from({ length: windowSeconds }, () => new Uint32Array(BUCKETS));
    this.#totals = new Float64Array(windowSeconds);
    this.#seconds = new Float64Array(windowSeconds).fill(Number.NEGATIVE_INFINITY);
  }

  /** Adds `count` samples of `ms` at the time `nowMs`. Negative durations count as 0. */
  add(ms: number, nowMs: number, count = 1): void {
    const second = Math.floor(nowMs / SLOT_MS);
    const at = second % this.#slots.length;
    const slot = this.#slots[at];
    if (slot === undefined || Number.isNaN(ms)) return;
    if (this.#seconds[at] !== second) {
      slot.fill(0);
      this.#totals[at] = 0;
      this.#seconds[at] = second;
    }
    const bucket = ms <= FLOOR_MS ? 0 : Math.min(BUCKETS - 1, Math.ceil(Math.log(ms / FLOOR_MS) / Math.log(RATIO)));
    slot[bucket] = (slot[bucket] ?? 0) + count;
    this.#totals[at] = (this.#totals[at] ?? 0) + count;
  }

  /** Returns, for each probability (ascending), the smallest duration that so large a share does not exceed. */
  at(probabilities: readonly number[], nowMs: number): (number | undefined)[] {
    const oldest = Math.floor(nowMs / SLOT_MS) - this.#slots.length + 1;
    const live = this.#slots.filter((_slot, i) => (this.#seconds[i] ?? 0) >= oldest);
    const total = this.#totals.reduce((sum, n, i) => ((this.#seconds[i] ?? 0) >= oldest ? sum + n : sum), 0);
    const found: (number | undefined)[] = probabilities.map(() => undefined);
    if (total === 0) return found;
    let seen = 0;
    let next = 0;
    for (let bucket = 0; bucket < BUCKETS && next < probabilities.length; bucket++) {
      for (const slot of live) seen += slot[bucket] ?? 0;
      while (next < probabilities.length && seen >= Math.max(1, total * (probabilities[next] ?? 1))) {
        found[next++] = FLOOR_MS * RATIO ** bucket;
      }
    }
    return found;
  }

  /** Forgets every sample. */
  clear(): void {
    this.#seconds.fill(Number.NEGATIVE_INFINITY);
  }
}
