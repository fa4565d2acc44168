import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { type Dictionaries, parseFrame } from "../src/frame.ts";
import { ProtocolError, parseMessage } from "../src/parse.ts";

const GOLDEN = new URL("../../../tests/golden/frames/", import.meta.url);
const names = readdirSync(GOLDEN)
  .filter((name) => name.endsWith(".bin"))
  .map((name) => name.slice(0, -4));

interface Golden {
  readonly hello: {
    readonly instruments: string[];
    readonly reasons: string[];
    readonly enrichments: { name: string }[];
  };
  readonly message: unknown;
  readonly instruments: string[];
  readonly reasons: string[];
}

const golden = (name: string): Golden => JSON.parse(readFileSync(new URL(`${name}.json`, GOLDEN), "utf8"));

function bytes(name: string): ArrayBuffer {
  const file = readFileSync(new URL(`${name}.bin`, GOLDEN));
  return file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength) as ArrayBuffer;
}

const dictionaries = ({ hello }: Golden): Dictionaries => ({
  instruments: [...hello.instruments],
  reasons: [...hello.reasons],
});

describe("a frame", () => {
  it.each(names)("%s says what its JSON says", (name) => {
    const expected = golden(name);
    const enrichments = expected.hello.enrichments.map((one) => one.name);
    const known = dictionaries(expected);
    const message = parseFrame(bytes(name), known, enrichments.length);
    const same = parseMessage(JSON.stringify(expected.message), enrichments);
    if (same?.type !== "trades" && same?.type !== "snapshot") throw new Error("no trades");
    const { trades, ...about } = message;
    const { trades: sameTrades, ...sameAbout } = same;
    expect(about).toEqual(sameAbout);
    expect([...trades]).toEqual([...sameTrades]);
    expect([...trades.seq]).toEqual([...sameTrades.seq]);
    expect(known).toEqual({ instruments: expected.instruments, reasons: expected.reasons });
  });

  it.each(names)("%s, cut or changed anywhere, is refused or read, and nothing else happens", (name) => {
    const whole = new Uint8Array(bytes(name));
    const expected = golden(name);
    const attempt = (part: Uint8Array) => {
      try {
        parseFrame(part.slice().buffer, dictionaries(expected), expected.hello.enrichments.length);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
      }
    };
    for (let end = 0; end < whole.length; end++) attempt(whole.subarray(0, end));
    for (let at = 0; at < whole.length; at++) {
      for (const value of [0, 1, 0x7f, 0xff]) {
        if (at >= 4 && at < 8 && value > 1) continue; // a count of billions only asks for memory
        const changed = whole.slice();
        changed[at] = value;
        attempt(changed);
      }
    }
  });
});
