import { describe, expect, it } from "vitest";
import { idText, TradeColumns, writeId } from "../src/columns.ts";
import type { ServerMessage } from "../src/messages.ts";
import { int64Text } from "../src/nominal.ts";
import { ProtocolError, parseMessage } from "../src/parse.ts";
import { wireTrade, wireTrades } from "./wire.ts";

const parse = (message: unknown, enrichments: string[] = []) => parseMessage(JSON.stringify(message), enrichments);

/** The trades of a message as objects. */
const listed = (message: ServerMessage | undefined) =>
  message?.type === "trades" || message?.type === "snapshot" ? [...message.trades] : [];

describe("trades", () => {
  it("keeps int64 digit by digit, beyond what a double can hold", () => {
    const trade = wireTrade(1, { volume: "9223372036854775807", timestampNs: "1700000000123456789" });
    const message = parse({ ...wireTrades(1, 1), trades: [trade] });
    expect(listed(message)).toMatchObject([{ volume: "9223372036854775807", timestampNs: "1700000000123456789" }]);
  });

  it("takes a price that JSON cannot carry, and trades without reason and VWAP", () => {
    const trade = wireTrade(1, { price: null, status: "INVALID", reason: "x", vwap20m: undefined });
    const message = parse({ ...wireTrades(1, 1), trades: [trade] });
    expect(listed(message)).toMatchObject([{ price: null, status: "INVALID", reason: "x", vwap20m: undefined }]);
  });

  it("takes the further columns that hello announced, and leaves out what it does not know", () => {
    const trades = [wireTrade(1, { notional: 5, other: 6 }), wireTrade(2)];
    const message = parse({ ...wireTrades(1, 2), trades, later: true }, ["notional"]);
    expect(listed(message).map((trade) => trade.enrichments)).toEqual([[5], [Number.NaN]]);
    expect(message).not.toHaveProperty("later");
  });

  it.each(["1700000000123456789", 1.7000000001234568e18])("reads the sent time from %j", (sentNs) => {
    const message = parse({ ...wireTrades(1, 1), sentNs });
    expect(message).toMatchObject({ sentMs: expect.closeTo(1700000000123.4568, 3) });
  });

  it("takes sequences as strings too", () => {
    expect(parse({ ...wireTrades(7, 8), seq: "7", toSeq: "8" })).toMatchObject({ seq: 7, toSeq: 8 });
  });

  it.each([
    [
      "fewer trades than sequences, without seqs",
      { ...wireTrades(1, 3), toSeq: 4 },
      "trades: 3 for the sequences 1 to 4",
    ],
    ["seqs of another length", { ...wireTrades(1, 2), seqs: [1] }, "seqs: 1 for 2 trades"],
    ["seqs that don't ascend", { ...wireTrades(1, 2), seqs: [2, 2] }, "seqs: must ascend within 1 to 2, was 2"],
    ["seqs beyond the range", { ...wireTrades(1, 2), seqs: [1, 3] }, "was 3"],
    [
      "a volume beyond int64",
      { ...wireTrades(1, 1), trades: [wireTrade(1, { volume: "9223372036854775808" })] },
      "volume",
    ],
    [
      "a volume that lost digits as a number",
      { ...wireTrades(1, 1), trades: [wireTrade(1, { volume: 2 ** 53 })] },
      "volume",
    ],
    ["a volume with a fraction", { ...wireTrades(1, 1), trades: [wireTrade(1, { volume: "1.5" })] }, "volume"],
    [
      "a price as text",
      { ...wireTrades(1, 1), trades: [wireTrade(1, { price: "1" })] },
      "price: must be a number or null",
    ],
    ["a status of its own", { ...wireTrades(1, 1), trades: [wireTrade(1, { status: "valid" })] }, "status"],
    ["a trade that is none", { ...wireTrades(1, 1), trades: [null] }, "trade: must be an object, was null"],
    ["a negative sequence", { ...wireTrades(1, 1), seq: -1 }, "seq"],
    ["no sent time", { ...wireTrades(1, 1), sentNs: undefined }, "sentNs"],
  ])("refuses %s", (_what, message, why) => {
    expect(() => parse(message)).toThrow(ProtocolError);
    expect(() => parse(message)).toThrow(why);
  });
});

