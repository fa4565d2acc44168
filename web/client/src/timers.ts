// Timers that end together.

/** At most one pending timer per name; setting one again replaces it. */
export class Timers<Name extends string> {
  readonly #pending = new Map<Name, ReturnType<typeof setTimeout>>();

  set(name: Name, ms: number, run: () => void): void {
    this.clear(name);
    const timer = setTimeout(() => {
      this.#pending.delete(name);
      run();
    }, ms);
    this.#pending.set(name, timer);
  }

  clear(name: Name): void {
    clearTimeout(this.#pending.get(name));
    this.#pending.delete(name);
  }

  clearAll(): void {
    for (const timer of this.#pending.values()) clearTimeout(timer);
    this.#pending.clear();
  }
}
