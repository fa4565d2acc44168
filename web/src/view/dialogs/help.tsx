import type { App } from "../app.ts";
import { Modal } from "../parts/modal.tsx";

const KEYS: readonly (readonly [string, string])[] = [
  ["1 … 6", "Pages"],
  ["/", "Filter by instrument"],
  ["Space", "Pause and go on"],
  ["↑ ↓ Page Home End", "Choose a row"],
  ["w or Enter", "Why was it judged so"],
  ["c", "Copy the row"],
  ["e", "Export what is shown as CSV"],
  ["t", "Ask for a verdict on a tick"],
  ["Esc", "Close"],
  ["?", "This help"],
];

export function HelpDialog({ app }: { app: App }) {
  const close = () => {
    app.help.value = false;
  };
  return (
    <Modal title="Keys" close={close} testId="help">
      <dl class="keys-list">
        {KEYS.map(([key, what]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <p class="hint">
        ▲ and ▼ beside a price: above or below the instrument's VALID price before. Statuses have a glyph each: ✓ VALID,
        ✕ INVALID, ? UNKNOWN.
      </p>
    </Modal>
  );
}
