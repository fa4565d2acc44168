// Trades as the protocol's parser hands them on.

import type { Trade } from "../src/messages.ts";
import type { Int64Text, Sequence, Status } from "../src/nominal.ts";

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
    enrichments: [],
    ...more,
  };
}

export const sequences = (from: number, to: number): Sequence[] =>
  Array.from({ length: to - from + 1 }, (_, i) => (from + i) as Sequence);
