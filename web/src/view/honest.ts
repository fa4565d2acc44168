// What can honestly be said of the connection: one word, why, and how old what is shown is.

import { type LinkState, wallNow } from "@tickcast/client";
import { formatCount, formatMs } from "../base/format.ts";
import type { HubState } from "../hub/messages.ts";

export type Word = LinkState | "lagging";

export interface Honest {
  readonly word: Word;
  readonly why: string;
  /** Since the gateway was last heard. */
  readonly ageMs: number | undefined;
}

/** A frame that was under way for longer says that this page is behind. */
const LAG_MS = 1000;

/** More trades on the tape than have come, at this moment: as well. */
const LAG_SECONDS = 2;

export function honest(state: HubState | undefined, _now: number): Honest {
  if (state === undefined) return { word: "connecting", why: "", ageMs: undefined };
  const { link } = state;
  const now = wallNow();
  const ageMs = state.heardMs === undefined ? undefined : Math.max(0, now - state.heardMs);
  if (link.state === "live") {
    const behind = state.head - state.accounts.last;
    if ((state.lagMs ?? 0) > LAG_MS) return { word: "lagging", why: `${formatMs(state.lagMs)} behind`, ageMs };
    if (behind > Math.max(1000, state.perSecond * LAG_SECONDS)) {
      return { word: "lagging", why: `${formatCount(behind)} trades behind`, ageMs };
    }
    return { word: "live", why: missedText(state), ageMs };
  }
  if (link.retryAt !== undefined && link.retryAt - now > 100) {
    return {
      word: link.state,
      why: `${link.why} · next attempt in ${Math.ceil((link.retryAt - now) / 1000)}\u00a0s`,
      ageMs,
    };
  }
  return { word: link.state, why: link.why, ageMs };
}

/** What was missed lately, for a while after it happened. */
function missedText(state: HubState): string {
  const [last] = state.missed;
  if (last === undefined || wallNow() - last.atMs > 30_000) return "";
  return `missed ${formatCount(last.to - last.from + 1)} trades: ${last.why}`;
}
