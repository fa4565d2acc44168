// The one clock of the page: wall time that never steps back.

import type { WallMs } from "./nominal.ts";

/**
 * Returns the page's wall clock.
 *
 * Monotonic, unlike `Date.now()`: the time at which the page was opened plus a steady count. It may be off from the
 * server's clock; `ClockOffset` estimates by how much.
 */
export function wallNow(): WallMs {
  return (performance.timeOrigin + performance.now()) as WallMs;
}