describe("messages", () => {
  it("reads a hello, with instruments only where they are names", () => {
    const hello = { type: "hello", epoch: "00ff", seq: 12, heartbeatMs: 2000, instruments: ["ABC", 7], server: "s" };
    expect(parse(hello)).toEqual({ ...hello, instruments: ["ABC"], reasons: [], enrichments: [] });
    expect(parse({ type: "hello", epoch: "00ff", seq: 0 })).toMatchObject({
      heartbeatMs: 0,
      instruments: [],
      server: "",
    });
  });

  it.each([
    [
      { type: "gap", from: 3, to: 9, why: "overrun" },
      { type: "gap", from: 3, to: 9, why: "overrun" },
    ],
    [
      { type: "heartbeat", seq: 4 },
      { type: "heartbeat", seq: 4 },
    ],
    [
      { type: "subscribed", id: 1, granted: {} },
      { type: "subscribed", id: 1 },
    ],
    [
      { type: "pong", t: 1.5, serverNs: "2000000" },
      { type: "pong", t: 1.5, serverMs: 2 },
    ],
    [
      { type: "status", source: "sim://", state: "live" },
      { type: "status", source: "sim://", state: "live", sinceMs: undefined },
    ],
    [
      { type: "error", code: "bad", message: "m" },
      { type: "error", id: undefined, code: "bad", message: "m" },
    ],
    [
      { type: "error", id: 4, code: 7, message: "m" },
      { type: "error", id: 4, code: "7", message: "m" },
    ],
    [
      { type: "bye", code: 4000, reason: "r" },
      { type: "bye", code: 4000, reason: "r", retryAfterMs: 0 },
    ],
    [
      { type: "bye", code: 4000, reason: "r", retryAfterMs: -5 },
      { type: "bye", code: 4000, reason: "r", retryAfterMs: 0 },
    ],
  ])("reads %j", (message, parsed) => {
    expect(parse(message)).toEqual(parsed);
  });

  it("reads a snapshot and a verdict with their trades", () => {
    expect(parse({ type: "snapshot", seq: 1, toSeq: 9, trades: [wireTrade(4)] })).toMatchObject({ toSeq: 9 });
    expect(parse({ type: "verdict", id: 3, trade: wireTrade(4) })).toMatchObject({ id: 3, trade: { price: 101.25 } });
  });

  it("passes over types of later versions", () => {
    expect(parse({ type: "weather" })).toBeUndefined();
  });

  it.each(["", "{", "7", "[]", "null", "{}", '{"type":7}'])("refuses %j", (text) => {
    expect(() => parseMessage(text)).toThrow(ProtocolError);
  });

  it("cuts what it quotes, whatever came", () => {
    expect(() => parseMessage("x".repeat(1e6))).toThrow(/^.{1,200}$/);
  });
});

describe("int64Text", () => {
  it.each(["0", "-1", "9223372036854775807", "-9223372036854775808"])("takes %s", (text) => {
    expect(int64Text(text)).toBe(text);
  });
  it.each(["", "-", "+1", " 1", "1e3", "0x1", "9223372036854775808", "-9223372036854775809", "1".repeat(20)])(
    "refuses %j",
    (text) => {
      expect(int64Text(text)).toBeUndefined();
    },
  );
});

describe("trade ids", () => {
  it("go through their four words and come out as they were", () => {
    const words = new Uint32Array(8);
    for (const id of ["9f86d081000000000000001a2b3cffff", "00000000000000000000000000000001", "f".repeat(32)]) {
      writeId(words, 1, id);
      expect(idText(words, 1)).toBe(id);
    }
  });

  it("stay with their rows when rows are selected", () => {
    const message = parse(wireTrades(5, 9));
    if (message?.type !== "trades") throw new Error("no trades");
    expect(message.trades).toBeInstanceOf(TradeColumns);
    const chosen = message.trades.select([1, 3]);
    expect([...chosen]).toEqual([message.trades.at(1), message.trades.at(3)]);
    expect([...chosen.seq]).toEqual([6, 8]);
  });
});
