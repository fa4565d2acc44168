// What somebody typed -> a tick that can be sent. It is the gateway that judges; here it only has to be a tick at all.

import { type Int64Text, int64Text } from "@tickcast/client";

export interface TickInput {
  readonly instrumentId: string;
  readonly price: number;
  readonly volume: Int64Text;
}

/** What cannot be sent, and why; `field` is the name of the input. */
export interface Unsendable {
  readonly field: "instrument" | "price" | "volume";
  readonly why: string;
}

const DECIMAL = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;

/**
 * Returns the tick, or the first thing that keeps it from being sent.
 *
 * Negative prices, short names and the like are let through: what the rules say of them is the point of asking.
 */
export function readTick(instrument: string, price: string, volume: string): TickInput | Unsendable {
  const instrumentId = instrument.trim();
  if (instrumentId === "") return { field: "instrument", why: "Instrument: a name is needed" };
  const decimal = price.trim();
  if (!DECIMAL.test(decimal) || !Number.isFinite(Number(decimal))) {
    return { field: "price", why: `Price: must be a decimal number such as 101.25, was "${decimal}"` };
  }
  const units = int64Text(volume.trim());
  if (units === undefined) {
    return { field: "volume", why: `Volume: must be a whole number of at most 64 bits, was "${volume.trim()}"` };
  }
  return { instrumentId, price: Number(decimal), volume: units };
}
