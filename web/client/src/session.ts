// One subscription to the tape, over as many connections as it takes.
//
// States: connecting ─► live ◄─► stale ─► reconnecting ─► live …, and closed, where the gateway said not to come back
// or the page called `stop`. A connection is opened, says `hello`, is asked for the stream from the first sequence not
// accounted for, and is live with `subscribed`. The ledger outlives connections; only another epoch starts it afresh.

import { fullJitterMs } from "./backoff.ts";
import { wallNow } from "./clock.ts";
import { CLOSE, CLOSE_NORMAL, SUBPROTOCOLS, shouldReconnect } from "./codes.ts";
import type { TradeColumns } from "./columns.ts";
import { type Dictionaries, parseFrame } from "./frame.ts";
import { Ledger } from "./ledger.ts";
import type { Link, LinkState } from "./link.ts";
import type {
  Bye,
  ClientMessage,
  ErrorMessage,
  Gap,
  Hello,
  ServerMessage,
  Snapshot,
  SourceStatus,
  StageTimes,
  Trades,
  Verdict,
} from "./messages.ts";
import type { Epoch, Int64Text, Sequence, Status, WallMs } from "./nominal.ts";
import { ClockOffset, type Offset } from "./offset.ts";
import { ProtocolError, parseMessage } from "./parse.ts";
import { Requests } from "./requests.ts";
import type { OpenSocket, Socket } from "./socket.ts";
import { Timers } from "./timers.ts";
import { LOST_HALF_BEATS, STALE_HALF_BEATS, TIMING, type Timing } from "./timing.ts";

/** New trades of one frame: each exactly once, in the order of the tape. */
export interface Delivery {
  readonly trades: TradeColumns;
  /** How many of them were already on the tape when the page connected: history, not news. */
  readonly old: number;
  /** How many the frame passes over: not asked for, or older than the newest of their instrument. */
  readonly leftOut: number;
  /** How long its newest trade was under way, where that was asked for. */
  readonly stages: StageTimes | undefined;
  readonly sentMs: WallMs;
  readonly receivedMs: WallMs;
}

export interface SessionListener {
  linkChanged(link: Link): void;
  /** A subscription begins; `fresh` where nothing known before has to do with it (first one, another epoch). */
  began(hello: Hello, fresh: boolean, ledger: Readonly<Ledger>): void;
  delivered(delivery: Delivery): void;
  /** The newest VALID trade of each instrument, where it was asked for. */
  snapshot?(trades: TradeColumns, toSeq: Sequence): void;
  /** Sequences that will not come one by one, and why. */
  missed?(from: Sequence, to: Sequence, why: string): void;
  sourceChanged(status: SourceStatus): void;
  /** Something went wrong that the connection survives. */
  noticed(what: string): void;
}

/** What of the stream is wanted; all of it where nothing is said. */
export interface Wanted {
  readonly instruments?: readonly string[];
  readonly status?: readonly Status[];
  /** Every trade (`tape`, where nothing is said), or of each instrument the newest alone, however many there were. */
  readonly mode?: "tape" | "latest";
  /** Most frames a second; as they come where nothing is said. */
  readonly maxRateHz?: number;
  /** Whether deliveries tell how long each stage took. */
  readonly stages?: boolean;
}

export interface SessionOptions {
  readonly url: string;
  readonly openSocket: OpenSocket;
  readonly listener: SessionListener;
  /** Trades before the newest that a fresh subscription asks for. */
  readonly history: number;
  /**
   * Most trades to catch up on one by one after a lost connection; behind that it goes on at the newest `history`, and
   * says what it left out. Without it all of them come, as far as the tape reaches.
   */
  readonly catchUp?: number;
  readonly wanted?: Wanted;
  /** `bin` (the usual) has binary frames, `json` text alone: larger and slower to read, for people and proxies. */
  readonly form?: keyof typeof SUBPROTOCOLS;
  readonly timing?: Timing;
  /** Even over 0 … 1. */
  readonly random?: () => number;
}

