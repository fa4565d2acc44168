// Wires the rooms together; decides nothing.

import { wallNow } from "./base/clock";
import type { LinkState } from "./base/link";
import type { WallMs } from "./base/nominal";
import { Board, Part, SHOWN_TRADES } from "./model/board";
import { Session } from "./transport/session";
import { openWebSocket, socketUrl } from "./transport/socket";
import { Dashboard, METERS_EVERY_MS } from "./view/dashboard";
import { Painter } from "./view/painter";

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
  /** Trades that came twice, and were shown and counted once. */
  readonly duplicates: number;
}

declare global {
  interface Window {
    readonly tickcast: TickcastHandle;
  }
}

const painter = new Painter((parts) => dashboard.paint(parts));
const board = new Board(painter.invalidate, wallNow());

const session: Session = new Session({
  url: socketUrl("ws/marketdata", document.baseURI),
  openSocket: openWebSocket,
  history: SHOWN_TRADES,
  listener: {
    linkChanged: (link) => board.setLink(link),
    began: (hello, fresh, ledger) => board.begin(hello, fresh, () => ledger),
    delivered: ({ receivedMs, ...delivery }) => {
      const offset = session.offset;
      const serverMs = offset === undefined ? undefined : ((receivedMs + offset.ms) as WallMs);
      board.add({ ...delivery, receivedMs: serverMs }, receivedMs);
    },
    sourceChanged: (source) => board.setSource(source),
    noticed: (what) => board.setNotice(what, wallNow()),
  },
});

const dashboard = new Dashboard({
  document,
  board,
  invalidate: painter.invalidate,
  connect: () => session.start(),
  judge: async ({ instrumentId, price, volume }) => (await session.judge(instrumentId, price, volume)).trade,
  clock: () => session.offset,
});

const handle: TickcastHandle = {
  get state() {
    return session.link.state;
  },
  get epoch() {
    return session.epoch ?? null;
  },
  get firstSeq() {
    return session.ledger?.first ?? 0;
  },
  get lastSeq() {
    return session.ledger?.last ?? 0;
  },
  get received() {
    return session.ledger?.received ?? 0;
  },
  get gapped() {
    return session.ledger?.gapped ?? 0;
  },
  get missing() {
    return session.ledger?.missing ?? 0;
  },
  get duplicates() {
    return session.ledger?.duplicates ?? 0;
  },
};
Object.defineProperty(window, "tickcast", { value: Object.freeze(handle) });

setInterval(() => painter.invalidate(Part.meters), METERS_EVERY_MS);
painter.invalidate(Part.all);
// The line is back, or somebody looks again: no reason to sit out the wait.
window.addEventListener("online", () => session.hurry());
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") session.hurry();
});
session.start();
