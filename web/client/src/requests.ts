// Ticks that wait for their verdict.

import type { Verdict } from "./messages.ts";

interface Waiting {
  readonly resolve: (verdict: Verdict) => void;
  readonly reject: (error: Error) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

/** Matches answers to what was asked, by id. Each request ends exactly once: answered, refused, or given up. */
export class Requests {
  readonly #waiting = new Map<number, Waiting>();
  readonly #timeoutMs: number;

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
  }

  /** Requests without an answer yet. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Returns what the answer to `id` will be; rejects where it is refused or does not come in time. */
  wait(id: number): Promise<Verdict> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.refuse(id, `No verdict within ${this.#timeoutMs / 1000} s`), this.#timeoutMs);
      this.#waiting.set(id, { resolve, reject, timer });
    });
  }

  /** Hands a verdict to whoever waits for it; returns whether somebody did. */
  answer(verdict: Verdict): boolean {
    const waiting = this.#remove(verdict.id);
    waiting?.resolve(verdict);
    return waiting !== undefined;
  }

  /** Ends a request with an error; returns whether it was waiting. */
  refuse(id: number | undefined, why: string): boolean {
    const waiting = this.#remove(id);
    waiting?.reject(new Error(why));
    return waiting !== undefined;
  }

  /** Ends all requests: the connection that would have answered them is gone. */
  refuseAll(why: string): void {
    for (const id of [...this.#waiting.keys()]) this.refuse(id, why);
  }

  #remove(id: number | undefined): Waiting | undefined {
    if (id === undefined) return undefined;
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return undefined;
    this.#waiting.delete(id);
    clearTimeout(waiting.timer);
    return waiting;
  }
}