export class Session {
  readonly #options: SessionOptions;
  readonly #timing: Timing;
  readonly #random: () => number;
  readonly #offset = new ClockOffset();
  readonly #requests: Requests;

  #wanted: Wanted;
  #link: Link = { state: "connecting", why: "", retryAt: undefined };
  #epoch: Epoch | undefined;
  #ledger: Ledger | undefined;
  #hello: Hello | undefined;
  /** The subscription that was asked for last on this connection. */
  #subscription: number | undefined;
  /** Whether it was granted. What comes before belongs to none of ours, and comes again in ours. */
  #granted = false;
  #socket: Socket | undefined;
  #bye: Bye | undefined;
  #enrichments: readonly string[] = [];
  /** What the codes of this connection's frames mean. */
  #names: Dictionaries = { instruments: [], reasons: [] };
  #head = 0;
  /** Sequences up to here were on the tape when the subscription began. */
  #historyTo = 0;
  #heardMs: WallMs | undefined;
  #attempt = 0;
  #silentHalfBeats = 0;
  #nextId = 1;
  readonly #timers = new Timers<"retry" | "handshake" | "beat" | "ping" | "steady">();

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#wanted = options.wanted ?? {};
    this.#timing = options.timing ?? TIMING;
    this.#random = options.random ?? Math.random;
    this.#requests = new Requests(this.#timing.verdictMs);
  }

  get link(): Link {
    return this.#link;
  }
  get epoch(): Epoch | undefined {
    return this.#epoch;
  }
  /** Accounts of the present epoch's sequences. */
  get ledger(): Readonly<Ledger> | undefined {
    return this.#ledger;
  }
  /** Newest sequence that the gateway has spoken of. */
  get head(): number {
    return Math.max(this.#head, this.#ledger?.last ?? 0);
  }
  /** When the gateway was last heard. */
  get heardMs(): WallMs | undefined {
    return this.#heardMs;
  }
  /** Server clock − page clock, `undefined` before the first pong of this connection. */
  get offset(): Offset | undefined {
    return this.#offset.best;
  }

  /** Connects; at once where an attempt is only planned, and also after `closed`. Does nothing where connected. */
  start(): void {
    if (this.#socket !== undefined) return;
    this.#timers.clearAll();
    this.#bye = undefined;
    const first = this.#link.state === "connecting";
    this.#change(first ? "connecting" : "reconnecting", this.#link.why);
    this.#socket = this.#options.openSocket(this.#options.url, SUBPROTOCOLS[this.#options.form ?? "bin"], {
      received: (data) => this.#receive(data),
      closed: (code, reason) => this.#closed(code, reason),
    });
    this.#timers.set("handshake", this.#timing.handshakeMs, () => this.#abandon("The gateway did not answer"));
  }

  /** Makes a planned attempt at once; does nothing where none is planned. */
  hurry(): void {
    if (this.#link.retryAt !== undefined) this.start();
  }

  /** Disconnects for good; no timer and no listener stays behind. */
  stop(): void {
    this.#drop(CLOSE_NORMAL, "The page was closed");
    this.#change("closed", "Disconnected");
  }

  /**
   * Changes what of the stream is wanted, on the connection that runs.
   *
   * Where the same trades are wanted it goes on without a seam. The mode `latest` goes on behind what came, with the
   * newest of each instrument to begin with. Every other change begins afresh: with `began`, and the last trades
   * before the newest.
   */
  want(wanted: Wanted): void {
    const same = sameTrades(this.#wanted, wanted);
    this.#wanted = wanted;
    this.#head = this.head;
    if (same && this.#granted) {
      this.#send({ type: "subscribe", id: this.#nextId++, snapshot: false, ...wanted });
      return;
    }
    if (!same && !this.#latest) this.#ledger = undefined; // it accounts for another stream
    if (this.#hello === undefined || this.#subscription === undefined) return; // asked for with the next hello
    if (this.#ledger !== undefined) this.#subscribe(same ? ((this.#ledger.last + 1) as Sequence) : undefined);
    else this.#beginStream(this.#hello, this.head);
  }

  /**
   * Asks for a verdict on a tick.
   *
   * @returns The verdict; rejects with a reason for people where there is none.
   */
  judge(instrumentId: string, price: number, volume: Int64Text): Promise<Verdict> {
    if (!this.#connected) {
      return Promise.reject(new Error("Not connected to the gateway"));
    }
    const id = this.#nextId++;
    const verdict = this.#requests.wait(id);
    this.#send({ type: "tick", id, instrumentId, price, volume });
    return verdict;
  }

  #receive(data: unknown): void {
    const receivedMs = wallNow();
    this.#silentHalfBeats = 0;
    this.#heardMs = receivedMs;
    if (this.#link.state === "stale") this.#change("live", "");
    let message: ServerMessage | undefined;
    try {
      message = this.#read(data);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#options.listener.noticed(`Unreadable message: ${error.message}`);
      return;
    }
    if (message !== undefined) this.#handle(message, receivedMs);
  }

  #read(data: unknown): ServerMessage | undefined {
    if (data instanceof ArrayBuffer) return parseFrame(data, this.#names, this.#enrichments.length);
    if (typeof data === "string") return parseMessage(data, this.#enrichments);
    throw new ProtocolError("message: must be text or an ArrayBuffer");
  }

  #handle(message: ServerMessage, receivedMs: WallMs): void {
    switch (message.type) {
      case "trades":
        this.#deliver(message, receivedMs);
        break;
      case "pong":
        this.#offset.add(message.t as WallMs, message.serverMs, receivedMs);
        break;
      case "hello":
        this.#greet(message);
        break;
      case "subscribed":
        if (message.id === this.#subscription) this.#subscribed();
        break;
      case "snapshot":
        if (this.#granted) this.#take(message);
        break;
      case "gap":
        if (this.#granted) this.#skip(message);
        break;
      case "status":
        this.#options.listener.sourceChanged(message);
        break;
      case "verdict":
        this.#requests.answer(message);
        break;
      case "error":
        this.#refused(message);
        break;
      case "bye":
        this.#bye = message;
        break;
      case "heartbeat":
        this.#passOver(message.seq ?? (0 as Sequence));
        break;
    }
  }

  #greet(hello: Hello): void {
    this.#names = { instruments: [...hello.instruments], reasons: [...hello.reasons] };
    this.#granted = false;
    this.#subscription = undefined;
    this.#superviseHeartbeat(hello.heartbeatMs > 0 ? hello.heartbeatMs : this.#timing.heartbeatMs);
    if (hello.epoch === "") {
      // No tape yet. What is known may well go on when it comes, so it is kept until the next hello says.
      this.#timers.clear("handshake");
      this.#change(this.#link.state === "connecting" ? "connecting" : "reconnecting", "Waiting for the processor");
      return;
    }
    const known = hello.epoch === this.#epoch ? this.#ledger : undefined;
    this.#head = hello.seq;
    this.#enrichments = hello.enrichments.map((enrichment) => enrichment.name);
    if (known === undefined) {
      this.#beginStream(hello, hello.seq);
      return;
    }
    this.#historyTo = hello.seq;
    this.#begin(hello, known, false);
    const behind = hello.seq - known.last;
    if (!this.#latest && behind > (this.#options.catchUp ?? Number.POSITIVE_INFINITY)) {
      this.#leaveOut(known, (this.#startBefore(hello.seq) - 1) as Sequence);
    }
    this.#subscribe((known.last + 1) as Sequence);
  }

  get #latest(): boolean {
    return this.#wanted.mode === "latest";
  }

  /** Whether some trades are not asked for. */
  get #selective(): boolean {
    return this.#latest || this.#wanted.instruments !== undefined || this.#wanted.status !== undefined;
  }

  get #connected(): boolean {
    return this.#link.state === "live" || this.#link.state === "stale";
  }

  /** Asks for a stream that has nothing to do with what came before. */
  #beginStream(hello: Hello, head: number): void {
    const start = this.#latest ? ((head + 1) as Sequence) : this.#startBefore(head);
    this.#historyTo = head;
    this.#begin(hello, new Ledger(start), true);
    if (this.#latest) this.#subscribe();
    else this.#subscribe(start);
  }

  /** Returns the first sequence of the history that a fresh stream begins with. */
  #startBefore(head: number): Sequence {
    return Math.max(1, head - this.#options.history + 1) as Sequence;
  }

  /** Asks for the stream from a sequence on; without one behind what came, from the newest of each instrument. */
  #subscribe(fromSeq?: Sequence): void {
    this.#granted = false;
    this.#subscription = this.#nextId++;
    const from = fromSeq === undefined || this.#epoch === undefined ? {} : { epoch: this.#epoch, fromSeq };
    this.#send({ type: "subscribe", id: this.#subscription, ...from, snapshot: this.#latest, ...this.#wanted });
  }

  /** Nothing up to there comes any more: it came, or was not asked for. */
  #passOver(to: Sequence): void {
    this.#head = Math.max(this.#head, to);
    const ledger = this.#ledger;
    if (this.#granted && this.#selective && ledger !== undefined && to > ledger.last) {
      ledger.announce((ledger.last + 1) as Sequence, to, true);
    }
  }

  /** Gives up what a long absence left behind: a page that slept wants what is, not what was. */
  #leaveOut(ledger: Ledger, to: Sequence): void {
    const from = (ledger.last + 1) as Sequence;
    ledger.announce(from, to);
    this.#missed(from, to, "away for too long");
  }

  #missed(from: Sequence, to: Sequence, why: string): void {
    this.#options.listener.missed?.(from, to, why);
    this.#options.listener.noticed(`Gap: ${to - from + 1} trades, ${why}`);
  }

  #begin(hello: Hello, ledger: Ledger, fresh: boolean): void {
    this.#hello = hello;
    this.#epoch = hello.epoch;
    this.#ledger = ledger;
    this.#options.listener.began(hello, fresh, ledger);
  }

  #subscribed(): void {
    this.#granted = true;
    this.#timers.clear("handshake");
    if (this.#connected) return; // another stream on the same connection
    this.#change("live", "");
    this.#offset.clear();
    this.#ping();
    this.#timers.set("steady", this.#timing.steadyMs, () => {
      this.#attempt = 0;
    });
  }

  #deliver(frame: Trades, receivedMs: WallMs): void {
    const ledger = this.#ledger;
    const head = this.#historyTo;
    if (ledger === undefined || !this.#granted) return;
    const { trades, seq, toSeq, sentMs, stages } = frame;
    if (toSeq - seq + 1 === trades.length && ledger.takeRun(seq, toSeq)) {
      const old = Math.max(0, Math.min(trades.length, head - seq + 1));
      if (trades.length > 0) this.#options.listener.delivered({ trades, old, leftOut: 0, stages, sentMs, receivedMs });
      return;
    }
    const last = ledger.last;
    const fresh = this.#takeOneByOne(ledger, frame);
    if (fresh.length === 0) return;
    const taken = fresh.length === trades.length ? trades : trades.select(fresh);
    const old = taken.seq.reduce((count, number) => count + (number <= head ? 1 : 0), 0);
    const leftOut = Math.max(0, ledger.last - last - fresh.length);
    this.#options.listener.delivered({ trades: taken, old, leftOut, stages, sentMs, receivedMs });
  }

  /** Returns the rows of a frame that did not come before; what lies between them is left out of the stream. */
  #takeOneByOne(ledger: Ledger, frame: Trades): number[] {
    const fresh: number[] = [];
    let next = frame.seq as number;
    frame.trades.seq.forEach((seq, row) => {
      if (seq > next) ledger.announce(next as Sequence, (seq - 1) as Sequence, this.#selective);
      next = seq + 1;
      if (ledger.take(seq as Sequence)) fresh.push(row);
    });
    if (next <= frame.toSeq) ledger.announce(next as Sequence, frame.toSeq, this.#selective);
    return fresh;
  }

  /** A snapshot says where live goes on: what lies before it does not come one by one. */
  #take(snapshot: Snapshot): void {
    const { toSeq, trades } = snapshot;
    if (this.#ledger !== undefined && toSeq > this.#ledger.last) {
      this.#ledger.announce((this.#ledger.last + 1) as Sequence, toSeq, this.#latest);
    }
    this.#options.listener.snapshot?.(trades, toSeq);
  }

  #skip(gap: Gap): void {
    const { from, to, why } = gap;
    if (why === "epoch" && this.#hello !== undefined && this.#ledger !== undefined && to < this.#ledger.last) {
      // The tape lost its end, with trades that were shown here: their numbers are given to others now.
      this.#begin(this.#hello, new Ledger((to + 1) as Sequence), true);
    } else {
      this.#ledger?.announce(from, to);
    }
    this.#missed(from, to, why);
  }

  #refused(error: ErrorMessage): void {
    if (!this.#requests.refuse(error.id, error.message)) {
      this.#options.listener.noticed(`The gateway refused a request: ${error.message} (${error.code})`);
    }
  }

  /**
   * Counts silence on a timer of its own rather than comparing times: a page that was frozen (a sleeping laptop, a
   * throttled tab) wakes up with one beat counted, reads what waited in the socket, and needs no new connection.
   */
  #superviseHeartbeat(intervalMs: number): void {
    this.#silentHalfBeats = 0;
    const beat = (): void => {
      this.#silentHalfBeats++;
      if (this.#silentHalfBeats >= LOST_HALF_BEATS) {
        this.#abandon("The gateway fell silent");
        return;
      }
      if (this.#silentHalfBeats >= STALE_HALF_BEATS && this.#link.state === "live") {
        this.#change("stale", "Nothing heard from the gateway");
      }
      this.#timers.set("beat", intervalMs / 2, beat);
    };
    this.#timers.set("beat", intervalMs / 2, beat);
  }

  #ping(): void {
    this.#send({ type: "ping", t: wallNow() });
    this.#timers.set("ping", this.#timing.pingMs, () => this.#ping());
  }

  /** Gives up a connection without waiting for its closing handshake, which a dead one would never finish. */
  #abandon(why: string): void {
    this.#drop(CLOSE.heartbeatLost, why);
    this.#plan(why, 0);
  }

  #closed(code: number, reason: string): void {
    const bye = this.#bye;
    this.#drop(undefined, "Connection lost");
    const why = bye?.reason || reason || (code === 1006 ? "Connection lost" : `Closed with code ${code}`);
    if (shouldReconnect(bye?.code ?? code) && shouldReconnect(code)) this.#plan(why, bye?.retryAfterMs ?? 0);
    else this.#change("closed", why);
  }

  #plan(why: string, leastMs: number): void {
    const waitMs = leastMs + fullJitterMs(this.#attempt++, this.#timing.backoff, this.#random);
    this.#change("reconnecting", why, (wallNow() + waitMs) as WallMs);
    this.#timers.set("retry", waitMs, () => this.start());
  }

  /** Ends what belongs to the connection; without a code it is closed already. */
  #drop(code: number | undefined, why: string): void {
    this.#timers.clearAll();
    this.#granted = false;
    this.#subscription = undefined;
    const socket = this.#socket;
    this.#socket = undefined;
    if (code !== undefined) socket?.close(code, why);
    this.#requests.refuseAll(why);
  }

  #send(message: ClientMessage): void {
    this.#socket?.send(JSON.stringify(message));
  }

  #change(state: LinkState, why: string, retryAt?: WallMs): void {
    if (state === this.#link.state && why === this.#link.why && retryAt === this.#link.retryAt) return;
    this.#link = { state, why, retryAt };
    this.#options.listener.linkChanged(this.#link);
  }
}

/** Whether two subscriptions are to the same trades; rate and stages may differ. */
function sameTrades(a: Wanted, b: Wanted): boolean {
  const part = ({ mode = "tape", instruments, status }: Wanted) => JSON.stringify([mode, instruments, status]);
  return part(a) === part(b);
}
