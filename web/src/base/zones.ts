// Time of day in a zone, fast enough for every row of every frame.

const HOUR_MS = 3_600_000;

/** Where exchanges keep their clocks, by IANA name. */
export const EXCHANGE_ZONES: readonly { readonly zone: string; readonly name: string }[] = [
  { zone: "UTC", name: "UTC" },
  { zone: "America/New_York", name: "New York" },
  { zone: "America/Chicago", name: "Chicago" },
  { zone: "Europe/London", name: "London" },
  { zone: "Europe/Berlin", name: "Frankfurt" },
  { zone: "Europe/Zurich", name: "Zurich" },
  { zone: "Asia/Tokyo", name: "Tokyo" },
  { zone: "Asia/Hong_Kong", name: "Hong Kong" },
  { zone: "Asia/Singapore", name: "Singapore" },
  { zone: "Australia/Sydney", name: "Sydney" },
];

/** A zone's clock. `undefined` is the zone of the machine. */
export class Zone {
  readonly name: string | undefined;
  readonly #format: Intl.DateTimeFormat;
  #hour = Number.NaN;
  #offsetMs = 0;

  constructor(name: string | undefined) {
    this.name = name;
    this.#format = new Intl.DateTimeFormat("en-US", {
      ...(name === undefined ? {} : { timeZone: name }),
      hourCycle: "h23",
      year: "numeric",
      month: "numeric",
      day: "numeric",
      hour: "numeric",
      minute: "numeric",
      second: "numeric",
    });
  }

  /** Returns how far the zone's clock is ahead of UTC at a time, milliseconds. Zones change at full quarters, so it is kept for one. */
  offsetMs(ms: number): number {
    const quarter = Math.floor(ms / (HOUR_MS / 4));
    if (quarter !== this.#hour) {
      this.#hour = quarter;
      const part: Record<string, number> = {};
      for (const { type, value } of this.#format.formatToParts(quarter * (HOUR_MS / 4))) part[type] = Number(value);
      const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = part;
      this.#offsetMs = Date.UTC(year, month - 1, day, hour, minute, second) - quarter * (HOUR_MS / 4);
    }
    return this.#offsetMs;
  }

  /** Returns the time of day to the millisecond. */
  clock(ms: number): string {
    if (!Number.isFinite(ms)) return "–";
    const local = Math.floor(ms + this.offsetMs(ms));
    const day = ((local % 86_400_000) + 86_400_000) % 86_400_000;
    const seconds = Math.floor(day / 1000);
    return `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}.${String(day % 1000).padStart(3, "0")}`;
  }

  /** Returns date and time of day to the millisecond. */
  full(ms: number): string {
    if (!Number.isFinite(ms)) return "–";
    const local = new Date(Math.floor(ms + this.offsetMs(ms)));
    return Number.isNaN(local.getTime()) ? "–" : `${local.toISOString().slice(0, 10)} ${this.clock(ms)}`;
  }
}

const TWO = Array.from({ length: 60 }, (_, n) => String(n).padStart(2, "0"));

function two(n: number): string {
  return TWO[n] as string;
}
