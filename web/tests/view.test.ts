// @vitest-environment happy-dom
import { readFileSync } from "node:fs";
import { beforeEach, describe, expect, it, vi } from "vitest";
import type { Link } from "../src/base/link";
import type { Epoch, Sequence, WallMs } from "../src/base/nominal";
import { Ring } from "../src/base/ring";
import { Board, type NumberedTrade, Part } from "../src/model/board";
import type { Hello, Status } from "../src/protocol/messages";
import { Dashboard } from "../src/view/dashboard";
import { Painter } from "../src/view/painter";
import type { Judge } from "../src/view/tickForm";
import { TradeTable } from "../src/view/tradeTable";
import { between, seeded } from "./random";
import { sequences, trade } from "./trades";

const PAGE = readFileSync("index.html", "utf8").replace(/^[\s\S]*<body>|<script[\s\S]*$/g, "");
const numbered = (seq: number, status: Status = "VALID"): NumberedTrade => ({
  seq: seq as Sequence,
  trade: trade(seq, status),
});
const byId = (id: string) => document.querySelector<HTMLElement>(`[data-testid="${id}"]`) as HTMLElement;
const cells = (field: string) =>
  [...document.querySelectorAll(`[data-field="${field}"]`)].map((cell) => cell.textContent);

beforeEach(() => {
  document.body.innerHTML = PAGE;
});

describe("TradeTable", () => {
  const body = () => byId("trades") as HTMLTableSectionElement;
  const rows = () => [...body().children] as HTMLTableRowElement[];
  const shown = () => cells("id").map((id) => Number.parseInt(id ?? "", 16));

  it("shows the newest on top after any sequence of frames, and lets no row that stays change its trade", () => {
    for (let seed = 1; seed <= 10; seed++) {
      const random = seeded(seed);
      const table = new TradeTable(body());
      body().replaceChildren();
      const ring = new Ring<NumberedTrade>(10);
      let seq = 0;
      for (let frame = 0; frame < 30; frame++) {
        const before = new Map(rows().map((row) => [row.children[0]?.textContent, row]));
        const fresh = between(random, 0, random() < 0.2 ? 25 : 4);
        for (let i = 0; i < fresh; i++) ring.push(numbered(++seq));
        expect(table.paint(ring, 0)).toBe(Math.min(fresh, 10));
        expect(shown()).toEqual(sequences(Math.max(1, seq - 9), seq).reverse());
        for (const row of rows()) {
          const known = before.get(row.children[0]?.textContent);
          if (known !== undefined) expect(row).toBe(known);
        }
      }
    }
  });

  it("makes no more rows than the ring holds, and uses them again", () => {
    const create = vi.spyOn(document, "createElement");
    const table = new TradeTable(body());
    const ring = new Ring<NumberedTrade>(10);
    for (let seq = 1; seq <= 1000; seq++) {
      ring.push(numbered(seq));
      table.paint(ring, 0);
    }
    expect(create.mock.calls.filter(([tag]) => tag === "tr")).toHaveLength(10);
    create.mockRestore();
  });

  it("shows another ring whole, and an emptied one as empty", () => {
    const table = new TradeTable(body());
    const [many, few] = [new Ring<NumberedTrade>(10), new Ring<NumberedTrade>(10)];
    for (let seq = 1; seq <= 20; seq++) many.push(numbered(seq));
    for (let seq = 3; seq <= 5; seq++) few.push(numbered(seq, "INVALID"));
    table.paint(many, 0);
    table.paint(few, 0);
    expect(shown()).toEqual([5, 4, 3]);
    table.paint(many, 0);
    expect(shown()).toEqual(sequences(11, 20).reverse());
    many.clear();
    many.push(numbered(99));
    table.paint(many, 1);
    expect(shown()).toEqual([99]);
  });

  it("tells verdicts apart in words, and shows a reason as text whatever is in it", () => {
    const table = new TradeTable(body());
    const ring = new Ring<NumberedTrade>(10);
    const reason = "<img src=x onerror=alert(1)>";
    ring.push(numbered(1));
    ring.push(numbered(2, "UNKNOWN"));
    ring.push({ seq: 3 as Sequence, trade: trade(3, "INVALID", { reason, instrumentId: "<b>X</b>", price: null }) });
    table.paint(ring, 0);
    expect(cells("status")).toEqual(["✕ INVALID", "? UNKNOWN", "✓ VALID"]);
    expect(cells("reason")).toEqual([reason, "Too far from the 20-minute VWAP", ""]);
    expect(cells("vwap")).toEqual(["–", "–", "101.2000"]);
    expect(cells("price")[0]).toBe("–");
    expect(body().querySelector("img, b")).toBeNull();
    expect(rows().map((row) => row.dataset.status)).toEqual(["INVALID", "UNKNOWN", "VALID"]);
  });

  it("shows the last 8 characters of the id", () => {
    const table = new TradeTable(body());
    const ring = new Ring<NumberedTrade>(10);
    ring.push({ seq: 1 as Sequence, trade: trade(1, "VALID", { tradeId: "00112233445566778899aabbccddeeff" }) });
    table.paint(ring, 0);
    expect(cells("id")).toEqual(["ccddeeff"]);
  });
});

