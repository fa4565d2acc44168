import { describe, expect, it } from "vitest";
import { fullJitterMs } from "../src/backoff.ts";
import { CLOSE, shouldReconnect } from "../src/codes.ts";
import type { WallMs } from "../src/nominal.ts";
import { ClockOffset } from "../src/offset.ts";
import { socketUrl } from "../src/socket.ts";
import { between, seeded } from "./random.ts";

const at = (ms: number) => ms as WallMs;

describe("fullJitterMs", () => {
  const limits = { firstMs: 250, mostMs: 8000 };

  it("doubles its upper end up to the limit, however often it is tried", () => {
    const ends = [0, 1, 2, 3, 4, 5, 6, 1000].map((attempt) => fullJitterMs(attempt, limits, () => 1));
    expect(ends).toEqual([250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
  });

  it("spreads evenly from zero on, so that pages don't come back in step", () => {
    const random = seeded(7);
    const waits = Array.from({ length: 4000 }, () => fullJitterMs(5, limits, random));
    for (let quarter = 0; quarter < 4; quarter++) {
      const within = waits.filter((ms) => ms >= quarter * 2000 && ms < (quarter + 1) * 2000).length;
      expect(within).toBeGreaterThan(900);
      expect(within).toBeLessThan(1100);
    }
  });
});

describe("close codes", () => {
  it("come back from 4000 to 4499 and not from 4500 to 4999; others come back", () => {
    for (const code of [1000, 1001, 1006, 1011, 3000, 4000, 4499, 5000]) expect(shouldReconnect(code)).toBe(true);
    for (const code of [4500, 4501, 4999]) expect(shouldReconnect(code)).toBe(false);
  });

  it("have a number each", () => {
    expect(new Set(Object.values(CLOSE)).size).toBe(Object.keys(CLOSE).length);
  });
});

describe("ClockOffset", () => {
  it("bounds the true offset, however unevenly the ways there and back take", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = seeded(seed);
      const truth = between(random, -5000, 5000);
      const offset = new ClockOffset();
      for (let i = 0; i < 40; i++) {
        const sent = i * 1000;
        const there = random() * 30;
        const back = random() * 30;
        offset.add(at(sent), at(sent + there + truth), at(sent + there + back));
      }
      const best = offset.best;
      expect(best).toBeDefined();
      expect(Math.abs((best?.ms ?? 1e9) - truth)).toBeLessThanOrEqual((best?.uncertaintyMs ?? 0) + 1e-6);
    }
  });

  it("trusts the quickest exchange, and forgets it after 32 more", () => {
    const offset = new ClockOffset();
    offset.add(at(0), at(101), at(2));
    for (let i = 1; i < 32; i++) offset.add(at(i * 10), at(i * 10 + 300), at(i * 10 + 9));
    expect(offset.best).toEqual({ ms: 100, uncertaintyMs: 1 });
    offset.add(at(400), at(700), at(409));
    expect(offset.best?.uncertaintyMs).toBe(4.5);
  });

  it("knows nothing at first, nor after the answer to a ping that was never sent", () => {
    const offset = new ClockOffset();
    expect(offset.best).toBeUndefined();
    offset.add(at(10), at(10), at(5));
    expect(offset.best).toBeUndefined();
  });
});

describe("socketUrl", () => {
  it.each([
    ["http://127.0.0.1:3000/", "ws://127.0.0.1:3000/ws/marketdata"],
    ["https://desk.example/ticks/index.html?x=1#y", "wss://desk.example/ticks/ws/marketdata"],
  ])("of the page %s is %s", (page, url) => {
    expect(socketUrl("ws/marketdata", page)).toBe(url);
  });
});
