import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Link } from "../src/link.ts";
import type { Int64Text } from "../src/nominal.ts";
import { type Delivery, Session } from "../src/session.ts";
import { TIMING } from "../src/timing.ts";
import { FakeGateway } from "./fakeGateway.ts";
import { between, seeded } from "./random.ts";
import { wireTrade, wireTrades } from "./wire.ts";

let gateway: FakeGateway;
let session: Session;
let links: Link[];
let begun: boolean[];
let delivered: Delivery[];
let noticed: string[];
let snapshots: number[];

const HISTORY = 100;

beforeEach(() => {
  vi.useFakeTimers();
  gateway = new FakeGateway();
  links = [];
  begun = [];
  delivered = [];
  noticed = [];
  snapshots = [];
  session = new Session({
    url: "ws://gateway/ws/marketdata",
    openSocket: gateway.open,
    history: HISTORY,
    random: () => 0.5,
    listener: {
      linkChanged: (link) => links.push(link),
      began: (_hello, fresh) => begun.push(fresh),
      delivered: (delivery) => delivered.push(delivery),
      snapshot: (_trades, toSeq) => snapshots.push(toSeq),
      sourceChanged: () => undefined,
      noticed: (what) => noticed.push(what),
    },
  });
  session.start();
});

afterEach(() => {
  session.stop();
  expect(vi.getTimerCount(), "timers left behind").toBe(0);
  vi.useRealTimers();
});

const seqs = () => delivered.flatMap((delivery) => [...delivery.trades.seq]);

describe("subscribing", () => {
  it("says nothing before hello, then asks for the last trades of that epoch", () => {
    expect(gateway.now.subprotocols).toEqual(["tickcast.v1.bin", "tickcast.v1.json"]);
    expect(gateway.now.sent).toEqual([]);
    gateway.now.say({ type: "hello", epoch: "e1", seq: 5000, heartbeatMs: 1000 });
    expect(gateway.now.sent).toEqual([{ type: "subscribe", id: 1, epoch: "e1", fromSeq: 4901, snapshot: false }]);
    expect(session.link.state).toBe("connecting");
    gateway.now.say({ type: "subscribed", id: 1 });
    expect(session.link.state).toBe("live");
    expect(begun).toEqual([true]);
  });

  it.each([
    [0, 1],
    [40, 1],
    [100, 1],
    [101, 2],
  ])("on a tape of %i trades asks from %i on", (head, fromSeq) => {
    gateway.welcome("e1", head);
    expect(gateway.now.asked("subscribe")[0]?.fromSeq).toBe(fromSeq);
  });

  it("tells history from news", () => {
    gateway.welcome("e1", 3).say(wireTrades(1, 5));
    expect(seqs()).toEqual([1, 2, 3, 4, 5]);
    expect(delivered).toMatchObject([{ old: 3 }]);
  });

  it("gives up a gateway that takes the connection and says nothing", () => {
    vi.advanceTimersByTime(TIMING.handshakeMs);
    expect(gateway.now.closedWith).toBe(4002);
    expect(session.link).toMatchObject({ state: "reconnecting", why: "The gateway did not answer" });
  });

  it("gives up a gateway that greets and never grants the stream", () => {
    gateway.now.say({ type: "hello", epoch: "e1", seq: 0, heartbeatMs: 1000 });
    for (let ms = 0; ms < TIMING.handshakeMs; ms += 500) {
      vi.advanceTimersByTime(500);
      if (gateway.connections.length === 1) gateway.now.say({ type: "heartbeat", seq: 0 });
    }
    expect(gateway.connections[0]?.closedWith).toBe(4002);
  });
});

