import { describe, expect, it } from "vitest";
import { SlidingQuantiles } from "../src/base/quantiles";
import { RateMeter } from "../src/base/rate";
import { Ring } from "../src/base/ring";
import { between, seeded } from "./random";

describe("SlidingQuantiles", () => {
  it("is within 2 % above the exact quantile, on any mix of durations", () => {
    for (let seed = 1; seed <= 50; seed++) {
      const random = seeded(seed);
      const quantiles = new SlidingQuantiles(10);
      const samples = Array.from({ length: between(random, 1, 500) }, () => 0.02 * 10 ** (random() * 6));
      for (const ms of samples) quantiles.add(ms, 1e12 + random() * 9000);
      samples.sort((a, b) => a - b);
      for (const p of [0.5, 0.9, 0.99, 1]) {
        const exact = samples[Math.max(1, Math.ceil(samples.length * p)) - 1] ?? 0;
        const [found = 0] = quantiles.at([p], 1e12 + 9000);
        expect(found, `seed ${seed}, p${p}`).toBeGreaterThanOrEqual(exact * 0.9999);
        expect(found, `seed ${seed}, p${p}`).toBeLessThanOrEqual(exact * 1.0201);
      }
    }
  });

  it("forgets what is older than its window, and all where nothing comes", () => {
    const quantiles = new SlidingQuantiles(3);
    quantiles.add(100, 1000);
    quantiles.add(1, 3000);
    expect(quantiles.at([1], 3500)[0]).toBeCloseTo(100, -1);
    expect(quantiles.at([1], 4000)[0]).toBeCloseTo(1, 1);
    expect(quantiles.at([0.5, 0.99], 60_000)).toEqual([undefined, undefined]);
  });

  it("weighs samples, takes negative ones as nothing, and ignores what is no number", () => {
    const quantiles = new SlidingQuantiles(3);
    quantiles.add(-5, 0, 99);
    quantiles.add(50, 0, 1);
    quantiles.add(Number.NaN, 0, 1000);
    const [p50 = 0, p99 = 0, most = 0] = quantiles.at([0.5, 0.99, 1], 0);
    expect([p50, p99]).toEqual([0.01, 0.01]);
    expect(most).toBeCloseTo(50, -1);
    quantiles.clear();
    expect(quantiles.at([0.5], 0)).toEqual([undefined]);
  });
});

describe("RateMeter", () => {
  it("finds a steady rate, and nothing when it stops", () => {
    const rate = new RateMeter(60, 0);
    for (let ms = 0; ms < 5000; ms += 10) rate.add(50, ms);
    expect(rate.perSecond(5000)).toBe(5000);
    expect(rate.perSecond(8000)).toBe(0);
  });

  it("does not count a quarter of a second before it is over, nor time before it began", () => {
    const rate = new RateMeter(60, 1000);
    rate.add(10, 1000);
    expect(rate.perSecond(1100)).toBe(0);
    expect(rate.perSecond(1250)).toBe(40);
    expect(rate.perSecond(2000)).toBe(10);
  });

  it("keeps a minute, second by second, whatever pauses there are", () => {
    const random = seeded(3);
    const rate = new RateMeter(60, 0);
    const perSecond = new Array<number>(200).fill(0);
    for (let ms = 0; ms < 200_000; ms += between(random, 1, random() < 0.01 ? 9000 : 400)) {
      const count = between(random, 0, 9);
      rate.add(count, ms);
      perSecond[Math.floor(ms / 1000)] = (perSecond[Math.floor(ms / 1000)] ?? 0) + count;
    }
    const history = new Float64Array(60);
    rate.history(history, 200_000);
    expect([...history]).toEqual(perSecond.slice(140, 200));
    rate.history(history, 1_000_000);
    expect(history.every((count) => count === 0)).toBe(true);
  });
});

describe("Ring", () => {
  it("holds the newest, numbered from the beginning", () => {
    const ring = new Ring<number>(3);
    expect(ring.at(0)).toBeUndefined();
    for (let n = 0; n < 10; n++) {
      ring.push(n * n);
      expect(ring.size).toBe(Math.min(n + 1, 3));
      expect(ring.at(n)).toBe(n * n);
    }
    expect([5, 6, 7, 8, 9, 10].map((n) => ring.at(n))).toEqual([undefined, undefined, 49, 64, 81, undefined]);
    ring.clear();
    expect([ring.size, ring.pushed, ring.at(9)]).toEqual([0, 0, undefined]);
    ring.push(7);
    expect(ring.at(0)).toBe(7);
  });
});
