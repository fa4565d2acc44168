// The frame around the pages: navigation, the state of the connection, and what opens on top.

import { useEffect, useRef } from "preact/hooks";
import { formatAge, formatCount, formatMs, formatRate, NONE } from "../base/format.ts";
import { EXCHANGE_ZONES } from "../base/zones.ts";
import type { HubState } from "../hub/messages.ts";
import { type App, PAGES, type PageName, routeHash, type Theme } from "./app.ts";
import { HelpDialog } from "./dialogs/help.tsx";
import { TickDialog } from "./dialogs/tick.tsx";
import { WhyPanel } from "./dialogs/why.tsx";
import { type Honest, honest } from "./honest.ts";
import { BlotterPage } from "./pages/blotter.tsx";
import { InstrumentPage } from "./pages/instrument.tsx";
import { PipelinePage } from "./pages/pipeline.tsx";
import { RejectsPage } from "./pages/rejects.tsx";
import { RulesPage } from "./pages/rules.tsx";
import { WatchlistPage } from "./pages/watchlist.tsx";
import { icons } from "./parts/icons.tsx";
import { Spark } from "./parts/spark.tsx";

const VIEWS: Readonly<Record<PageName, (props: { app: App }) => preact.JSX.Element>> = {
  blotter: BlotterPage,
  watchlist: WatchlistPage,
  instrument: InstrumentPage,
  rejects: RejectsPage,
  rules: RulesPage,
  pipeline: PipelinePage,
};

/** Pages that scroll as a whole, so that keys must reach them; the others hold a grid, which is the one tab stop. */
const SCROLLING: ReadonlySet<PageName> = new Set(["instrument", "rejects", "rules", "pipeline"]);

export function Shell({ app }: { app: App }) {
  const { page, trade } = app.route.value;
  const Page = VIEWS[page];
  const title = PAGES.find((known) => known.name === page)?.title ?? "";
  const state = app.state.value;
  const link = honest(state, Date.now());
  useEffect(() => {
    document.title = link.word === "live" ? `${title} · tickcast` : `${link.word} · ${title} · tickcast`;
  }, [title, link.word]);
  useSpoken(app, link);
  useKeys(app);
  return (
    <div class="shell">
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to content
      </button>
      <Rail app={app} page={page} />
      <Bar app={app} state={state} link={link} title={title} />
      <main id="main" class="main" tabIndex={SCROLLING.has(page) ? 0 : -1} data-page={page}>
        <Page app={app} />
      </main>
      {trade !== "" && <WhyPanel app={app} trade={trade} key={trade} />}
      {app.help.value && <HelpDialog app={app} />}
      {app.trying.value && <TickDialog app={app} />}
      <div class="hidden" role="status" aria-live="polite" data-testid="live-region">
        {app.said.value}
      </div>
    </div>
  );
}

function Rail({ app, page }: { app: App; page: PageName }) {
  return (
    <nav class="rail" aria-label="Pages">
      <a class="brand" href="#/blotter" aria-label="tickcast">
        <img src="./favicon.svg" alt="" width="28" height="28" />
      </a>
      <ul>
        {PAGES.map(({ name, title }) => {
          const Icon = icons[name];
          return (
            <li key={name}>
              <a
                href={routeHash({ page: name })}
                aria-current={name === page ? "page" : undefined}
                data-testid={`nav-${name}`}
              >
                <Icon />
                <span>{title}</span>
              </a>
            </li>
          );
        })}
      </ul>
      <div class="rail-foot">
        <button
          type="button"
          class="rail-button"
          onClick={() => cycleTheme(app)}
          aria-label={`Theme: ${app.theme.value}`}
          title={`Theme: ${app.theme.value}`}
          data-testid="theme"
        >
          <icons.theme />
        </button>
        <button
          type="button"
          class="rail-button"
          onClick={() => {
            app.help.value = true;
          }}
          aria-label="Keys and help"
          title="Keys and help (?)"
          data-testid="help-button"
        >
          <icons.help />
        </button>
      </div>
    </nav>
  );
}

