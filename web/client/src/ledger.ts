// Which sequences came, which were announced as not coming, and which are simply missing.
//
// Everything up to `last` is in exactly one of three accounts: received, gapped (announced by a `gap`, by a snapshot,
// or by a frame whose `seqs` skips it), missing. Announcements and trades may overlap and come in either order; a
// trade that comes after all moves to `received`, and one that comes twice is counted as a duplicate and not again.

import type { Sequence } from "./nominal.ts";

/** Sequences that did not come (yet), both ends included. */
interface Absence {
  from: number;
  to: number;
  announced: boolean;
}

/** Absences that can still change account; older ones stay where they are. */
const REMEMBERED = 256;

export class Ledger {
  #last: number;
  readonly #first: number;
  #received = 0;
  #gapped = 0;
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
  /** Sequences announced as not coming. */
  get gapped(): number {
    return this.#gapped;
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
      this.#add(this.#last + 1, seq - 1, false);
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

  /** Notes that `from` … `to` don't come one by one. Those that came already stay received. */
  announce(from: Sequence, to: Sequence): void {
    if (from <= this.#last) this.#settle(from, to);
    if (to <= this.#last) return;
    if (from > this.#last + 1) this.#add(this.#last + 1, from - 1, false);
    this.#add(Math.max(from, this.#last + 1), to, true);
    this.#last = to;
  }

  /** Turns what was missing within `from` … `to` into what is announced. */
  #settle(from: number, to: number): void {
    for (let i = 0; i < this.#absences.length; i++) {
      const absence = this.#absences[i];
      if (absence === undefined || absence.announced || absence.to < from || absence.from > to) continue;
      const parts = split(absence, Math.max(from, absence.from), Math.min(to, absence.to), true);
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
    this.#count({ from: seq, to: seq, announced: absence.announced }, -1);
    this.#absences.splice(i, 1, ...split(absence, seq, seq, undefined));
    this.#received++;
    this.#forget();
    return true;
  }

  #add(from: number, to: number, announced: boolean): void {
    const absence = { from, to, announced };
    this.#absences.push(absence);
    this.#count(absence, 1);
    this.#forget();
  }

  #count(absence: Absence, sign: 1 | -1): void {
    const count = sign * (absence.to - absence.from + 1);
    if (absence.announced) this.#gapped += count;
    else this.#missing += count;
  }

  #forget(): void {
    if (this.#absences.length > REMEMBERED) this.#absences.splice(0, this.#absences.length - REMEMBERED);
  }
}

/** Returns `absence` cut at `from` … `to`; the middle is left out, or kept with `announced`. */
function split(absence: Absence, from: number, to: number, announced: boolean | undefined): Absence[] {
  const parts: Absence[] = [];
  if (absence.from < from) parts.push({ from: absence.from, to: from - 1, announced: absence.announced });
  if (announced !== undefined) parts.push({ from, to, announced });
  if (to < absence.to) parts.push({ from: to + 1, to: absence.to, announced: absence.announced });
  return parts;
}
