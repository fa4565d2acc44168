// Why a trade was judged as it was, and whether it would be today.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import {
  formatCount,
  formatInt64,
  formatMs,
  formatPrice,
  formatQuantity,
  formatTimestampNs,
  formatVwap,
  NONE,
} from "../../base/format.ts";
import type { Rejudged, RulesAnswer, Why } from "../api.ts";
import { type App, api, routeHash } from "../app.ts";
import { icons } from "../parts/icons.tsx";
import { statusText } from "../parts/tradeCells.ts";
import { useApi } from "../parts/useApi.ts";

type Int64 = Parameters<typeof formatInt64>[0];

export function WhyPanel({ app, trade }: { app: App; trade: string }) {
  const path = /^\d{1,16}$/.test(trade) ? `trades/${trade}/why` : `trades/id/${encodeURIComponent(trade)}`;
  const { value: why, error } = useApi<Why>(path).value;
  const panel = useRef<HTMLElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    panel.current?.focus();
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <aside class="drawer" ref={panel} tabIndex={-1} aria-label="Why" data-testid="why">
      <div class="drawer-head">
        <h2>Why</h2>
        {why !== undefined && <CopyLink app={app} id={why.trade.tradeId} />}
        <button type="button" class="icon-button" aria-label="Close" onClick={() => app.openTrade("")}>
          <icons.close />
        </button>
      </div>
      {why === undefined && (
        <p class={error === "" ? "muted" : "problem"}>{error === "" ? "Looking on the tape …" : error}</p>
      )}
      {why !== undefined && <Explained app={app} why={why} />}
    </aside>
  );
}

function CopyLink({ app, id }: { app: App; id: string }) {
  const copy = () => {
    const url = new URL(routeHash({ page: "blotter", trade: id }), document.baseURI).href;
    navigator.clipboard?.writeText(url).then(
      () => app.say("Link copied", true),
      () => app.say("Not copied: the browser forbids it", true),
    );
  };
  return (
    <button type="button" class="button quiet" onClick={copy}>
      <icons.link /> <span>Copy link</span>
    </button>
  );
}

function Explained({ app, why }: { app: App; why: Why }) {
  const { trade } = why;
  return (
    <div class="drawer-body">
      <p class="verdict-line" data-status={trade.status}>
        <b data-testid="why-status">{statusText(trade.status)}</b>
        <span data-testid="why-reason">{trade.reason ?? "Passed the screen and every rule"}</span>
      </p>
      <dl class="facts">
        <Fact name="Instrument">
          <a href={routeHash({ page: "instrument", of: trade.instrumentId })}>{trade.instrumentId}</a>
        </Fact>
        <Fact name="Price">{formatPrice(trade.price)}</Fact>
        <Fact name="Volume">{formatInt64(trade.volume as Int64)}</Fact>
        {trade.vwap20m !== undefined && <Fact name="VWAP 20 min, with it">{formatVwap(trade.vwap20m)}</Fact>}
        <Fact name="VWAP the rules saw">{why.rulesVwap === null ? "none" : formatVwap(why.rulesVwap)}</Fact>
        <Fact name="Event time">
          <span class="prose">{formatTimestampNs(trade.timestampNs as Int64)}</span>
        </Fact>
        <Fact name="Sequence">{formatCount(why.seq)}</Fact>
        <Fact name="Trade id">
          <code>{trade.tradeId}</code>
        </Fact>
        <Fact name="Rule set">{why.ruleSet ?? "none"}</Fact>
        {(why.stamped || why.late) && (
          <Fact name="Marks">
            {[why.stamped && "stamped on arrival", why.late && "late"].filter(Boolean).join(", ")}
          </Fact>
        )}
      </dl>
      <Outcomes why={why} />
      <Now why={why} key={why.seq} />
      <h3>On its way</h3>
      <dl class="facts">
        <Fact name="Waiting and decoding">{formatMs(why.stagesUs.decode / 1000)}</Fact>
        <Fact name="Rules">{formatMs(why.stagesUs.rules / 1000)}</Fact>
        <Fact name="Enrichments and VWAP">{formatMs(why.stagesUs.enrich / 1000)}</Fact>
        <Fact name="Onto the tape">{formatMs(why.stagesUs.tape / 1000)}</Fact>
      </dl>
      <p class="hint">{app.feed.state?.epoch === why.epoch ? "" : "Of another epoch than the stream."}</p>
    </div>
  );
}

function Fact({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** The first failure gives the reason, so what stood before it passed and what stands after it was not asked. */
function Outcomes({ why }: { why: Why }) {
  const { value: now } = useApi<RulesAnswer>("rules").value;
  // Which are in shadow is known of the rule set of now alone.
  const shadow = new Set(
    now?.ruleSet === why.ruleSet ? now?.rules.filter((rule) => rule.mode === "shadow").map((rule) => rule.name) : [],
  );
  const checks = ["screen", ...why.rules];
  const failed = why.rule === null ? -1 : checks.indexOf(why.rule);
  return (
    <>
      <h3>Rules, in the order they are asked</h3>
      <table class="outcomes">
        <thead>
          <tr>
            <th scope="col">Rule</th>
            <th scope="col">Outcome</th>
            <th scope="col" class="right">
              Observed
            </th>
            <th scope="col" class="right">
              Limit
            </th>
          </tr>
        </thead>
        <tbody>
          {checks.map((name, i) => {
            const outcome =
              i === failed
                ? why.trade.status === "UNKNOWN"
                  ? "unavailable"
                  : "refused"
                : failed >= 0 && i > failed
                  ? "not asked"
                  : shadow.has(name)
                    ? "in shadow"
                    : "passed";
            return (
              <tr key={name} data-outcome={outcome}>
                <th scope="row">{name}</th>
                <td>{outcome}</td>
                <td class="right">{i === failed ? formatQuantity(why.observed) : NONE}</td>
                <td class="right">{i === failed ? formatQuantity(why.limit) : NONE}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
      <p class="hint">
        The tape keeps observed value and limit of the rule that refused
        {shadow.size > 0 && ", and nothing of rules in shadow, which decide nothing"}.
      </p>
    </>
  );
}

function Now({ why }: { why: Why }) {
  const now = useSignal<Rejudged | undefined>(undefined);
  const problem = useSignal("");
  const ask = async () => {
    problem.value = "";
    try {
      now.value = await api<Rejudged>(`trades/${why.seq}/rejudge`, undefined, { method: "POST" });
    } catch (error) {
      problem.value = error instanceof Error ? error.message : String(error);
    }
  };
  const verdict = now.value;
  return (
    <section class="now">
      <h3>Would it pass with the rules of now?</h3>
      <div class="now-row">
        <button type="button" class="button" onClick={ask} data-testid="rejudge">
          <icons.flask /> <span>Ask the rules</span>
        </button>
        <div role="status" data-testid="rejudged" data-status={verdict?.status ?? "NONE"}>
          {verdict !== undefined && (
            <>
              <b>{statusText(verdict.status)}</b> {verdict.reason ?? "passes"}
              <small>
                {verdict.rule === null
                  ? ""
                  : `${verdict.rule}: ${formatQuantity(verdict.observed)} against ${formatQuantity(verdict.limit)} · `}
                {verdict.ruleSet}
              </small>
            </>
          )}
          {problem.value}
        </div>
      </div>
      <p class="hint">
        The same tick, with the VWAP that the rules saw then, judged by the rules that run now. Nothing is written.
      </p>
    </section>
  );
}