describe("Painter", () => {
  it("paints once a frame what changed meanwhile, and what painting changes in the next", () => {
    const frames: FrameRequestCallback[] = [];
    vi.stubGlobal("requestAnimationFrame", (run: FrameRequestCallback) => frames.push(run));
    const painted: number[] = [];
    const painter = new Painter((parts) => {
      painted.push(parts);
      if (painted.length === 1) painter.invalidate(Part.status);
    });
    for (let i = 0; i < 1000; i++) painter.invalidate(i % 2 === 0 ? Part.trades : Part.meters);
    expect(frames).toHaveLength(1);
    frames.shift()?.(0);
    expect(painted).toEqual([Part.trades | Part.meters]);
    expect(frames).toHaveLength(1);
    frames.shift()?.(0);
    expect(painted).toEqual([Part.trades | Part.meters, Part.status]);
    expect(frames).toHaveLength(0);
    vi.unstubAllGlobals();
  });
});

describe("Dashboard", () => {
  let board: Board;
  let dashboard: Dashboard;
  let judge: ReturnType<typeof vi.fn<Judge>>;
  let connect: ReturnType<typeof vi.fn<() => void>>;
  let seq: number;

  const hello: Hello = {
    type: "hello",
    epoch: "00ff" as Epoch,
    seq: 0 as Sequence,
    heartbeatMs: 1000,
    instruments: ["ABC", "<i>"],
    server: "s",
  };
  const link = (state: Link["state"], more: Partial<Link> = {}) =>
    board.setLink({ state, why: "", retryAt: undefined, ...more });
  const paint = () => dashboard.paint(Part.all);
  function add(...statuses: Status[]): void {
    const seqs = sequences(seq + 1, seq + statuses.length);
    seq += statuses.length;
    const trades = statuses.map((status, i) => trade(seqs[i] as number, status));
    board.add({ trades, seqs, old: 0, sentMs: 0 as WallMs, receivedMs: 5 as WallMs }, performance.now() as WallMs);
  }

  beforeEach(() => {
    vi.useFakeTimers();
    seq = 0;
    judge = vi.fn<Judge>();
    connect = vi.fn<() => void>();
    const invalidate = () => undefined;
    board = new Board(invalidate, 0 as WallMs);
    dashboard = new Dashboard({ document, board, invalidate, connect, judge, clock: () => undefined });
    board.begin(hello, true, () => ({ last: seq, received: seq, gapped: 3, missing: 2, duplicates: 1 }));
    link("live");
    return () => vi.useRealTimers();
  });

  it("says in words how the connection is, why, and when the next attempt is", () => {
    paint();
    expect(byId("link").dataset.state).toBe("live");
    expect(byId("retry").hidden).toBe(true);
    board.setSource({ type: "status", source: "sim://", state: "stale", sinceMs: undefined });
    paint();
    expect(byId("source-text").textContent).toBe("stale");
    link("reconnecting", {
      why: "Connection lost",
      retryAt: (performance.timeOrigin + performance.now() + 2000) as WallMs,
    });
    paint();
    expect(byId("link-text").textContent).toBe("reconnecting");
    expect(byId("link-detail").textContent).toBe("Connection lost · next attempt in 2.00 s");
    expect(byId("source-text").textContent).toBe("unknown");
    expect(byId("trades-panel").dataset.live).toBe("false");
    byId("retry").click();
    expect(connect).toHaveBeenCalledOnce();
    link("closed", { why: "No" });
    paint();
    expect(byId("retry").hidden).toBe(false);
    expect(document.title).toBe("closed · tickcast");
  });

  it("shows counters, with gaps and missing trades apart", () => {
    add("VALID", "VALID", "VALID", "INVALID");
    paint();
    const texts = [
      "received",
      "valid",
      "valid-share",
      "invalid",
      "unknown",
      "gapped",
      "missing",
      "duplicates",
      "epoch",
    ];
    expect(texts.map((id) => byId(id).textContent)).toEqual(["4", "3", "75.0 %", "1", "0", "3", "2", "1", "00ff"]);
    expect(byId("gaps-tile").dataset.alert).toBe("true");
  });

  it("shows one kind of trades on request", () => {
    add("VALID", "INVALID", "VALID", "INVALID");
    paint();
    expect(cells("status")).toHaveLength(4);
    const invalid = document.querySelector<HTMLInputElement>('input[value="INVALID"]') as HTMLInputElement;
    invalid.checked = true;
    invalid.dispatchEvent(new Event("change", { bubbles: true }));
    paint();
    expect(cells("status")).toEqual(["✕ INVALID", "✕ INVALID"]);
    expect(byId("trades-title").textContent).toBe("Last 100 invalid trades");
    expect(byId("empty").hidden).toBe(true);
  });

  it("stands still while paused, counts what comes, and then shows it", () => {
    add("VALID");
    paint();
    byId("pause").click();
    add("INVALID", "INVALID");
    vi.advanceTimersByTime(1000);
    paint();
    expect(cells("status")).toEqual(["✓ VALID"]);
    expect(byId("pause").textContent).toBe("Resume · 2 new");
    expect(byId("pause").getAttribute("aria-pressed")).toBe("true");
    expect(byId("invalid").textContent).toBe("2"); // the figures go on
    byId("pause").click();
    paint();
    expect(cells("status")).toEqual(["✕ INVALID", "✕ INVALID", "✓ VALID"]);
  });

  it("fills at most a thousand rows a second, and then shows the newest", () => {
    add(...new Array<Status>(100).fill("VALID"));
    paint();
    add("INVALID");
    paint();
    expect(cells("status")).not.toContain("✕ INVALID");
    vi.advanceTimersByTime(101);
    paint();
    expect(cells("status")[0]).toBe("✕ INVALID");
  });

  it("sends a tick and shows its verdict", async () => {
    paint();
    judge.mockResolvedValue(trade(1, "INVALID", { reason: "<u>no</u>" }));
    fill("ABC", "101.25", "9007199254740993");
    await vi.waitFor(() => expect(byId("verdict").dataset.status).toBe("INVALID"));
    expect(judge).toHaveBeenCalledWith({ instrumentId: "ABC", price: 101.25, volume: "9007199254740993" });
    expect(byId("verdict-reason").textContent).toBe("<u>no</u>");
    judge.mockRejectedValue(new Error("No verdict within 5 s"));
    fill("ABC", "1", "1");
    await vi.waitFor(() => expect(byId("verdict").dataset.status).toBe("ERROR"));
    expect(byId("verdict-reason").textContent).toBe("No verdict within 5 s");
  });

  it("sends nothing that is no tick, and says what is wrong with it", () => {
    fill("ABC", "much", "1");
    expect(judge).not.toHaveBeenCalled();
    expect(byId("tick-price").getAttribute("aria-invalid")).toBe("true");
    expect(byId("verdict-reason").textContent).toContain('was "much"');
  });

  it("shows the answer to the last question only", async () => {
    const answers: ((value: ReturnType<typeof trade>) => void)[] = [];
    judge.mockImplementation(() => new Promise((resolve) => answers.push(resolve)));
    fill("ABC", "1", "1");
    fill("XYZ", "1", "1");
    answers[1]?.(trade(2, "VALID", { instrumentId: "XYZ" }));
    answers[0]?.(trade(1, "INVALID"));
    await vi.waitFor(() => expect(byId("verdict-detail").textContent).toContain("XYZ"));
    expect(byId("verdict").dataset.status).toBe("VALID");
  });

  it("offers to send only while connected, and suggests known names", () => {
    paint();
    expect((byId("tick-send") as HTMLButtonElement).disabled).toBe(false);
    expect([...document.querySelectorAll("datalist option")].map((o) => o.getAttribute("value"))).toEqual([
      "ABC",
      "<i>",
    ]);
    link("reconnecting");
    paint();
    expect((byId("tick-send") as HTMLButtonElement).disabled).toBe(true);
  });

  function fill(instrument: string, price: string, volume: string): void {
    (byId("tick-instrument") as HTMLInputElement).value = instrument;
    (byId("tick-price") as HTMLInputElement).value = price;
    (byId("tick-volume") as HTMLInputElement).value = volume;
    byId("tick-form").dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));
  }
});