describe("before a tape is there", () => {
  it("waits for the hello that names its epoch, and asks for nothing till then", () => {
    gateway.now.say({ type: "hello", epoch: "", seq: 0, heartbeatMs: 60_000 });
    vi.advanceTimersByTime(TIMING.handshakeMs * 2);
    expect(gateway.now.sent).toEqual([]);
    expect(session.link).toMatchObject({ state: "connecting", why: "Waiting for the processor" });
    gateway.welcome("e1", 0);
    expect(session.link).toMatchObject({ state: "live", why: "" });
  });

  it("keeps its place: a gateway that starts may not have opened the same tape yet", () => {
    gateway.welcome("e1", 0).say(wireTrades(1, 7));
    gateway.now.drop(1006);
    vi.advanceTimersByTime(125);
    gateway.now.say({ type: "hello", epoch: "", seq: 0, heartbeatMs: 1000 });
    expect(session.link).toMatchObject({ state: "reconnecting", why: "Waiting for the processor" });
    gateway.welcome("e1", 9).say(wireTrades(8, 9));
    expect(gateway.now.asked("subscribe")).toMatchObject([{ epoch: "e1", fromSeq: 8 }]);
    expect(begun).toEqual([true, false]);
    expect(session.ledger).toMatchObject({ received: 9, missing: 0, gapped: 0 });
  });
});

describe("accounting", () => {
  it("hands on each trade once, and says which are missing", () => {
    const connection = gateway.welcome("e1", 0);
    connection.say(wireTrades(1, 4));
    connection.say(wireTrades(3, 6));
    connection.say(wireTrades(9, 9));
    expect(seqs()).toEqual([1, 2, 3, 4, 5, 6, 9]);
    expect(session.ledger).toMatchObject({ last: 9, received: 7, missing: 2, gapped: 0, duplicates: 2 });
  });

  it("takes a gap as announced, and shows why", () => {
    const connection = gateway.welcome("e1", 0);
    connection.say({ type: "gap", from: 1, to: 7, why: "overrun" });
    connection.say(wireTrades(8, 8));
    expect(session.ledger).toMatchObject({ last: 8, received: 1, missing: 0, gapped: 7 });
    expect(noticed).toEqual(["Gap: 7 trades, overrun"]);
  });

  it("takes what `seqs` leaves out as announced, at either end and in between", () => {
    const trades = [3, 4, 7].map((seq) => wireTrade(seq));
    gateway.welcome("e1", 0).say({ type: "trades", seq: 1, toSeq: 9, sentNs: "1", trades, seqs: [3, 4, 7] });
    expect(seqs()).toEqual([3, 4, 7]);
    expect(session.ledger).toMatchObject({ last: 9, received: 3, missing: 0, gapped: 6 });
  });

  it("goes on behind a snapshot", () => {
    const connection = gateway.welcome("e1", 0);
    connection.say({ type: "snapshot", seq: 1, toSeq: 20, trades: [wireTrade(12)] });
    connection.say(wireTrades(21, 21));
    expect(session.ledger).toMatchObject({ last: 21, received: 1, missing: 0, gapped: 20 });
  });

  it("survives what it cannot read, and does not hide that trades were in it", () => {
    const connection = gateway.welcome("e1", 0);
    connection.say("{");
    connection.say({ ...wireTrades(1, 1), trades: [wireTrade(1, { price: "x" })] });
    connection.say(wireTrades(2, 2));
    expect(noticed).toHaveLength(2);
    expect(session.ledger).toMatchObject({ received: 1, missing: 1 });
    expect(session.link.state).toBe("live");
  });
});

