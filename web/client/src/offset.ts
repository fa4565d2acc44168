// How far the server's clock is ahead of the page's, from pings.

import type { WallMs } from "./nominal.ts";

/** An estimate, and how far off it can be. */
export interface Offset {
  /** Server time − page time, milliseconds. */
  readonly ms: number;
  /** The true value lies within `ms` ± this: half the round trip, whichever way it took longer. */
  readonly uncertaintyMs: number;
}

const SAMPLES = 32;

/**
 * Keeps the last exchanges and trusts the quickest: what a ping waited somewhere can only widen it.
 *
 * Source: RFC 5905 §10, clock filter (least delay); offset and its bound as in §8.
 */
export class ClockOffset {
  readonly #samples: Offset[] = [];
  #next = 0;

  /** Adds an exchange: sent and answered by the page's clock, `serverMs` by the server's in between. */
  add(sentMs: WallMs, serverMs: WallMs, receivedMs: WallMs): void {
    const roundTrip = receivedMs - sentMs;
    if (roundTrip < 0) return;
    this.#samples[this.#next++ % SAMPLES] = { ms: serverMs - (sentMs + roundTrip / 2), uncertaintyMs: roundTrip / 2 };
  }

  /** Best of the exchanges held, `undefined` before the first. */
  get best(): Offset | undefined {
    return this.#samples.reduce<Offset | undefined>(
      (best, sample) => (best !== undefined && best.uncertaintyMs <= sample.uncertaintyMs ? best : sample),
      undefined,
    );
  }

  /** Forgets all: a new connection may lead to another machine. */
  clear(): void {
    this.#samples.length = 0;
    this.#next = 0;
  }
}
