// The way of a tick from the source to this screen: how long each stage takes, who is at work, what was lost.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { formatAge, formatBytes, formatCount, formatMs, formatRate, NONE } from "../../base/format.ts";
import { SlidingQuantiles } from "../../base/quantiles.ts";
import type { HubState, Spread } from "../../hub/messages.ts";
import type { Board, StatusAnswer } from "../api.ts";
import type { App } from "../app.ts";
import { useApi } from "../parts/useApi.ts";

interface Stage {
  readonly name: string;
  readonly hint: string;
  readonly p50: number | undefined;
  readonly p99: number | undefined;
}

const NOTHING: Spread = { p50: undefined, p99: undefined };

const STAGES_SHOWN: readonly {
  readonly name: string;
  readonly hint: string;
  readonly of: (state: HubState | undefined, paint: Spread) => Spread;
}[] = [
  {
    name: "Decode",
    hint: "Coming in → decoded and at the rules, waiting included",
    of: (state) => state?.stages.decode ?? NOTHING,
  },
  {
    name: "Rules",
    hint: "The user's rules, queues before workers included",
    of: (state) => state?.stages.rules ?? NOTHING,
  },
  { name: "Enrich", hint: "VWAP and enrichments", of: (state) => state?.stages.enrich ?? NOTHING },
  { name: "Tape", hint: "Written to the tape", of: (state) => state?.stages.tape ?? NOTHING },
  { name: "Send", hint: "On the tape → in a frame for this browser", of: (state) => state?.stages.send ?? NOTHING },
  { name: "Wire", hint: "Frame made → taken by this browser", of: (state) => state?.wire ?? NOTHING },
  { name: "Paint", hint: "Taken by this browser → painted on this page", of: (_, paint) => paint },
];