describe("reconnecting", () => {
  it("resumes in the same epoch right after the last trade accounted for", () => {
    gateway.welcome("e1", 0).say(wireTrades(1, 7));
    gateway.now.drop(1006);
    expect(session.link).toMatchObject({ state: "reconnecting", why: "Connection lost" });
    vi.advanceTimersByTime(125);
    gateway.welcome("e1", 12).say(wireTrades(8, 12));
    expect(gateway.connections).toHaveLength(2);
    expect(gateway.now.asked("subscribe")).toMatchObject([{ epoch: "e1", fromSeq: 8 }]);
    expect(begun).toEqual([true, false]);
    expect(seqs()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    expect(session.ledger).toMatchObject({ received: 12, missing: 0, duplicates: 0 });
    expect(delivered.at(-1)?.old).toBe(5);
  });

  it("resumes behind a gateway that is ahead, too: two workers don't see the tape at the same instant", () => {
    gateway.welcome("e1", 0).say(wireTrades(1, 7));
    gateway.now.drop(4000);
    vi.advanceTimersByTime(125);
    gateway.welcome("e1", 5);
    expect(gateway.now.asked("subscribe")).toMatchObject([{ fromSeq: 8 }]);
    expect(session.ledger?.received).toBe(7);
  });

  it("starts afresh in another epoch", () => {
    gateway.welcome("e1", 0).say(wireTrades(1, 7));
    gateway.now.drop(1006);
    vi.advanceTimersByTime(125);
    gateway.welcome("e2", 2);
    expect(gateway.now.asked("subscribe")).toMatchObject([{ epoch: "e2", fromSeq: 1 }]);
    expect(begun).toEqual([true, true]);
    expect(session.epoch).toBe("e2");
    expect(session.ledger).toMatchObject({ last: 0, received: 0 });
  });

  it("subscribes anew where the epoch changes under a living connection", () => {
    const connection = gateway.welcome("e1", 50);
    gateway.welcome("e2", 0).say(wireTrades(1, 1));
    expect(connection.asked("subscribe")).toMatchObject([{ epoch: "e1" }, { epoch: "e2", fromSeq: 1 }]);
    expect(session.ledger).toMatchObject({ received: 1, missing: 0 });
  });

  it("takes nothing of a new epoch before it is granted: the gateway may have moved the old subscription over", () => {
    const connection = gateway.welcome("e1", 50);
    connection.say({ type: "hello", epoch: "e2", seq: 500, heartbeatMs: 1000 });
    connection.say({ type: "gap", from: 1, to: 500, why: "epoch" });
    connection.say({ type: "snapshot", seq: 1, toSeq: 500, trades: [wireTrade(500)] });
    connection.say(wireTrades(501, 502));
    connection.say({ type: "subscribed", id: 1 }); // not ours: an answer to what was asked before
    connection.say(wireTrades(503, 503));
    expect(session.ledger).toMatchObject({ received: 0, gapped: 0, duplicates: 0 });
    connection.say({ type: "subscribed", id: connection.asked("subscribe").at(-1)?.id });
    connection.say(wireTrades(401, 503));
    expect(session.ledger).toMatchObject({ last: 503, received: 103, missing: 0, gapped: 0, duplicates: 0 });
    expect(seqs()).toEqual(Array.from({ length: 103 }, (_, i) => 401 + i));
  });

  it("starts afresh where the tape lost its end: the numbers mean other trades", () => {
    gateway.welcome("e1", 0).say(wireTrades(1, 20));
    gateway.now.drop(1006);
    vi.advanceTimersByTime(125);
    const connection = gateway.welcome("e1", 15);
    connection.say({ type: "gap", from: 1, to: 15, why: "epoch" });
    connection.say(wireTrades(16, 22));
    expect(begun).toEqual([true, false, true]);
    expect(session.ledger).toMatchObject({ first: 16, last: 22, received: 7, missing: 0, duplicates: 0 });
  });

  it("waits longer with each failure, and short again once a connection held", () => {
    const waits: number[] = [];
    const fail = () => {
      gateway.now.drop(1006);
      const count = gateway.connections.length;
      const from = Date.now();
      while (gateway.connections.length === count) vi.advanceTimersByTime(1);
      waits.push(Date.now() - from);
    };
    for (let i = 0; i < 7; i++) fail();
    gateway.welcome("e1", 0);
    fail(); // granted and dropped at once: no reason to hurry
    gateway.welcome("e1", 0);
    for (let ms = 0; ms < TIMING.steadyMs; ms += 1000) {
      vi.advanceTimersByTime(1000);
      gateway.now.say({ type: "heartbeat", seq: 0 });
    }
    fail();
    expect(waits).toEqual([125, 250, 500, 1000, 2000, 4000, 4000, 4000, 125]);
  });

  it("waits as long as the gateway asks, and says its reason", () => {
    const connection = gateway.welcome("e1", 0);
    connection.say({ type: "bye", code: 4000, reason: "Draining", retryAfterMs: 3000 });
    connection.drop(4000);
    expect(session.link).toMatchObject({ state: "reconnecting", why: "Draining" });
    vi.advanceTimersByTime(3124);
    expect(gateway.connections).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(gateway.connections).toHaveLength(2);
  });

  it.each([
    ["the close code", 4501, undefined],
    ["the bye before a lost connection", 1006, 4501],
  ])("stays away where %s says so, until it is asked to come", (_what, code, bye) => {
    const connection = gateway.welcome("e1", 0);
    if (bye !== undefined) connection.say({ type: "bye", code: bye, reason: "No", retryAfterMs: 0 });
    connection.drop(code, "No");
    expect(session.link).toMatchObject({ state: "closed", why: "No", retryAt: undefined });
    session.hurry();
    vi.advanceTimersByTime(600_000);
    expect(gateway.connections).toHaveLength(1);
    session.start();
    expect(gateway.connections).toHaveLength(2);
  });

  it("makes a planned attempt at once, and only one", () => {
    gateway.welcome("e1", 0).drop(1006);
    session.hurry();
    session.hurry();
    session.start();
    vi.advanceTimersByTime(1000);
    expect(gateway.connections).toHaveLength(2);
  });

  it("hears nothing of a connection that it gave up", () => {
    const dead = gateway.welcome("e1", 0);
    session.stop();
    expect(dead.closedWith).toBe(1000);
    expect(session.link.state).toBe("closed");
  });
});

describe("heartbeat", () => {
  it("is stale after one and a half intervals of silence at the earliest, lost after three", () => {
    gateway.welcome("e1", 0, 1000);
    vi.advanceTimersByTime(1499);
    expect(session.link.state).toBe("live");
    vi.advanceTimersByTime(501);
    expect(session.link.state).toBe("stale");
    vi.advanceTimersByTime(999);
    expect(session.link.state).toBe("stale");
    vi.advanceTimersByTime(501);
    expect(session.link).toMatchObject({ state: "reconnecting", why: "The gateway fell silent" });
    expect(gateway.connections[0]?.closedWith).toBe(4002);
  });

  it.each([{ type: "heartbeat", seq: 0 }, wireTrades(1, 1), { type: "weather" }])("is kept by %j", (message) => {
    gateway.welcome("e1", 0, 1000);
    vi.advanceTimersByTime(2900);
    expect(session.link.state).toBe("stale");
    gateway.now.say(message);
    expect(session.link.state).toBe("live");
    vi.advanceTimersByTime(1400);
    expect(session.link.state).toBe("live");
    expect(gateway.connections).toHaveLength(1);
  });
});

describe("pings", () => {
  it("estimate the server's clock, and start again with each connection", () => {
    const connection = gateway.welcome("e1", 0);
    const [ping] = connection.asked("ping");
    expect(ping).toBeDefined();
    vi.advanceTimersByTime(10);
    connection.say({
      type: "pong",
      t: ping?.t,
      serverNs: String(BigInt(Math.round(((ping?.t ?? 0) + 505) * 1e3)) * 1000n),
    });
    expect(session.offset?.ms).toBeCloseTo(500, 1);
    expect(session.offset?.uncertaintyMs).toBeCloseTo(5, 1);
    connection.drop(1006);
    vi.advanceTimersByTime(125);
    gateway.welcome("e1", 0);
    expect(session.offset).toBeUndefined();
  });

  it("come once a second", () => {
    gateway.welcome("e1", 0, 60_000);
    vi.advanceTimersByTime(5000);
    expect(gateway.now.asked("ping")).toHaveLength(6);
  });
});

describe("judging", () => {
  const volume = "9007199254740993" as Int64Text;

  it("sends the volume digit by digit and takes the verdict with its id, in whatever order they come", async () => {
    const connection = gateway.welcome("e1", 0);
    const first = session.judge("ABC", 1.5, volume);
    const second = session.judge("XYZ", 2, volume);
    const [a, b] = connection.asked("tick");
    expect(a).toMatchObject({ instrumentId: "ABC", price: 1.5, volume: "9007199254740993" });
    connection.say({ type: "verdict", id: b?.id, trade: wireTrade(0, { instrumentId: "XYZ" }) });
    connection.say({ type: "verdict", id: a?.id, trade: wireTrade(0, { instrumentId: "ABC", status: "INVALID" }) });
    expect((await first).trade).toMatchObject({ instrumentId: "ABC", status: "INVALID" });
    expect((await second).trade.instrumentId).toBe("XYZ");
    expect(session.ledger?.received).toBe(0); // a verdict is no trade of the tape
  });

  it("fails with the gateway's words, after a while, or with the connection", async () => {
    await expect(session.judge("ABC", 1, volume)).rejects.toThrow("Not connected");
    const connection = gateway.welcome("e1", 0, 60_000);
    const refused = session.judge("ABC", 1, volume);
    connection.say({ type: "error", id: connection.asked("tick")[0]?.id, code: "rate", message: "Too many" });
    await expect(refused).rejects.toThrow("Too many");
    const late = session.judge("ABC", 1, volume);
    vi.advanceTimersByTime(TIMING.verdictMs);
    await expect(late).rejects.toThrow("No verdict within 5 s");
    const lost = session.judge("ABC", 1, volume);
    connection.drop(1006);
    await expect(lost).rejects.toThrow("Connection lost");
  });
});

it("delivers every trade exactly once through any number of lost connections", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const random = seeded(seed);
    delivered.length = 0;
    let head = 0;
    gateway.welcome(`epoch ${seed}`, 0);
    for (let connection = 0; connection < 12; connection++) {
      let cursor = gateway.now.asked("subscribe").at(-1)?.fromSeq ?? 0;
      for (let frames = between(random, 0, 5); frames > 0; frames--) {
        head += between(random, 0, 9);
        if (cursor <= head) gateway.now.say(wireTrades(cursor, head));
        cursor = Math.max(cursor, head + 1) as typeof cursor;
      }
      head += between(random, 0, 9); // written while nobody listens
      gateway.now.drop(between(random, 1005, 1006));
      vi.advanceTimersByTime(10_000);
      if (gateway.now.sent.length > 0) throw new Error("did not reconnect");
      gateway.welcome(`epoch ${seed}`, head);
    }
    const cursor = gateway.now.asked("subscribe").at(-1)?.fromSeq ?? 0;
    if (cursor <= head) gateway.now.say(wireTrades(cursor, head));
    expect(seqs(), `seed ${seed}`).toEqual(Array.from({ length: head }, (_, i) => i + 1));
    expect(session.ledger).toMatchObject({ received: head, missing: 0, gapped: 0, duplicates: 0 });
  }
});

