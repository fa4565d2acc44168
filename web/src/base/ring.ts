// The last items of a stream.

/** Holds the newest `capacity` items and numbers all that ever came, so that a reader knows what is new to it. */
export class Ring<T> {
  readonly #items: T[] = [];
  readonly capacity: number;
  #pushed = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  /** Items pushed since the beginning or the last `clear`. */
  get pushed(): number {
    return this.#pushed;
  }

  /** Items held. */
  get size(): number {
    return this.#items.length;
  }

  /** Adds an item, in place of the oldest where the ring is full. */
  push(item: T): void {
    this.#items[this.#pushed++ % this.capacity] = item;
  }

  /** Returns the item of that number (from 0, as `pushed` counted), or `undefined` where it is gone or yet to come. */
  at(number: number): T | undefined {
    if (number < this.#pushed - this.#items.length || number >= this.#pushed) return undefined;
    return this.#items[number % this.capacity];
  }

  /** Empties the ring; numbering starts again at 0. */
  clear(): void {
    this.#items.length = 0;
    this.#pushed = 0;
  }
}
