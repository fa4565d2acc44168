// The rules: what they cost, what they refuse, and whether they are well.

import { useRef } from "preact/hooks";
import { formatCount, formatMs, NONE } from "../../base/format.ts";
import type { RuleRow, RulesAnswer } from "../api.ts";
import { type App, routeHash } from "../app.ts";
import { useApi } from "../parts/useApi.ts";

const EVERY_MS = 1000;

interface Sample {
  readonly atMs: number;
  readonly seconds: ReadonlyMap<string, number>;
}

export function RulesPage({ app }: { app: App }) {
  const { value, error } = useApi<RulesAnswer>("rules", EVERY_MS).value;
  const shares = useShares(value);
  return (
    <div class="page page-rules">
      <div class="tools" role="toolbar" aria-label="Rules">
        <p class="headline">
          <b data-testid="rule-set">{value === undefined ? NONE : value.ruleSet}</b>
        </p>
        <p class="muted prose">{value?.policy ? `where a rule is unavailable: ${value.policy}` : ""}</p>
        <span class="grow" />
        <button
          type="button"
          class="button"
          onClick={() => {
            app.trying.value = true;
          }}
          data-testid="try"
        >
          Ask for a verdict <kbd>t</kbd>
        </button>
      </div>
      {error !== "" && <p class="problem">{error}</p>}
      {/* Nothing below stands before it is known how high the table is. */}
      {value !== undefined && <Known value={value} shares={shares} app={app} />}
    </div>
  );
}

function Known({ value, shares, app }: { value: RulesAnswer; shares: ReadonlyMap<string, number>; app: App }) {
  return (
    <>
      <section class="card table-card" aria-label="Rules">
        <table class="table rules-table" data-testid="rules">
          <thead>
            <tr>
              <th scope="col">Rule</th>
              <th scope="col">Kind</th>
              <th scope="col" class="right">
                Per tick
              </th>
              <th scope="col" class="right">
                Per batch
              </th>
              <th scope="col">Share of a CPU</th>
              <th scope="col" class="right">
                Ticks
              </th>
              <th scope="col" class="right">
                Rejects
              </th>
              <th scope="col" class="right">
                Errors
              </th>
              <th scope="col">Breaker</th>
              <th scope="col">Mode</th>
            </tr>
          </thead>
          <tbody>
            {value.rules.map((rule) => (
              <Rule key={rule.name} rule={rule} share={shares.get(rule.name)} />
            ))}
          </tbody>
        </table>
        {value.rules.length === 0 && (
          <p class="muted">
            No rule set: ticks are judged by the screen alone. <code>--rules module:attribute</code> names one.
          </p>
        )}
      </section>
      <section class="card" aria-label="Breakers">
        <h2>Breakers that are not closed</h2>
        <ul class="rows" data-testid="breakers">
          {value.breakers.map((breaker) => (
            <li key={`${breaker.rule} ${breaker.instrument}`} class="breaker">
              <span data-breaker={breaker.state}>{breaker.state}</span>
              <b>{breaker.rule}</b>
              <span>{breaker.instrument ?? "all instruments"}</span>
              <span class="reason">{breaker.why}</span>
              <time>since {app.zone.value.clock(breaker.sinceNs / 1e6)}</time>
            </li>
          ))}
        </ul>
        {value.breakers.length === 0 && <p class="muted">All closed: every rule is asked about every instrument.</p>}
      </section>
      <p class="hint">
        Times are of the rule's own code, since the processor started; the share of a CPU is of the last seconds, over
        all workers. What a rule in shadow says is counted and decides nothing. The version stands behind the name of
        the rule set: of its source where it has none of its own.
      </p>
    </>
  );
}

function Rule({ rule, share }: { rule: RuleRow; share: number | undefined }) {
  const { seconds = 0, rows = 0, calls = 0 } = rule;
  const breaker = rule.breaker ?? "closed";
  const { mode } = rule;
  return (
    <tr data-testid="rule" data-rule={rule.name}>
      <th scope="row">
        {mode === "shadow" || rule.kind === "enrich" ? (
          rule.name
        ) : (
          <a href={routeHash({ page: "rejects", of: rule.name })} title="What it refused">
            {rule.name}
          </a>
        )}
      </th>
      <td data-label="Kind">{rule.kind ?? NONE}</td>
      <td class="right" data-label="Per tick">
        {rows === 0 ? NONE : formatMicros((seconds / rows) * 1e6)}
      </td>
      <td class="right" data-label="Per batch">
        {calls === 0 ? NONE : formatMs((seconds / calls) * 1000)}
      </td>
      <td data-label="CPU">
        <span class="meter">
          <span class="meter-fill" style={{ width: `${Math.min(100, 100 * (share ?? 0))}%` }} />
        </span>
        <span class="meter-text">{share === undefined ? NONE : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`}</span>
      </td>
      <td class="right" data-label="Ticks">
        {formatCount(rows)}
      </td>
      <td class="right" data-label="Rejects" data-testid="rule-rejects">
        <span>
          {rule.rejects === undefined ? NONE : formatCount(rule.rejects)}
          {mode === "shadow" && <small> would be</small>}
        </span>
      </td>
      <td class="right" data-label="Errors" data-alert={(rule.raised ?? 0) > 0}>
        {formatCount(rule.raised ?? 0)}
      </td>
      <td data-label="Breaker">
        <span data-breaker={breaker}>{breaker}</span>
      </td>
      <td data-label="Mode">
        <span data-mode={mode}>{mode ?? NONE}</span>
      </td>
    </tr>
  );
}

function formatMicros(us: number): string {
  return us < 1000 ? `${us.toFixed(us < 10 ? 2 : 1)} µs` : formatMs(us / 1000);
}

/** Returns, for each rule, seconds of CPU in a second, between the last two answers. */
function useShares(answer: RulesAnswer | undefined): ReadonlyMap<string, number> {
  const last = useRef<{ answer: RulesAnswer; sample: Sample; shares: ReadonlyMap<string, number> } | undefined>(
    undefined,
  );
  if (answer !== undefined && last.current?.answer !== answer) {
    const sample: Sample = {
      atMs: performance.now(),
      seconds: new Map(answer.rules.map((rule) => [rule.name, rule.seconds ?? 0])),
    };
    const before = last.current?.sample;
    const shares = new Map<string, number>();
    if (before !== undefined) {
      for (const [name, seconds] of sample.seconds) {
        const more = seconds - (before.seconds.get(name) ?? 0);
        shares.set(name, Math.max(0, more) / ((sample.atMs - before.atMs) / 1000));
      }
    }
    last.current = { answer, sample, shares };
  }
  return last.current?.shares ?? new Map();
}
