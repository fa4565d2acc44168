// State of the connection, in the words that transport, page and tests share.

import type { WallMs } from "./nominal.ts";

export type LinkState = "connecting" | "live" | "stale" | "reconnecting" | "closed";

/** The connection, and what there is to say about it. */
export interface Link {
  readonly state: LinkState;
  /** Why it is not live, or why it last ended; empty while there is nothing to say. */
  readonly why: string;
  /** When the next attempt is made, where one is planned. */
  readonly retryAt: WallMs | undefined;
}
