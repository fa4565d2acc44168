// What every part of the page shares: the feed, settings, the route, and what is open on top.

import { computed, effect, signal } from "@preact/signals";
import { Zone } from "../base/zones.ts";
import type { Feed } from "../hub/feed.ts";
import type { HubState, Need } from "../hub/messages.ts";

export type PageName = "blotter" | "watchlist" | "instrument" | "rejects" | "rules" | "pipeline";

export interface Route {
  readonly page: PageName;
  /** What follows the page's name: the instrument. */
  readonly of: string;
  /** Id or sequence of a trade that is open. */
  readonly trade: string;
}

export const PAGES: readonly { readonly name: PageName; readonly title: string }[] = [
  { name: "blotter", title: "Blotter" },
  { name: "watchlist", title: "Watchlist" },
  { name: "instrument", title: "Instrument" },
  { name: "rejects", title: "Rejects" },
  { name: "rules", title: "Rules" },
  { name: "pipeline", title: "Pipeline" },
];

/** Returns the route that an address's hash names; anything unknown is the blotter. */
export function parseRoute(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [name = "", of = ""] = path.split("/");
  const page = PAGES.find((known) => known.name === name)?.name ?? "blotter";
  return { page, of: decode(of), trade: new URLSearchParams(query).get("trade") ?? "" };
}

/** Returns what a page shows of the stream. */
export function needOf(page: PageName): Need {
  if (page === "watchlist") return "quotes";
  if (page === "pipeline") return "stages";
  return page === "rejects" || page === "rules" ? "either" : "trades";
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Returns the address of a route. */
export function routeHash({ page, of = "", trade = "" }: Partial<Route> & { page: PageName }): string {
  const path = of === "" ? page : `${page}/${encodeURIComponent(of)}`;
  return trade === "" ? `#/${path}` : `#/${path}?trade=${encodeURIComponent(trade)}`;
}

export type Theme = "dark" | "light" | "system";

function kept<T extends string>(key: string, otherwise: T, allowed: (value: string) => boolean) {
  const name = `tickcast.${key}`;
  let first: string = otherwise;
  try {
    first = localStorage.getItem(name) ?? otherwise;
  } catch {
    // Storage is forbidden: settings last as long as the page.
  }
  const value = signal<T>((allowed(first) ? first : otherwise) as T);
  effect(() => {
    try {
      localStorage.setItem(name, value.value);
    } catch {
      // As above.
    }
  });
  return value;
}

export class App {
  readonly feed: Feed;
  readonly route = signal<Route>(parseRoute(location.hash));
  /** The newest state of the hub; changes four times a second. */
  readonly state = signal<HubState | undefined>(undefined);
  readonly theme = kept<Theme>("theme", "system", (value) => ["dark", "light", "system"].includes(value));
  /** IANA name, or `local`. */
  readonly zoneName = kept<string>("zone", "local", isZone);
  readonly zone = computed(() => new Zone(this.zoneName.value === "local" ? undefined : this.zoneName.value));
  /** Ids of the blotter's columns, joined by commas; empty: the usual ones. */
  readonly columns = kept<string>("columns", "", () => true);
  readonly help = signal(false);
  readonly trying = signal(false);
  /** Said to screen readers, politely. */
  readonly said = signal("");
  #saidAt = Number.NEGATIVE_INFINITY;

  constructor(feed: Feed) {
    this.feed = feed;
    addEventListener("hashchange", () => {
      this.route.value = parseRoute(location.hash);
    });
    const need = computed(() => needOf(this.route.value.page));
    effect(() => feed.need(need.value));
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const show = () => {
      const theme = this.theme.value === "system" ? (dark.matches ? "dark" : "light") : this.theme.value;
      document.documentElement.dataset.theme = theme;
    };
    effect(show);
    dark.addEventListener("change", show);
    feed.subscribe({
      began: () => undefined,
      frame: () => undefined,
      stateChanged: () => {
        this.state.value = feed.state;
      },
    });
  }

  /** Goes somewhere; the browser's back button comes back. */
  go(route: Partial<Route> & { page: PageName }): void {
    location.hash = routeHash(route);
  }

  /** Opens a trade over what is shown, or closes it. */
  openTrade(trade: string): void {
    this.go({ ...this.route.value, trade });
  }

  /** Tells screen readers something, at most once in five seconds; what is `urgent` (a change of state) always. */
  say(text: string, urgent = false): void {
    const now = performance.now();
    if (!urgent && now - this.#saidAt < 5000) return;
    this.#saidAt = now;
    this.said.value = text;
  }
}

function isZone(name: string): boolean {
  if (name === "local") return true;
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

/** Returns what an API answers; rejects with its words where it refuses. */
export async function api<T>(path: string, signal?: AbortSignal, init?: RequestInit): Promise<T> {
  const asked = { ...init, ...(signal ? { signal } : {}) };
  const response = await fetch(new URL(`api/${path}`, document.baseURI), asked).catch((error: unknown) => {
    // What browsers say of it differs, and tells a desk nothing.
    throw error instanceof TypeError ? new Error("The gateway does not answer") : error;
  });
  if (!response.ok) {
    const body: unknown = await response.json().catch(() => undefined);
    const detail = (body as { detail?: unknown } | undefined)?.detail;
    throw new Error(typeof detail === "string" ? detail : `${response.status} ${response.statusText}`);
  }
  return (await response.json()) as T;
}
