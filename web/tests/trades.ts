// Trades as the protocol's parser hands them on.

import type { Int64Text, Sequence } from "../src/base/nominal";
import type { Status, Trade } from "../src/protocol/messages";

export function trade(seq: number, status: Status = "VALID", more: Partial<Trade> = {}): Trade {
  return {
    tradeId: seq.toString(16).padStart(32, "0"),
    instrumentId: "ABC",
    price: 101.25,
    volume: "100" as Int64Text,
    timestampNs: "1700000000000000000" as Int64Text,
    status,
    reason: status === "VALID" ? undefined : "Too far from the 20-minute VWAP",
    vwap20m: status === "VALID" ? 101.2 : undefined,
    ...more,
  };
}

export const sequences = (from: number, to: number): Sequence[] =>
  Array.from({ length: to - from + 1 }, (_, i) => (from + i) as Sequence);
