// A status in words. Glyph and colour stand in the style sheet; the words alone already tell them apart.

import type { Status } from "../protocol/messages";

const GLYPHS: Readonly<Record<Status, string>> = { VALID: "✓", INVALID: "✕", UNKNOWN: "?" };

/** Returns glyph and word. */
export function statusText(status: Status): string {
  return `${GLYPHS[status]} ${status}`;
}
