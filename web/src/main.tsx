// Wires the rooms together; decides nothing.

import type { LinkState } from "@tickcast/client";
import { render } from "preact";
import { openFeed } from "./hub/feed.ts";
import { App, needOf, parseRoute } from "./view/app.ts";
import { Shell } from "./view/shell.tsx";

/** What tests and people at the console may read of the page. Numbers are of the present epoch. */
export interface TickcastHandle {
  readonly state: LinkState;
  /** `null` before the first hello. */
  readonly epoch: string | null;
  /** First sequence asked for; firstSeq … lastSeq are received, gapped or missing. */
  readonly firstSeq: number;
  readonly lastSeq: number;
  readonly received: number;
  /** Sequences that the gateway announced as not coming one by one. */
  readonly gapped: number;
  /** Sequences that never came and that nobody announced. */
  readonly missing: number;
  /** Of the gapped: those that the page did not ask for, because it shows the newest of each instrument alone. */
  readonly leftOut: number;
  /** `tape`: every trade comes; `latest`: of each instrument the newest. */
  readonly mode: "tape" | "latest";
  /** Trades that came twice, and were shown and counted once. */
  readonly duplicates: number;
  /** Rows that this page has painted, or passed over because they were too old when it woke. */
  readonly painted: number;
  /** Trades that wait while the page is paused or hidden. */
  readonly waiting: number;
  /** Pages of this browser on the same connection. */
  readonly pages: number;
}

declare global {
  interface Window {
    readonly tickcast: TickcastHandle;
  }
}

const feed = openFeed(needOf(parseRoute(location.hash).page));
const app = new App(feed);

const accounts = () => feed.state?.accounts;
const handle: TickcastHandle = {
  get state() {
    return feed.state?.link.state ?? "connecting";
  },
  get epoch() {
    return feed.state?.epoch || null;
  },
  get firstSeq() {
    return accounts()?.first ?? 0;
  },
  get lastSeq() {
    return accounts()?.last ?? 0;
  },
  get received() {
    return accounts()?.received ?? 0;
  },
  get gapped() {
    return accounts()?.gapped ?? 0;
  },
  get missing() {
    return accounts()?.missing ?? 0;
  },
  get leftOut() {
    return accounts()?.leftOut ?? 0;
  },
  get mode() {
    return feed.state?.mode ?? "tape";
  },
  get duplicates() {
    return accounts()?.duplicates ?? 0;
  },
  get painted() {
    return feed.store.end + feed.skipped;
  },
  get waiting() {
    return feed.waiting;
  },
  get pages() {
    return feed.state?.pages ?? 0;
  },
};
Object.defineProperty(window, "tickcast", { value: Object.freeze(handle) });

// The line is back, or somebody looks again: no reason to sit out the wait.
addEventListener("online", () => feed.hurry());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") feed.hurry();
});

const root = document.getElementById("app");
if (root !== null) render(<Shell app={app} />, root);
