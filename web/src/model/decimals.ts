// How many decimals an instrument's prices have, learnt from the prices themselves.

const MOST = 8;

/** Returns the fraction digits that a price needs, at most eight. */
export function decimalsOf(price: number): number {
  for (let digits = 0; digits < MOST; digits++) {
    const scaled = price * 10 ** digits;
    if (Math.abs(scaled - Math.round(scaled)) <= Math.abs(scaled) * 1e-12) return digits;
  }
  return MOST;
}

/** Two at least; more as soon as one price of the instrument needs them, so that points stand below one another. */
export class Decimals {
  readonly #digits = new Map<string, number>();

  note(instrument: string, price: number): void {
    const known = this.#digits.get(instrument) ?? 2;
    if (known < MOST && Number.isFinite(price)) this.#digits.set(instrument, Math.max(known, decimalsOf(price)));
  }

  of(instrument: string): number {
    return this.#digits.get(instrument) ?? 2;
  }
}