const NEXT_THEME: Readonly<Record<Theme, Theme>> = { system: "dark", dark: "light", light: "system" };

function cycleTheme(app: App): void {
  app.theme.value = NEXT_THEME[app.theme.value];
  app.say(`Theme: ${app.theme.value}`, true);
}

function Bar({ app, state, link, title }: { app: App; state: HubState | undefined; link: Honest; title: string }) {
  const known = link.word === "live" || link.word === "lagging";
  const source = known ? (state?.source?.state ?? "unknown") : "unknown";
  return (
    <header class="bar">
      <h1>{title}</h1>
      <p class="pill" data-testid="link" data-state={link.word} title={link.why}>
        <span class="dot" aria-hidden="true" />
        <span class="pill-name">Gateway</span>
        <span data-testid="link-text">{link.word}</span>
      </p>
      <p class="pill" data-testid="source" data-state={source} title={state?.source?.source ?? ""}>
        <span class="dot" aria-hidden="true" />
        <span class="pill-name">Source</span>
        <span data-testid="source-text">{source}</span>
      </p>
      <p class="bar-detail" data-testid="link-detail">
        {link.why}
      </p>
      {(link.word === "closed" || state?.link.retryAt !== undefined) && (
        <button type="button" class="button" data-testid="retry" onClick={() => app.feed.start()}>
          Connect now
        </button>
      )}
      <dl class="facts-row">
        <div class="fact" title="Newest sequence that has come, and the age of the last sign of life">
          <dt>Sequence</dt>
          <dd>
            <span data-testid="last-seq">
              {state !== undefined && state.accounts.last > 0 ? formatCount(state.accounts.last) : NONE}
            </span>
            <small data-testid="heard-age"> {link.ageMs === undefined ? "" : formatAge(link.ageMs)}</small>
          </dd>
        </div>
        <div
          class="fact"
          title={`Sent by the gateway → taken here, median and 99th percentile of the last 10 s. ${offsetText(state)}`}
        >
          <dt>Wire</dt>
          <dd data-testid="wire-p50">{formatMs(state?.wire.p50)}</dd>
        </div>
        <div class="fact fact-wide">
          <dt>Trades/s</dt>
          <dd>
            <span data-testid="rate">{formatRate(state?.perSecond ?? 0)}</span>
            <Spark values={state?.history ?? []} label="Trades per second over the last minute" />
          </dd>
        </div>
      </dl>
      <label class="zone">
        <span class="hidden">Time zone</span>
        <select
          value={app.zoneName.value}
          onChange={(event) => {
            app.zoneName.value = event.currentTarget.value;
          }}
          data-testid="zone"
        >
          <option value="local">Local time</option>
          <optgroup label="Exchange time">
            {EXCHANGE_ZONES.map(({ zone, name }) => (
              <option value={zone} key={zone}>
                {name}
              </option>
            ))}
          </optgroup>
        </select>
      </label>
    </header>
  );
}

function offsetText(state: HubState | undefined): string {
  const offset = state?.offset;
  if (offset === undefined) return "The clocks have not been compared yet.";
  return `The server's clock is taken to be ${offset.ms.toFixed(2)} ± ${offset.uncertaintyMs.toFixed(2)} ms ahead.`;
}

/** Changes of the connection are said; figures are not. */
function useSpoken(app: App, link: Honest): void {
  const before = useRef("");
  useEffect(() => {
    if (before.current !== "" && before.current !== link.word) app.say(`Gateway ${link.word}`, true);
    before.current = link.word;
  }, [app, link.word]);
}

function useKeys(app: App): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || inField(event.target)) return;
      if (event.key === "?") app.help.value = true;
      else if (event.key === "Escape" && app.route.value.trade !== "") app.openTrade("");
      else if (event.key === "t") app.trying.value = true;
      else if (/^[1-6]$/.test(event.key)) app.go({ page: PAGES[Number(event.key) - 1]?.name ?? "blotter" });
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [app]);
}

/** Whether keys belong to a field and not to the page. */
export function inField(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName))
  );
}
