// Which sequences came, which were announced as not coming, and which are simply missing.
//
// Everything up to `last` is in exactly one of three accounts: received, gapped (announced by a `gap`, by a snapshot,
// or by a frame whose `seqs` skips it), missing. Announcements and trades may overlap and come in either order; a
// trade that comes after all moves to `received`, and one that comes twice is counted as a duplicate and not again. Of
// what is gapped, `leftOut` was not asked for: a filter passed it over, or a newer one of its instrument was enough.

import type { Sequence } from "./nominal.ts";

/** Sequences that did not come (yet), both ends included. */
interface Absence {
  from: number;
  to: number;
  account: "missing" | "gapped" | "leftOut";
}

/** Absences that can still change account; older ones stay where they are. */
const REMEMBERED = 256;

export class Ledger {
  #last: number;
  readonly #first: number;
  #received = 0;
  #gapped = 0;
  #leftOut = 0;
  #missing = 0;
  #duplicates = 0;
  /** Ascending, apart from one another, all ≤ `last`. */
  readonly #absences: Absence[] = [];

  /** @param fromSeq First sequence wanted. */
  constructor(fromSeq: Sequence) {
    this.#first = fromSeq;
    this.#last = fromSeq - 1;
  }

  /** First sequence wanted: received + gapped + missing = last − first + 1. */
  get first(): Sequence {
    return this.#first as Sequence;
  }
  /** Newest sequence accounted for. */
  get last(): Sequence {
    return this.#last as Sequence;
  }
  /** Trades taken, each sequence once. */
  get received(): number {
    return this.#received;
  }
  /** Sequences announced as not coming, those that are left out among them. */
  get gapped(): number {
    return this.#gapped + this.#leftOut;
  }
  /** Sequences that were not asked for: of another status or instrument, or older than the newest of theirs. */
  get leftOut(): number {
    return this.#leftOut;
  }
  /** Sequences that never came and that nobody announced. */
  get missing(): number {
    return this.#missing;
  }
  /** Trades that came a second time. */
  get duplicates(): number {
    return this.#duplicates;
  }

  /** Takes a trade; returns whether it is new. */
  take(seq: Sequence): boolean {
    if (seq === this.#last + 1) {
      this.#last = seq;
      this.#received++;
      return true;
    }
    if (seq > this.#last) {
      this.#add(this.#last + 1, seq - 1, "missing");
      this.#last = seq;
      this.#received++;
      return true;
    }
    return this.#takeLate(seq);
  }

  /** Takes a run of trades where it begins right after the newest; returns whether it did, else nothing is taken. */
  takeRun(from: Sequence, to: Sequence): boolean {
    if (from !== this.#last + 1 || to < this.#last) return false;
    this.#received += to - this.#last;
    this.#last = to;
    return true;
  }

  /**
   * Notes that `from` … `to` don't come one by one. Those that came already stay received.
   *
   * @param leftOut Whether they were not asked for.
   */
  announce(from: Sequence, to: Sequence, leftOut = false): void {
    const account = leftOut ? "leftOut" : "gapped";
    if (from <= this.#last) this.#settle(from, to, account);
    if (to <= this.#last) return;
    if (from > this.#last + 1) this.#add(this.#last + 1, from - 1, "missing");
    this.#add(Math.max(from, this.#last + 1), to, account);
    this.#last = to;
  }

  /** Turns what was missing within `from` … `to` into what is announced. */
  #settle(from: number, to: number, account: Absence["account"]): void {
    for (let i = 0; i < this.#absences.length; i++) {
      const absence = this.#absences[i];
      if (absence?.account !== "missing" || absence.to < from || absence.from > to) continue;
      const parts = split(absence, Math.max(from, absence.from), Math.min(to, absence.to), account);
      this.#count(absence, -1);
      for (const part of parts) this.#count(part, 1);
      this.#absences.splice(i, 1, ...parts);
      i += parts.length - 1;
    }
    this.#forget();
  }

  #takeLate(seq: number): boolean {
    const i = this.#absences.findIndex((absence) => absence.from <= seq && seq <= absence.to);
    const absence = this.#absences[i];
    if (absence === undefined) {
      this.#duplicates++;
      return false;
    }
    this.#count({ ...absence, from: seq, to: seq }, -1);
    this.#absences.splice(i, 1, ...split(absence, seq, seq, undefined));
    this.#received++;
    this.#forget();
    return true;
  }

  #add(from: number, to: number, account: Absence["account"]): void {
    const absence = { from, to, account };
    this.#absences.push(absence);
    this.#count(absence, 1);
    this.#forget();
  }

  #count(absence: Absence, sign: 1 | -1): void {
    const count = sign * (absence.to - absence.from + 1);
    if (absence.account === "gapped") this.#gapped += count;
    else if (absence.account === "leftOut") this.#leftOut += count;
    else this.#missing += count;
  }

  #forget(): void {
    if (this.#absences.length > REMEMBERED) this.#absences.splice(0, this.#absences.length - REMEMBERED);
  }
}

/** Returns `absence` cut at `from` … `to`; the middle is dropped, or moved to `account`. */
function split(absence: Absence, from: number, to: number, account: Absence["account"] | undefined): Absence[] {
  const parts: Absence[] = [];
  if (absence.from < from) parts.push({ ...absence, to: from - 1 });
  if (account !== undefined) parts.push({ from, to, account });
  if (to < absence.to) parts.push({ ...absence, from: to + 1 });
  return parts;
}