it("reads binary frames with the dictionaries of hello and of the frames before", () => {
  const golden = (kind: string) => readFileSync(new URL(`../../../tests/golden/frames/live.${kind}`, import.meta.url));
  const { hello, message } = JSON.parse(golden("json").toString());
  const connection = gateway.now;
  connection.say({ ...hello, seq: message.seq - 1 });
  connection.say({ type: "subscribed", id: connection.asked("subscribe").at(-1)?.id });
  const frame = golden("bin");
  connection.say(frame.buffer.slice(frame.byteOffset, frame.byteOffset + frame.byteLength));
  expect(noticed).toEqual([]);
  const ids = delivered.flatMap(({ trades }) => [...trades].map((trade) => trade.tradeId));
  expect(ids).toEqual(message.trades.map((trade: { tradeId: string }) => trade.tradeId));
  expect(session.ledger?.last).toBe(message.toSeq);
});

describe("wanting something else", () => {
  const latest = { mode: "latest", status: ["VALID"], maxRateHz: 10 } as const;
  const grant = () =>
    gateway.now.say({ type: "subscribed", id: gateway.now.asked("subscribe").at(-1)?.id, granted: {} });
  const frame = (seq: number, toSeq: number, seqs: number[]) =>
    gateway.now.say({
      type: "trades",
      seq,
      toSeq,
      seqs,
      sentNs: "0",
      trades: seqs.map((n) => wireTrade(n)),
    });

  it("goes on in mode latest from the newest of each instrument, on the same connection", () => {
    gateway.welcome("e1", 0).say(wireTrades(1, 10));
    session.want(latest);
    expect(gateway.now.asked("subscribe").at(-1)).toEqual({ type: "subscribe", id: 2, snapshot: true, ...latest });
    gateway.now.say(wireTrades(11, 12)); // of the subscription before: the snapshot covers it
    grant();
    gateway.now.say({ type: "snapshot", seq: 1, toSeq: 15, trades: [wireTrade(15)], seqs: [15] });
    frame(16, 40, [20, 33]);
    expect(snapshots).toEqual([15]);
    expect(begun).toEqual([true]);
    expect(seqs().slice(-2)).toEqual([20, 33]);
    expect(delivered.at(-1)).toMatchObject({ leftOut: 23, old: 0 });
    expect(session.ledger).toMatchObject({ last: 40, received: 12, gapped: 28, leftOut: 28, missing: 0 });
    expect(gateway.connections.length).toBe(1);
  });

  it("takes what a heartbeat passes over for left out", () => {
    gateway.welcome("e1", 0).say(wireTrades(1, 10));
    session.want(latest);
    grant();
    gateway.now.say({ type: "heartbeat", seq: 14 });
    expect(session.ledger).toMatchObject({ last: 14, leftOut: 4, missing: 0 });
  });

  it("begins afresh with the history where every trade is wanted again", () => {
    gateway.welcome("e1", 0).say(wireTrades(1, 10));
    session.want(latest);
    grant();
    frame(11, 1000, [1000]);
    session.want({});
    expect(gateway.now.asked("subscribe").at(-1)).toEqual({
      type: "subscribe",
      id: 3,
      epoch: "e1",
      fromSeq: 901,
      snapshot: false,
    });
    grant();
    gateway.now.say(wireTrades(901, 1002));
    expect(begun).toEqual([true, true]);
    expect(delivered.at(-1)).toMatchObject({ old: 100, leftOut: 0 });
    expect(session.ledger).toMatchObject({ first: 901, received: 102, gapped: 0, missing: 0 });
  });

  it("resumes in mode latest after a lost connection, and begins afresh where that changed meanwhile", () => {
    gateway.welcome("e1", 0).say(wireTrades(1, 10));
    session.want(latest);
    grant();
    gateway.now.drop(1006);
    vi.advanceTimersByTime(125);
    gateway.welcome("e1", 500);
    expect(gateway.now.asked("subscribe")).toMatchObject([{ fromSeq: 11, epoch: "e1", ...latest }]);
    gateway.now.drop(1006);
    session.want({});
    vi.advanceTimersByTime(250);
    gateway.welcome("e1", 600);
    expect(gateway.now.asked("subscribe")).toMatchObject([{ fromSeq: 501 }]);
    expect(begun).toEqual([true, false, true]);
  });

  it("asks again where it changes before the first answer", () => {
    gateway.now.say({ type: "hello", epoch: "e1", seq: 50, heartbeatMs: 1000 });
    session.want(latest);
    expect(gateway.now.asked("subscribe")).toMatchObject([{ id: 1 }, { id: 2, mode: "latest" }]);
    gateway.now.say({ type: "subscribed", id: 1 });
    expect(session.link.state).toBe("connecting");
    grant();
    expect(session.link.state).toBe("live");
  });
});
