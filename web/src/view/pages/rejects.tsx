// What was refused: by reason, by rule, by instrument, over time.

import { useSignal } from "@preact/signals";
import { formatCount, formatPrice, NONE } from "../../base/format.ts";
import type { Counted, Found, Rejects } from "../api.ts";
import { type App, routeHash } from "../app.ts";
import { icons } from "../parts/icons.tsx";
import { statusText } from "../parts/tradeCells.ts";
import { useApi } from "../parts/useApi.ts";

interface Choice {
  readonly reason: string;
  readonly rule: string;
  readonly instrument: string;
}

const NOTHING: Choice = { reason: "", rule: "", instrument: "" };
const LIST = 200;

/** Series of their own in the chart; the rest is one. */
const SERIES = 6;

export function RejectsPage({ app }: { app: App }) {
  const choice = useSignal({ ...NOTHING, rule: app.route.peek().of });
  const query = new URLSearchParams(Object.entries(choice.value).filter(([, value]) => value !== "")).toString();
  const { value: rejects, error } = useApi<Rejects>(`rejects?${query}`, 2000).value;
  const { value: found } = useApi<Found>(`search?status=INVALID&limit=${LIST}&${query}`, 2000).value;
  const pick = (more: Partial<Choice>) => {
    choice.value = { ...choice.value, ...more };
  };
  const chosen = Object.entries(choice.value).filter(([, value]) => value !== "") as [keyof Choice, string][];
  return (
    <div class="page page-rejects">
      <div class="tools" role="toolbar" aria-label="Rejects">
        <p class="headline total">
          <b data-testid="rejects-total">{rejects === undefined ? NONE : formatCount(rejects.rejects)}</b>
        </p>
        <p class="muted total-of">
          {rejects === undefined
            ? "Looking through the tape …"
            : `of ${formatCount(rejects.trades)} trades on the tape were refused`}
          {rejects !== undefined &&
            rejects.trades > 0 &&
            ` · ${((100 * rejects.rejects) / rejects.trades).toFixed(2)} %`}
        </p>
        <span class="grow" />
        {chosen.map(([key, value]) => (
          <button
            type="button"
            class="chip"
            key={key}
            onClick={() => pick({ [key]: "" })}
            aria-label={`Remove ${key} ${value}`}
          >
            {key}: <b>{value}</b> <icons.close />
          </button>
        ))}
      </div>
      {error !== "" && <p class="problem">{error}</p>}
      {/* Nothing below stands before it is known how high it is. */}
      {rejects !== undefined && (
        <>
          <section class="card" aria-label="Rejects over time">
            <Timeline app={app} rejects={rejects} />
          </section>
          <div class="thirds">
            <Breakdown
              title="By reason"
              testId="by-reason"
              rows={rejects?.reasons}
              pick={(reason) => pick({ reason })}
              coloured
            />
            <Breakdown title="By rule" testId="by-rule" rows={rejects?.rules} pick={(rule) => pick({ rule })} />
            <Breakdown
              title="By instrument"
              testId="by-instrument"
              rows={rejects?.instruments}
              pick={(instrument) => pick({ instrument })}
            />
          </div>
          <section class="card list-card" aria-labelledby="newest-rejects">
            <h2 id="newest-rejects">Newest</h2>
            <ul class="rows" data-testid="reject-list">
              {(found?.trades ?? []).map((trade, i) => (
                // By place: a row stays where it is and shows another trade, rather than move down.
                <li key={i}>
                  <a
                    href={routeHash({ page: "rejects", of: app.route.value.of, trade: trade.tradeId })}
                    data-testid="reject"
                  >
                    <time>{app.zone.value.clock(Number(trade.timestampNs) / 1e6)}</time>
                    <b>{trade.instrumentId}</b>
                    <b class="right">{formatPrice(trade.price)}</b>
                    <span data-status={trade.status}>{statusText(trade.status)}</span>
                    <span class="reason">{trade.reason}</span>
                    <small>{found?.rules[i] ?? ""}</small>
                  </a>
                </li>
              ))}
            </ul>
            {found !== undefined && found.trades.length === 0 && (
              <p class="muted">Nothing on the tape was refused{chosen.length > 0 ? " that is like this" : ""}.</p>
            )}
          </section>
        </>
      )}
    </div>
  );
}

function Breakdown({
  title,
  testId,
  rows,
  pick,
  coloured = false,
}: {
  title: string;
  testId: string;
  rows: readonly Counted[] | undefined;
  pick: (name: string) => void;
  coloured?: boolean;
}) {
  const most = Math.max(1, ...(rows ?? []).map((row) => row.count));
  return (
    <section class="card" aria-label={title}>
      <h2>{title}</h2>
      <ul class="bars" data-testid={testId}>
        {(rows ?? []).slice(0, 8).map((row, i) => (
          <li key={row.name}>
            <button type="button" onClick={() => pick(row.name)} title={row.name}>
              <span
                class="bar-fill"
                data-series={coloured ? Math.min(i, SERIES) : undefined}
                style={{ width: `${(100 * row.count) / most}%` }}
              />
              <span class="bar-name">{row.name === "" ? "(none)" : row.name}</span>
              <b>{formatCount(row.count)}</b>
            </button>
          </li>
        ))}
      </ul>
      {rows !== undefined && rows.length === 0 && <p class="muted">None</p>}
    </section>
  );
}

function Timeline({ app, rejects }: { app: App; rejects: Rejects | undefined }) {
  const times = rejects?.times ?? [];
  const series = rejects?.reasons ?? [];
  const totals = times.map((_, t) => series.reduce((sum, one) => sum + (one.counts[t] ?? 0), 0));
  const most = Math.max(1, ...totals);
  const width = 100 / Math.max(1, times.length);
  const zone = app.zone.value;
  const clock = (t: number) => zone.clock((times[t] ?? 0) * 1000).slice(0, 8);
  return (
    <figure class="timeline">
      <svg
        viewBox="0 0 100 40"
        preserveAspectRatio="none"
        role="img"
        aria-label={`Rejects in buckets of ${rejects?.bucketS ?? 0} s, at most ${most} in one`}
      >
        {times.map((time, t) => {
          let below = 0;
          return (
            <g key={time}>
              {series.map((one, s) => {
                const height = (38 * (one.counts[t] ?? 0)) / most;
                if (height === 0) return null;
                below += height;
                return (
                  <rect
                    key={one.name}
                    data-series={Math.min(s, SERIES)}
                    x={t * width + width * 0.1}
                    width={width * 0.8}
                    y={40 - below}
                    height={height}
                  />
                );
              })}
            </g>
          );
        })}
      </svg>
      <figcaption>
        <span>{times.length > 0 ? clock(0) : ""}</span>
        <span>{rejects === undefined ? "" : `${rejects.bucketS} s a bar · most ${formatCount(most)}`}</span>
        <span>{times.length > 0 ? clock(times.length - 1) : ""}</span>
      </figcaption>
    </figure>
  );
}
