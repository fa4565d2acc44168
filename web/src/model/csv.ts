// Rows as CSV (RFC 4180), for spreadsheets.

/** A text that a spreadsheet would take for a formula. */
const FORMULA = /^[=+\-@\t\r]/;

/** Returns lines with CRLF; fields are quoted where they need it, and what looks like a formula is made a text. */
export function toCsv(header: readonly string[], rows: Iterable<readonly string[]>): string {
  let text = `${header.map(field).join(",")}\r\n`;
  for (const row of rows) text += `${row.map(field).join(",")}\r\n`;
  return text;
}

function field(value: string): string {
  const safe = FORMULA.test(value) && Number.isNaN(Number(value)) ? `'${value}` : value;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
