// At most one painting per animation frame, of what changed only.

/** Merges what is to be painted until the browser asks for the next frame; a hidden page paints nothing. */
export class Painter {
  readonly #paint: (parts: number) => void;
  #mask = 0;

  /** @param paint Paints the parts of the mask. */
  constructor(paint: (parts: number) => void) {
    this.#paint = paint;
  }

  /** Asks for parts to be painted with the next frame. Bound: it is handed on as a function. */
  readonly invalidate = (parts: number): void => {
    const idle = this.#mask === 0;
    this.#mask |= parts;
    if (!idle || parts === 0) return;
    requestAnimationFrame(() => {
      const mask = this.#mask;
      this.#mask = 0; // before painting: what it invalidates belongs to the next frame
      this.#paint(mask);
    });
  };
}