export function PipelinePage({ app }: { app: App }) {
  const { value: status, error } = useApi<StatusAnswer>("status", 1000).value;
  const paint = usePaint(app);
  const state = app.state.value;
  const board = status?.board;
  const counters = board?.counters ?? {};
  const rows: readonly Stage[] = STAGES_SHOWN.map(({ name, hint, of }) => ({ name, hint, ...of(state, paint) }));
  const offset = state?.offset;
  // Nothing stands before it is known how high the tables are.
  if (status === undefined && error === "") return <div class="page page-pipeline" />;
  return (
    <div class="page page-pipeline">
      {error !== "" && <p class="problem">{error}</p>}
      <div class="tiles">
        <Tile
          name="Processor"
          value={status?.readiness.processor ?? NONE}
          sub={board?.pid === undefined ? "" : `pid ${board.pid} · up ${upFor(board.startedNs)}`}
          testId="processor"
          state={status?.readiness.processor}
        />
        <Tile
          name="Source"
          value={board?.source?.state ?? NONE}
          sub={board?.source?.detail || board?.source?.url || ""}
          testId="source-tile"
          state={board?.source?.state}
        />
        <Tile
          name="Trades/s"
          value={formatRate(state?.perSecond ?? 0)}
          sub={`${formatCount(counters.ticks ?? 0)} since the start`}
        />
        <Tile
          name="Tick → page"
          value={recorded(state?.age.p50)}
          sub={`p99 ${recorded(state?.age.p99)}`}
          testId="age"
        />
        <Tile
          name="Clients"
          value={formatCount(status?.gateway.clients ?? 0)}
          sub={state?.pages === 1 ? "1 tab on this connection" : `${state?.pages ?? 0} tabs on this connection`}
          testId="clients"
        />
        <Tile
          name="Dead letters"
          value={formatCount(counters.undecodable ?? 0)}
          sub={`${formatCount(counters.lost ?? 0)} lost by the source`}
          alert={(counters.undecodable ?? 0) + (counters.lost ?? 0) > 0}
          testId="dead-letters"
        />
      </div>
      <section class="card" aria-label="Latency, stage by stage">
        <h2>Latency of this page, stage by stage</h2>
        <Waterfall stages={rows} />
        <p class="hint clock" data-testid="clock">
          {offset === undefined
            ? "The clocks have not been compared yet."
            : `The server's clock is ${Math.abs(offset.ms).toFixed(2)} ms ${offset.ms < 0 ? "behind" : "ahead of"} this browser's, to within ${offset.uncertaintyMs.toFixed(2)} ms, by pings; the wire stage can be off by as much.`}
        </p>
        <p class="hint">
          Bars are medians, thin lines 99th percentiles; each stage begins where the median of the one before ends.
        </p>
      </section>
      <Partitions partitions={board?.partitions ?? []} />
      <div class="halves">
        <section class="card" aria-label="This connection">
          <h2>This connection</h2>
          <dl class="facts">
            <Fact name="Epoch" testId="epoch">
              {state?.epoch || NONE}
            </Fact>
            <Fact name="Server">{state?.hello?.server ?? NONE}</Fact>
            <Fact name="Newest sequence">{formatCount(state?.accounts.last ?? 0)}</Fact>
            <Fact name="Received">{formatCount(state?.accounts.received ?? 0)}</Fact>
            <Fact name="In gaps, announced">
              {formatCount((state?.accounts.gapped ?? 0) - (state?.accounts.leftOut ?? 0))}
            </Fact>
            <Fact name="Missing, unannounced">{formatCount(state?.accounts.missing ?? 0)}</Fact>
            <Fact name="Duplicates dropped">{formatCount(state?.accounts.duplicates ?? 0)}</Fact>
            <Fact name="Connections so far">{formatCount(state?.connections ?? 0)}</Fact>
            <Fact name="Shared between tabs">
              {state?.shared === true ? "yes" : "no: this browser has no SharedWorker"}
            </Fact>
          </dl>
          {(state?.missed ?? []).length > 0 && (
            <ul class="rows" aria-label="Missed">
              {state?.missed.map((missed) => (
                <li key={missed.from} class="breaker">
                  <time>{app.zone.value.clock(missed.atMs)}</time>
                  <b>{formatCount(missed.to - missed.from + 1)}</b>
                  <span class="reason">{missed.why}</span>
                  <span>
                    {formatCount(missed.from)} – {formatCount(missed.to)}
                  </span>
                </li>
              ))}
            </ul>
          )}
        </section>
        <section class="card" aria-label="Processor">
          <h2>Workers, sinks, windows</h2>
          <table class="table">
            <thead>
              <tr>
                <th scope="col">Worker</th>
                <th scope="col">Role</th>
                <th scope="col">State</th>
                <th scope="col" class="right">
                  Replaced
                </th>
              </tr>
            </thead>
            <tbody data-testid="workers">
              {(board?.workers ?? []).map((worker) => (
                <tr key={worker.pid}>
                  <th scope="row">{worker.pid}</th>
                  <td>{worker.role ?? "worker"}</td>
                  <td>{worker.state}</td>
                  <td class="right">{worker.respawns}</td>
                </tr>
              ))}
            </tbody>
          </table>
          {board?.workers?.length === 0 && (
            <p class="muted">No rule workers: there are no rules, or they run in line.</p>
          )}
          <dl class="facts">
            <Fact name="Source">{board?.source?.detail || board?.source?.url || NONE}</Fact>
            {(board?.sinks ?? []).map((sink) => (
              <Fact key={sink.url} name={sink.url}>
                {sink.state}, {formatCount(sink.lag)} behind
              </Fact>
            ))}
            <Fact name="Held in windows">
              {formatCount(board?.window?.held ?? 0)} trades, {formatBytes(board?.window?.bytes ?? 0)}
            </Fact>
            <Fact name="Late ticks">{formatCount(counters.late ?? 0)}</Fact>
            <Fact name="Without a time, stamped on arrival">{formatCount(counters.stamped ?? 0)}</Fact>
            <Fact name="Gaps sent to clients">{formatCount(status?.gateway.counters.gaps ?? 0)}</Fact>
            <Fact name="Clients cut off">{formatCount(status?.gateway.counters.evicted ?? 0)}</Fact>
            <Fact name="Pump's cycle">{formatMs((status?.gateway.cycleUs ?? 0) / 1000)}</Fact>
          </dl>
        </section>
      </div>
    </div>
  );
}

