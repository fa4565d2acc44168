import { describe, expect, it } from "vitest";
import { Ledger } from "../src/ledger.ts";
import type { Sequence } from "../src/nominal.ts";
import { between, seeded } from "./random.ts";

const s = (n: number) => n as Sequence;
const accounts = (l: Ledger) => ({
  received: l.received,
  gapped: l.gapped,
  missing: l.missing,
  duplicates: l.duplicates,
});

describe("Ledger", () => {
  it("counts a run without holes as received", () => {
    const ledger = new Ledger(s(5));
    for (let n = 5; n <= 9; n++) expect(ledger.take(s(n))).toBe(true);
    expect(ledger.last).toBe(9);
    expect(accounts(ledger)).toEqual({ received: 5, gapped: 0, missing: 0, duplicates: 0 });
  });

  it("calls missing what was skipped and not announced", () => {
    const ledger = new Ledger(s(1));
    ledger.take(s(1));
    ledger.take(s(5));
    expect(accounts(ledger)).toEqual({ received: 2, gapped: 0, missing: 3, duplicates: 0 });
  });

  it.each(["before", "after"])("calls it a gap where it is announced %s the trades", (when) => {
    const ledger = new Ledger(s(1));
    ledger.take(s(1));
    if (when === "before") ledger.announce(s(2), s(4));
    ledger.take(s(5));
    if (when === "after") ledger.announce(s(2), s(4));
    expect(accounts(ledger)).toEqual({ received: 2, gapped: 3, missing: 0, duplicates: 0 });
  });

  it("tells what was not asked for from what was lost", () => {
    const ledger = new Ledger(s(1));
    ledger.take(s(1));
    ledger.announce(s(2), s(10), true);
    ledger.announce(s(11), s(12));
    ledger.take(s(5));
    expect(accounts(ledger)).toEqual({ received: 2, gapped: 10, missing: 0, duplicates: 0 });
    expect(ledger.leftOut).toBe(8);
  });

  it("moves a trade that comes after all out of the gap, once", () => {
    const ledger = new Ledger(s(1));
    ledger.announce(s(1), s(10));
    expect(ledger.take(s(4))).toBe(true);
    expect(ledger.take(s(4))).toBe(false);
    expect(accounts(ledger)).toEqual({ received: 1, gapped: 9, missing: 0, duplicates: 1 });
  });

  it("does not take a trade twice, nor one from before it began", () => {
    const ledger = new Ledger(s(10));
    ledger.take(s(10));
    expect(ledger.take(s(10))).toBe(false);
    expect(ledger.take(s(9))).toBe(false);
    expect(accounts(ledger)).toEqual({ received: 1, gapped: 0, missing: 0, duplicates: 2 });
  });

  it("agrees with plain sets, whatever overlaps and in whatever order it comes", () => {
    for (let seed = 1; seed <= 100; seed++) {
      const random = seeded(seed);
      const first = between(random, 1, 20);
      const ledger = new Ledger(s(first));
      const received = new Set<number>();
      const announced = new Set<number>();
      let last = first - 1;
      let duplicates = 0;
      for (let step = 0; step < 60; step++) {
        const from = Math.max(1, last + between(random, -12, 5));
        if (random() < 0.7) {
          const fresh = from >= first && !received.has(from);
          expect(ledger.take(s(from)), `seed ${seed}, take ${from}`).toBe(fresh);
          if (fresh) received.add(from);
          else duplicates++;
          last = Math.max(last, from);
        } else {
          const to = from + between(random, 0, 9);
          ledger.announce(s(from), s(to));
          for (let n = from; n <= to; n++) announced.add(n);
          last = Math.max(last, to);
        }
        let gapped = 0;
        let missing = 0;
        for (let n = first; n <= last; n++) {
          if (received.has(n)) continue;
          if (announced.has(n)) gapped++;
          else missing++;
        }
        expect(accounts(ledger), `seed ${seed}, step ${step}`).toEqual({
          received: received.size,
          gapped,
          missing,
          duplicates,
        });
        expect(ledger.last).toBe(last);
        expect(ledger.received + ledger.gapped + ledger.missing).toBe(ledger.last - ledger.first + 1);
      }
    }
  });

  it("keeps its accounts balanced when more holes opened than it remembers", () => {
    const ledger = new Ledger(s(1));
    for (let n = 2; n <= 4000; n += 2) ledger.take(s(n));
    expect(accounts(ledger)).toEqual({ received: 2000, gapped: 0, missing: 2000, duplicates: 0 });
    expect(ledger.take(s(3999))).toBe(true); // recent: still known to be absent
    expect(ledger.take(s(1))).toBe(false); // forgotten: stays missing rather than be counted twice
    expect(ledger.received + ledger.gapped + ledger.missing).toBe(4000);
  });
});
