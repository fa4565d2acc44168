// One instrument: price and VWAP over time, volume, and what was refused, marked where it was.

import { useSignal } from "@preact/signals";
import { tradeAt } from "@tickcast/client";
import { useEffect, useRef } from "preact/hooks";
import { formatCount, formatFixed, formatPercent, formatPrice, formatRate, NONE } from "../../base/format.ts";
import { distance } from "../../model/selection.ts";
import type { Activity, ApiTrade, Found } from "../api.ts";
import { type App, api, routeHash } from "../app.ts";
import type { Chart } from "../parts/chart.ts";
import { statusText } from "../parts/tradeCells.ts";
import { useApi } from "../parts/useApi.ts";

/** Trades of the instrument that the chart begins with. */
const HISTORY = 5_000;

export function InstrumentPage({ app }: { app: App }) {
  const names = [...app.feed.quotes.keys()].sort();
  const of = app.route.value.of || names[0] || "";
  const state = app.state.value;
  const quote = app.feed.quotes.get(of);
  const decimals = app.feed.decimals.of(of);
  const { value: activity } = useApi<Activity>("activity", 1000).value;
  const row = activity?.instruments.indexOf(of) ?? -1;
  return (
    <div class="page page-instrument">
      <div class="tools" role="toolbar" aria-label="Instrument">
        <label class="field">
          <span class="hidden">Instrument</span>
          <select
            value={of}
            data-testid="instrument"
            onChange={(event) => app.go({ page: "instrument", of: event.currentTarget.value })}
          >
            {!names.includes(of) && <option value={of}>{of === "" ? "none yet" : of}</option>}
            {names.map((name) => (
              <option value={name} key={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <p class="headline" data-stale={state?.link.state !== "live"}>
          <b
            data-testid="last"
            data-move={
              quote === undefined
                ? "same"
                : quote.last > quote.previous
                  ? "up"
                  : quote.last < quote.previous
                    ? "down"
                    : "same"
            }
          >
            {quote === undefined ? NONE : formatFixed(quote.last, decimals)}
          </b>
        </p>
        <dl class="facts-row">
          <Figure name="Change">
            {quote === undefined ? NONE : formatPercent(quote.last / (activity?.first[row] ?? Number.NaN) - 1)}
          </Figure>
          <Figure name="VWAP 20 min">
            {quote === undefined ? NONE : formatFixed(quote.vwap, Math.min(8, decimals + 2))}
          </Figure>
          <Figure name="To VWAP">{quote === undefined ? NONE : formatPercent(distance(quote.last, quote.vwap))}</Figure>
          <Figure name="Volume 20 min">{row < 0 ? NONE : formatCount(Number(activity?.volume[row]))}</Figure>
          <Figure name="Trades/s">{row < 0 ? NONE : formatRate(activity?.perSecond[row] ?? 0)}</Figure>
          <Figure name="Rejects">{row < 0 ? NONE : formatCount(activity?.rejects[row] ?? 0)}</Figure>
        </dl>
      </div>
      {of === "" ? <p class="empty">No trades yet</p> : <InstrumentChart app={app} of={of} key={of} />}
      {of !== "" && <RecentRejects app={app} of={of} />}
    </div>
  );
}

function Figure({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return (
    <div class="fact">
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function InstrumentChart({ app, of }: { app: App; of: string }) {
  const host = useRef<HTMLDivElement>(null);
  const problem = useSignal("");
  const points = useSignal(0);
  const marks = useSignal(0);
  useEffect(() => {
    const stop = new AbortController();
    const box: { chart?: Chart } = {};
    let leave = () => undefined as unknown;
    const begin = async () => {
      const { Chart } = await import("../parts/chart.ts"); // its library is the largest part of the page
      const found = await api<Found>(`search?instrument=${encodeURIComponent(of)}&limit=${HISTORY}`, stop.signal);
      if (stop.signal.aborted || host.current === null) return;
      const chart = new Chart(host.current, app.feed.decimals.of(of), (ms) => app.zone.peek().clock(ms));
      box.chart = chart;
      const history = [...found.trades].reverse();
      let last = found.seqs[0] ?? 0;
      chart.load(history);
      points.value = history.length;
      marks.value = chart.marks;
      let seen = app.feed.store.first;
      const follow = () => {
        const { store } = app.feed;
        const fresh: ApiTrade[] = [];
        for (let row = Math.max(seen, store.first); row < store.end; row++) {
          const slot = store.slot(row);
          if (store.columns.instrument[slot] !== of || (store.columns.seq[slot] as number) <= last) continue;
          last = store.columns.seq[slot] as number;
          const { reason, vwap20m, ...trade } = tradeAt(store.columns, slot);
          fresh.push({
            ...trade,
            ...(reason === undefined ? {} : { reason }),
            ...(vwap20m === undefined ? {} : { vwap20m }),
          });
        }
        seen = store.end;
        if (fresh.length > 0) chart.add(fresh);
        points.value += fresh.length;
        marks.value = chart.marks;
      };
      follow();
      leave = app.feed.subscribe({ began: () => undefined, frame: follow, stateChanged: () => undefined });
    };
    begin().catch((error: unknown) => {
      if (!stop.signal.aborted) problem.value = error instanceof Error ? error.message : String(error);
    });
    return () => {
      stop.abort();
      leave();
      box.chart?.close();
    };
  }, [app, of, problem, points, marks]);
  useEffect(() => {
    // The chart reads the theme's colours when it is told to.
    host.current?.dispatchEvent(new Event("themechange"));
  }, [app.theme.value]);
  return (
    <section class="card chart-card" aria-label={`Price and VWAP of ${of}`}>
      <p class="legend" aria-hidden="true">
        <span data-series="price">Price</span>
        <span data-series="vwap">VWAP 20 min</span>
        <span data-series="volume">Volume</span>
        <span data-series="reject">■ Rejected</span>
        <span data-series="reject">▲▼ Rejected, off the scale</span>
      </p>
      <div
        class="chart"
        ref={host}
        data-testid="chart"
        data-points={points.value}
        data-marks={marks.value}
        role="img"
        aria-label={`Price and 20-minute VWAP of ${of}, a point a second, with ${points.value} trades`}
      />
      {problem.value !== "" && <p class="problem">{problem.value}</p>}
    </section>
  );
}

function RecentRejects({ app, of }: { app: App; of: string }) {
  const { value, error } = useApi<Found>(
    `search?instrument=${encodeURIComponent(of)}&status=INVALID&limit=50`,
    3000,
  ).value;
  return (
    <section class="card list-card" aria-labelledby="recent-rejects">
      <h2 id="recent-rejects">Rejected lately</h2>
      {error !== "" && <p class="problem">{error}</p>}
      <ul class="rows">
        {(value?.trades ?? []).map((trade, i) => (
          // By place: a row stays where it is and shows another trade, rather than move down.
          <li key={i}>
            <a href={routeHash({ page: "instrument", of, trade: trade.tradeId })}>
              <time>{app.zone.value.clock(Number(trade.timestampNs) / 1e6)}</time>
              <b>{formatPrice(trade.price)}</b>
              <span data-status={trade.status}>{statusText(trade.status)}</span>
              <span class="reason">{trade.reason}</span>
              <small>{value?.rules[i] ?? ""}</small>
            </a>
          </li>
        ))}
      </ul>
      {value !== undefined && value.trades.length === 0 && <p class="muted">None on the tape</p>}
    </section>
  );
}
