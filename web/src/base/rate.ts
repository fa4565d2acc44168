// Events per second, over the last two seconds and, for the small curve, second by second over a minute.

const SLOT_MS = 250;
const SLOTS_PER_SECOND = 1000 / SLOT_MS;

/** Whole slots that the rate averages over. */
const RATE_SLOTS = 2 * SLOTS_PER_SECOND;

/** Counts events in quarters of a second, as many as `historySeconds` need; memory is fixed. */
export class RateMeter {
  readonly #counts: Float64Array;
  /** Number of the newest slot, counted from the clock's zero. */
  #newest: number;
  readonly #started: number;

  constructor(historySeconds: number, nowMs: number) {
    this.#counts = new Float64Array((historySeconds + 1) * SLOTS_PER_SECOND);
    this.#newest = Math.floor(nowMs / SLOT_MS);
    this.#started = this.#newest;
  }

  /** Counts `count` events at `nowMs`, which must not run backwards. */
  add(count: number, nowMs: number): void {
    this.#advance(nowMs);
    const at = this.#newest % this.#counts.length;
    this.#counts[at] = (this.#counts[at] ?? 0) + count;
  }

  /** Returns events per second over the last two seconds (less, where the meter is younger); the slot that is still filling is left out. */
  perSecond(nowMs: number): number {
    this.#advance(nowMs);
    const slots = Math.min(RATE_SLOTS, this.#newest - this.#started);
    if (slots <= 0) return 0;
    return (this.#sum(this.#newest - slots, this.#newest) * SLOTS_PER_SECOND) / slots;
  }

  /** Writes events of each of the last whole seconds, oldest first, into `out`; its length says how many seconds. */
  history(out: Float64Array, nowMs: number): void {
    this.#advance(nowMs);
    const end = Math.floor(this.#newest / SLOTS_PER_SECOND) * SLOTS_PER_SECOND;
    for (let i = 0; i < out.length; i++) {
      const from = end - (out.length - i) * SLOTS_PER_SECOND;
      out[i] = this.#sum(from, from + SLOTS_PER_SECOND);
    }
  }

  #sum(from: number, to: number): number {
    let sum = 0;
    for (let slot = Math.max(from, this.#started, this.#newest - this.#counts.length + 1); slot < to; slot++) {
      sum += this.#counts[slot % this.#counts.length] ?? 0;
    }
    return sum;
  }

  #advance(nowMs: number): void {
    const slot = Math.floor(nowMs / SLOT_MS);
    if (slot <= this.#newest) return;
    const first = Math.max(this.#newest + 1, slot - this.#counts.length + 1);
    for (let s = first; s <= slot; s++) this.#counts[s % this.#counts.length] = 0;
    this.#newest = slot;
  }
}