/** Sources that are no log have none. */
function Partitions({ partitions }: { partitions: NonNullable<Board["partitions"]> }) {
  if (partitions.length === 0) return null;
  const most = Math.max(1, ...partitions.map(({ lag }) => lag ?? 0));
  const sum = partitions.reduce((total, { lag }) => total + (lag ?? 0), 0);
  return (
    <section class="card" aria-label="Lag of the source">
      <h2>Behind the source: {formatCount(sum)} messages</h2>
      <ul class="lags" data-testid="lags">
        {partitions.map(({ name, lag }) => (
          <li key={name} data-testid="lag" data-partition={name} data-lag={lag ?? ""}>
            <span>{name}</span>
            <span class="meter" aria-hidden="true">
              <span class="meter-fill" style={{ width: `${(100 * (lag ?? 0)) / most}%` }} />
            </span>
            <b>{lag === null ? NONE : formatCount(lag)}</b>
          </li>
        ))}
      </ul>
      <p class="hint">
        Messages of each partition that this processor reads and has not handed out, by its last fetch.
      </p>
    </section>
  );
}

/** Ages of a minute and more are no latency: the ticks were recorded earlier, or carry somebody else's clock. */
function recorded(ms: number | undefined): string {
  return ms !== undefined && ms > 60_000 ? "recorded" : formatMs(ms);
}

function upFor(startedNs: number | undefined): string {
  return startedNs === undefined ? NONE : formatAge(Date.now() - startedNs / 1e6);
}

function Tile({
  name,
  value,
  sub,
  testId,
  state,
  alert = false,
}: {
  name: string;
  value: string;
  sub: string;
  testId?: string;
  state?: string | undefined;
  alert?: boolean;
}) {
  return (
    <div class="tile" data-alert={alert} data-state={state}>
      <h2>{name}</h2>
      <p class="figure" data-testid={testId}>
        {value}
      </p>
      <p class="sub" title={sub}>
        {sub}
      </p>
    </div>
  );
}

function Fact({ name, children, testId }: { name: string; children: preact.ComponentChildren; testId?: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd data-testid={testId}>{children}</dd>
    </div>
  );
}

function Waterfall({ stages }: { stages: readonly Stage[] }) {
  const total = stages.reduce((sum, stage) => sum + (stage.p50 ?? 0), 0);
  let before = 0;
  const placed = stages.map((stage) => {
    const start = before;
    before += stage.p50 ?? 0;
    return { ...stage, start };
  });
  const end = Math.max(0.001, ...placed.map((stage) => stage.start + (stage.p99 ?? stage.p50 ?? 0)));
  const at = (ms: number) => `${(100 * ms) / end}%`;
  return (
    <table class="waterfall" data-testid="waterfall">
      <thead>
        <tr>
          <th scope="col">Stage</th>
          <th scope="col" class="right">
            Median
          </th>
          <th scope="col" class="right">
            p99
          </th>
          <th scope="col" class="wide">
            <span class="hidden">Time line</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {placed.map((stage, i) => (
          <tr key={stage.name} data-testid="stage" data-stage={stage.name.toLowerCase()}>
            <th scope="row" title={stage.hint}>
              {stage.name}
            </th>
            <td class="right">{formatMs(stage.p50)}</td>
            <td class="right">{formatMs(stage.p99)}</td>
            <td class="wide">
              {/* Drawn, not laid out: bars that grow with every figure are no shift of the layout. */}
              <svg class="track" aria-hidden="true">
                <rect class="whisker" x={at(stage.start)} y="7" style={{ width: at(stage.p99 ?? 0) }} height="2" />
                <rect
                  class="span"
                  data-series={i}
                  x={at(stage.start)}
                  y="3"
                  style={{ width: `max(2px, ${at(stage.p50 ?? 0)})` }}
                  height="10"
                  rx="3"
                />
              </svg>
            </td>
          </tr>
        ))}
      </tbody>
      <tfoot>
        <tr>
          <th scope="row">Sum</th>
          <td class="right" data-testid="total">
            {formatMs(total)}
          </td>
          <td />
          <td class="wide" />
        </tr>
      </tfoot>
    </table>
  );
}

/** Received by the hub → painted, over the last ten seconds. */
function usePaint(app: App): Spread {
  const spread = useSignal(NOTHING);
  useEffect(() => {
    const quantiles = new SlidingQuantiles(10);
    let last = 0;
    return app.feed.subscribe({
      began: () => quantiles.clear(),
      frame: () => {
        const { painted } = app.feed; // of the frame before: this one is being painted
        if (painted === undefined || painted.paintedMs === last) return;
        last = painted.paintedMs;
        quantiles.add(painted.paintedMs - painted.receivedMs, performance.now());
      },
      stateChanged: () => {
        const [p50, p99] = quantiles.at([0.5, 0.99], performance.now());
        spread.value = { p50, p99 };
      },
    });
  }, [app, spread]);
  return spread.value;
}
