// Counters, rate and latencies.

import { formatCount, formatMs, formatRate, NONE } from "../base/format";
import type { WallMs } from "../base/nominal";
import { type Board, LATENCY_SECONDS, RATE_HISTORY_SECONDS } from "../model/board";
import { STATUSES } from "../protocol/messages";
import { part, setAttribute, setText } from "./dom";

/** Median tick ages beyond this are no latency: the ticks were recorded earlier, or carry somebody else's clock. */
const RECORDED_MS = 60_000;

/** How far the server's clock is ahead, and how far off that can be; milliseconds. */
export interface ClockEstimate {
  readonly ms: number;
  readonly uncertaintyMs: number;
}

export class Meters {
  readonly #root: ParentNode;
  readonly #texts = new Map<string, HTMLElement>();
  readonly #history = new Float64Array(RATE_HISTORY_SECONDS);
  readonly #line: SVGPathElement;
  readonly #area: SVGPathElement;
  #curveSecond = -1;

  constructor(root: ParentNode) {
    this.#root = root;
    const curve = part(root, "rate-curve", SVGSVGElement);
    this.#area = curve.querySelector(".curve-area") as SVGPathElement;
    this.#line = curve.querySelector(".curve-line") as SVGPathElement;
  }

  paint(board: Board, clock: ClockEstimate | undefined, now: WallMs): void {
    this.#paintCounts(board);
    this.#set("rate", formatRate(board.rate.perSecond(now)));
    this.#paintLatencies(board, clock, now);
    this.#paintFacts(board, clock);
    const second = Math.floor(now / 1000);
    if (second !== this.#curveSecond) {
      this.#curveSecond = second;
      this.#paintCurve(board, now);
    }
  }

  #paintCounts(board: Board): void {
    const { received, gapped, missing, last } = board.accounts;
    this.#set("received", formatCount(received));
    this.#set("last-seq", last > 0 ? formatCount(last) : NONE);
    for (const status of STATUSES) {
      const count = board.count(status);
      this.#set(status.toLowerCase(), formatCount(count));
      this.#set(`${status.toLowerCase()}-share`, received > 0 ? share(count, received) : NONE);
    }
    this.#set("gapped", formatCount(gapped));
    this.#set("missing", formatCount(missing));
    setAttribute(this.#text("gaps-tile"), "data-alert", String(gapped + missing > 0));
  }

  #paintLatencies(board: Board, clock: ClockEstimate | undefined, now: WallMs): void {
    const [wire50, wire99] = board.wire.at([0.5, 0.99], now);
    this.#set("wire-p50", formatMs(wire50));
    this.#set("wire-p99", formatMs(wire99));
    const [age50, age99] = board.age.at([0.5, 0.99], now);
    const recorded = age50 !== undefined && age50 > RECORDED_MS;
    this.#set("age-p50", recorded ? NONE : formatMs(age50));
    this.#set("age-sub", recorded ? "recorded ticks" : `p99 ${formatMs(age99)}`);

    const over = `Median and 99th percentile of the last ${LATENCY_SECONDS} s, over trades.`;
    const offset =
      clock === undefined
        ? "The clocks have not been compared yet."
        : `The server's clock is taken to be ${clock.ms.toFixed(2)} ms ahead of this page's, estimated from pings, ` +
          `which can be off by ${clock.uncertaintyMs.toFixed(2)} ms either way.`;
    const end = "It ends when the page's script has the message, before it is painted (at most one frame later).";
    setAttribute(
      this.#text("wire-tile"),
      "title",
      `From the gateway making a frame to this page. ${over} ${end} ${offset} Shorter than that error is shown as measured, negative as < 0.1 ms.`,
    );
    setAttribute(
      this.#text("age-tile"),
      "title",
      `From the tick's own time, as its source stamped it, to this page: everything in between, the source's clock error included. ${over} ${end} ${offset} Not shown for recorded ticks.`,
    );
  }

  #paintFacts(board: Board, clock: ClockEstimate | undefined): void {
    this.#set("epoch", board.hello?.epoch ?? NONE);
    this.#set("server", board.hello?.server || NONE);
    this.#set("offset", clock === undefined ? NONE : `${clock.ms.toFixed(2)} ± ${clock.uncertaintyMs.toFixed(2)} ms`);
    this.#set("connections", formatCount(board.connections));
    this.#set("duplicates", formatCount(board.accounts.duplicates));
    this.#text("notice").hidden = board.notice === undefined;
    this.#set("notice", board.notice?.text ?? "");
  }

  #paintCurve(board: Board, now: WallMs): void {
    board.rate.history(this.#history, now);
    const most = Math.max(1, ...this.#history);
    const height = 23;
    let line = "";
    this.#history.forEach((count, i) => {
      const y = (0.5 + height * (1 - count / most)).toFixed(1);
      line += `${i === 0 ? "M" : "L"}${((i * 60) / (this.#history.length - 1)).toFixed(1)} ${y}`;
    });
    this.#line.setAttribute("d", line);
    this.#area.setAttribute("d", `${line}L60 24L0 24Z`);
  }

  #set(testId: string, text: string): void {
    setText(this.#text(testId), text);
  }

  #text(testId: string): HTMLElement {
    let node = this.#texts.get(testId);
    if (node === undefined) {
      node = part(this.#root, testId, HTMLElement);
      this.#texts.set(testId, node);
    }
    return node;
  }
}

function share(count: number, of: number): string {
  const percent = (100 * count) / of;
  if (count > 0 && percent < 0.1) return "< 0.1 %";
  // 100.0 % is said only where it is all of them.
  return count < of && percent > 99.9 ? "> 99.9 %" : `${percent.toFixed(1)} %`;
}
