// Messages as a gateway would write them.

/** Returns the plain form of the trade with that sequence. */
export function wireTrade(seq: number, more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    tradeId: seq.toString(16).padStart(32, "0"),
    instrumentId: "ABC",
    price: 101.25,
    volume: "100",
    timestampNs: "1700000000000000000",
    status: "VALID",
    vwap20m: 101.2,
    ...more,
  };
}

/** Returns a `trades` message that covers `from` … `to` without leaving any out. */
export function wireTrades(from: number, to: number, sentNs = "1700000000000000000"): Record<string, unknown> {
  const trades = Array.from({ length: to - from + 1 }, (_, i) => wireTrade(from + i));
  return { type: "trades", seq: from, toSeq: to, sentNs, trades };
}
