import { beforeEach, describe, expect, it } from "vitest";
import type { Epoch, Int64Text, Sequence, WallMs } from "../src/base/nominal";
import { type Arrival, Board, Part } from "../src/model/board";
import { readTick } from "../src/model/tickInput";
import type { Hello, Status } from "../src/protocol/messages";
import { sequences, trade } from "./trades";

const at = (ms: number) => ms as WallMs;
const hello: Hello = {
  type: "hello",
  epoch: "e" as Epoch,
  seq: 0 as Sequence,
  heartbeatMs: 1000,
  instruments: [],
  server: "",
};

let board: Board;
let changed: number;

beforeEach(() => {
  changed = 0;
  board = new Board((parts) => {
    changed |= parts;
  }, at(0));
});

function arrival(from: number, statuses: Status[], more: Partial<Arrival> = {}): Arrival {
  const seqs = sequences(from, from + statuses.length - 1);
  const trades = statuses.map((status, i) => trade(from + i, status));
  return { trades, seqs, old: 0, sentMs: at(1000), receivedMs: at(1004), ...more };
}

describe("Board", () => {
  it("counts by status, and keeps the last hundred of each kind apart", () => {
    board.add(arrival(1, ["INVALID", "UNKNOWN"]), at(0));
    for (let seq = 3; seq < 303; seq++) board.add(arrival(seq, ["VALID"]), at(0));
    expect(["VALID", "INVALID", "UNKNOWN"].map((status) => board.count(status as Status))).toEqual([300, 1, 1]);
    expect(board.ring("ALL").size).toBe(100);
    expect(board.ring("ALL").at(301)?.seq).toBe(302);
    expect(board.ring("INVALID").at(0)?.seq).toBe(1);
    expect(board.ring("UNKNOWN").at(0)?.trade.status).toBe("UNKNOWN");
  });

  it("takes history for trades but not for a rate or a latency", () => {
    board.add(arrival(1, ["VALID", "VALID", "VALID"], { old: 3 }), at(0));
    expect(board.count("VALID")).toBe(3);
    expect(board.rate.perSecond(250)).toBe(0);
    expect(board.wire.at([0.5], 0)).toEqual([undefined]);
    expect(board.age.at([0.5], 0)).toEqual([undefined]);
    board.add(arrival(4, ["VALID", "VALID"], { old: 1 }), at(250));
    expect(board.rate.perSecond(500)).toBe(2);
  });

  it("measures from the sent time and from the tick's time, by the server's clock", () => {
    const item = trade(1, "VALID", { timestampNs: "980000000" as Int64Text });
    board.add({ trades: [item], seqs: sequences(1, 1), old: 0, sentMs: at(1000), receivedMs: at(1004) }, at(0));
    expect(board.wire.at([0.5], 0)[0]).toBeCloseTo(4, 0);
    expect(board.age.at([0.5], 0)[0]).toBeCloseTo(24, 0);
  });

  it("measures nothing while the clocks have not been compared", () => {
    board.add(arrival(1, ["VALID"], { receivedMs: undefined }), at(0));
    expect(board.wire.at([0.5], 0)).toEqual([undefined]);
    expect(board.age.at([0.5], 0)).toEqual([undefined]);
    expect(board.rate.perSecond(250)).toBe(4);
  });

  it("keeps what it shows over a resumed connection and drops it for a fresh one", () => {
    const accounts = { last: 1, received: 1, gapped: 0, missing: 0, duplicates: 0 };
    board.begin(hello, true, () => accounts);
    board.add(arrival(1, ["VALID"]), at(0));
    board.begin(hello, false, () => accounts);
    expect([board.count("VALID"), board.ring("ALL").size, board.lives, board.connections]).toEqual([1, 1, 1, 2]);
    expect(board.accounts.received).toBe(1);
    board.begin(hello, true, () => accounts);
    expect([board.count("VALID"), board.ring("ALL").size, board.lives, board.connections]).toEqual([0, 0, 2, 3]);
  });

  it("says which parts of the page have to be painted", () => {
    board.add(arrival(1, ["VALID"]), at(0));
    expect(changed).toBe(Part.trades);
    board.setLink({ state: "live", why: "", retryAt: undefined });
    expect(changed).toBe(Part.trades | Part.status);
  });
});

describe("readTick", () => {
  it.each([
    ["ABC", "101.25", "100", { instrumentId: "ABC", price: 101.25, volume: "100" }],
    [" ABC ", " .5 ", " 9223372036854775807 ", { instrumentId: "ABC", price: 0.5, volume: "9223372036854775807" }],
    ["x", "-5", "-1", { instrumentId: "x", price: -5, volume: "-1" }],
    ["ABC", "1e3", "0", { instrumentId: "ABC", price: 1000, volume: "0" }],
  ])("takes %j %j %j: the rules are to judge it", (instrument, price, volume, tick) => {
    expect(readTick(instrument, price, volume)).toEqual(tick);
  });

  it.each([
    [" ", "1", "1", "instrument"],
    ["ABC", "", "1", "price"],
    ["ABC", "1,5", "1", "price"],
    ["ABC", "NaN", "1", "price"],
    ["ABC", "1e999", "1", "price"],
    ["ABC", "0x10", "1", "price"],
    ["ABC", "1", "", "volume"],
    ["ABC", "1", "1.5", "volume"],
    ["ABC", "1", "9223372036854775808", "volume"],
  ])("does not send %j %j %j", (instrument, price, volume, field) => {
    expect(readTick(instrument, price, volume)).toMatchObject({ field, why: expect.stringContaining(":") });
  });
});
