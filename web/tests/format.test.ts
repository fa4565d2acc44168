import type { Int64Text, WallMs } from "@tickcast/client";
import { describe, expect, it } from "vitest";
import * as format from "../src/base/format.ts";

/** Groups are parted by a narrow space that does not break; a plain one reads better here. */
const plain = (text: string) => text.replaceAll("\u202f", " ").replaceAll("\u2212", "-");

describe("format", () => {
  it.each([
    ["0", "0"],
    ["999", "999"],
    ["1000", "1 000"],
    ["9007199254740993", "9 007 199 254 740 993"],
    ["-9223372036854775808", "-9 223 372 036 854 775 808"],
  ])("int64 %s is %s", (value, text) => {
    expect(plain(format.formatInt64(value as Int64Text))).toBe(text);
  });

  it.each([
    [null, "–"],
    [Number.NaN, "–"],
    [0, "0"],
    [400_000, "400 000"],
    [-3, "-3"],
    [6.759322326e-7, "6.7593e-7"],
    [1e-6, "1e-6"],
    [-2e-6, "-2e-6"],
    [0.25, "0.25"],
    [123.456789, "123.457"],
    [1234567.5, "1 234 568"],
    [1e300, "1e+300"],
  ])("a quantity of %s is %s", (value, text) => {
    expect(plain(format.formatQuantity(value))).toBe(text);
  });

  it.each([
    [0, "0"],
    [927_747, "927 747"],
    [999_499, "999 499"],
    [999_500, "1.00 M"],
    [9_994_999, "9.99 M"],
    [9_995_000, "10.0 M"],
    [30_572_759, "30.6 M"],
    [99_950_000, "100 M"],
    [999_500_000, "1.00 B"],
    [6_183_625_521, "6.18 B"],
    [4e15, "4000 T"],
  ])("a volume of %s in short is %s", (value, text) => {
    expect(plain(format.formatShort(value))).toBe(text);
  });

  it.each([
    [101, "101.00"],
    [101.5, "101.50"],
    [62345.123456, "62 345.123456"],
    [0.00012345, "0.00012345"],
    [-5, "-5.00"],
    [0, "0.00"],
    [999999.999, "999 999.999"],
    [1e15, "1.0000e+15"],
    [1e-9, "1.0000e-9"],
    [-1e-9, "-1.0000e-9"],
    [null, "–"],
    [Number.NaN, "–"],
  ])("price %s is %s", (value, text) => {
    expect(plain(format.formatPrice(value))).toBe(text);
  });

  it.each([
    [101.2, "101.2000"],
    [1234.56789, "1 234.5679"],
    [0.5, "0.500000"],
  ])("VWAP %s is %s", (value, text) => {
    expect(plain(format.formatVwap(value))).toBe(text);
  });

  it.each([
    [undefined, "–"],
    [0, "< 0.1 ms"],
    [0.12, "0.12 ms"],
    [9.99, "9.99 ms"],
    [12.34, "12.3 ms"],
    [123.4, "123 ms"],
    [1234, "1.23 s"],
    [61_000, "61.0 s"],
  ])("%s ms is %s", (value, text) => {
    expect(format.formatMs(value)).toBe(text);
  });

  it.each([
    [0, "0.0"],
    [12.34, "12.3"],
    [4999.6, "5 000"],
  ])("a rate of %s is %s", (value, text) => {
    expect(plain(format.formatRate(value))).toBe(text);
  });

  it("keeps all nine digits of a time", () => {
    expect(format.formatTimestampNs("1700000000123456789" as Int64Text)).toBe("2023-11-14 22:13:20.123456789 UTC");
    expect(format.formatTimestampNs("5" as Int64Text)).toBe("1970-01-01 00:00:00.000000005 UTC");
    expect(format.formatTimestampNs("9223372036854775807" as Int64Text)).toBe("2262-04-11 23:47:16.854775807 UTC");
    expect(format.formatTime(1700000000123 as WallMs)).toBe("22:13:20.123");
  });
});
