// Asks for a verdict on a tick that somebody types in.

import { useSignal } from "@preact/signals";
import type { Trade } from "@tickcast/client";
import { formatInt64, formatPrice, formatVwap } from "../../base/format.ts";
import { readTick } from "../../model/tickInput.ts";
import type { App } from "../app.ts";
import { Modal } from "../parts/modal.tsx";
import { statusText } from "../parts/tradeCells.ts";

export function TickDialog({ app }: { app: App }) {
  const trade = useSignal<Trade | undefined>(undefined);
  const problem = useSignal("");
  const waiting = useSignal(false);
  const close = () => {
    app.trying.value = false;
  };
  const send = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(form.get(name) ?? "");
    const tick = readTick(text("instrument"), text("price"), text("volume"));
    trade.value = undefined;
    problem.value = "why" in tick ? tick.why : "";
    if ("why" in tick) return;
    waiting.value = true;
    try {
      trade.value = await app.feed.judge(tick.instrumentId, tick.price, tick.volume);
    } catch (error) {
      problem.value = error instanceof Error ? error.message : String(error);
    } finally {
      waiting.value = false;
    }
  };
  const verdict = trade.value;
  return (
    <Modal title="Ask for a verdict" close={close} testId="tick-dialog">
      <form class="form" onSubmit={send} data-testid="tick-form" noValidate>
        <label>
          Instrument
          <input
            name="instrument"
            data-testid="tick-instrument"
            list="instruments"
            autocomplete="off"
            spellcheck={false}
            required
          />
        </label>
        <datalist id="instruments">
          {[...app.feed.quotes.keys()].slice(0, 500).map((name) => (
            <option value={name} key={name} />
          ))}
        </datalist>
        <div class="pair">
          <label>
            Price
            <input name="price" data-testid="tick-price" inputMode="decimal" autocomplete="off" required />
          </label>
          <label>
            Volume
            <input name="volume" data-testid="tick-volume" inputMode="numeric" autocomplete="off" required />
          </label>
        </div>
        <button type="submit" class="button primary" data-testid="tick-send" disabled={waiting.value}>
          Judge it
        </button>
        <p class="hint">
          Judged now by the same rules as the stream, answered to you alone. It enters no window and reaches nobody
          else.
        </p>
      </form>
      <div
        class="verdict"
        data-testid="verdict"
        data-status={verdict?.status ?? (problem.value === "" ? "NONE" : "ERROR")}
        role="status"
      >
        {verdict !== undefined && (
          <>
            <p class="verdict-status">{statusText(verdict.status)}</p>
            <p data-testid="verdict-reason">{verdict.reason ?? ""}</p>
            <p class="hint">
              {verdict.instrumentId} {formatPrice(verdict.price)} × {formatInt64(verdict.volume)}
              {verdict.vwap20m === undefined ? "" : ` · VWAP ${formatVwap(verdict.vwap20m)}`}
            </p>
          </>
        )}
        {problem.value !== "" && <p data-testid="verdict-problem">{problem.value}</p>}
      </div>
    </Modal>
  );
}
