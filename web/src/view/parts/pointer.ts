// What the reader points with.

/** Whether it is a finger: there are no keys to name then. */
export function isFinger(): boolean {
  return matchMedia("(pointer: coarse)").matches;
}

/** Height of a row, px: fingers need more room than a mouse. */
export function rowHeight(): number {
  return isFinger() ? 38 : 28;
}
