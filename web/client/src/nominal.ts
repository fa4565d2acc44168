// Types of their own for numbers and texts that must not be mixed up; they cost nothing at run time.

declare const name: unique symbol;

/** A `T` that only a conversion says to be a `Name`. */
export type Nominal<T, Name extends string> = T & { readonly [name]: Name };

/** Number of a trade on the tape, from 1, without holes. A double holds it exactly up to 2^53. */
export type Sequence = Nominal<number, "Sequence">;

/** Id of one life of the tape's numbering; opaque. */
export type Epoch = Nominal<string, "Epoch">;

/** A 64-bit integer as its decimal digits. Never a number: a double is exact to 2^53 only. */
export type Int64Text = Nominal<string, "Int64Text">;

/** Wall clock, milliseconds since the Unix epoch, with fractions. */
export type WallMs = Nominal<number, "WallMs">;

export const STATUSES = ["VALID", "INVALID", "UNKNOWN"] as const;

/** What the judgement says of a tick. */
export type Status = (typeof STATUSES)[number];

/** Statuses by their number on the wire. */
export const STATUS_OF_CODE: readonly Status[] = ["UNKNOWN", "VALID", "INVALID"];

const INT64 = /^-?\d{1,19}$/;
const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

/** Returns the text as an int64, or `undefined` where it is none (no sign but `-`, no blanks, in range). */
export function int64Text(text: string): Int64Text | undefined {
  if (!INT64.test(text)) return undefined;
  if (text.length < 19) return text as Int64Text; // cannot be out of range; every trade comes through here
  const value = BigInt(text);
  return value >= INT64_MIN && value <= INT64_MAX ? (text as Int64Text) : undefined;
}

/** Returns nanoseconds as wall-clock milliseconds. A double then resolves about 0.25 µs: for measuring, not for identity. */
export function wallMsOfNs(ns: Int64Text): WallMs {
  return (Number(ns) / 1e6) as WallMs;
}
