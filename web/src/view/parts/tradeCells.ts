// How a trade's fields are written in a grid; the same in every one.

import { type ColumnData, idText, STATUS_OF_CODE } from "@tickcast/client";
import { formatCount, formatFixed, formatInt64, formatPercent, NONE } from "../../base/format.ts";
import type { Zone } from "../../base/zones.ts";
import { distance } from "../../model/selection.ts";
import type { GridColumn } from "./grid.ts";

/** The blotter's columns; those of enrichments come after. */
export const TRADE_COLUMNS: readonly GridColumn[] = [
  { id: "seq", title: "Seq", hint: "Number on the tape", width: 92, right: true, sortable: true, priority: 7 },
  { id: "time", title: "Time", hint: "Event time", width: 108, sortable: true, priority: 2 },
  { id: "instrument", title: "Instrument", width: 104, sortable: true, priority: 0 },
  {
    id: "price",
    title: "Price",
    hint: "Beside it: ▲ above, ▼ below the instrument's VALID price before",
    width: 104,
    right: true,
    sortable: true,
    priority: 0,
  },
  { id: "volume", title: "Volume", width: 92, right: true, sortable: true, priority: 4 },
  { id: "vwap", title: "VWAP 20 min", width: 108, right: true, sortable: true, priority: 5 },
  { id: "distance", title: "To VWAP", hint: "Price over VWAP", width: 88, right: true, sortable: true, priority: 6 },
  { id: "status", title: "Status", width: 96, sortable: true, priority: 0 },
  { id: "reason", title: "Reason", width: 150, grows: true, sortable: true, priority: 3 },
  { id: "tradeId", title: "Trade id", width: 270, mono: true, priority: 8 },
];

/** On a phone, where nobody chose. */
export const NARROW_COLUMNS: readonly GridColumn[] = [
  {
    id: "instrument",
    title: "Instrument",
    width: 108,
    sortable: true,
    priority: 0,
    second: { id: "time", title: "Time", width: 0, sortable: true, priority: 0 },
  },
  {
    id: "price",
    title: "Price",
    width: 100,
    right: true,
    sortable: true,
    priority: 0,
    second: { id: "volume", title: "Volume", width: 0, sortable: true, priority: 0 },
  },
  {
    id: "status",
    title: "Status",
    width: 130,
    grows: true,
    sortable: true,
    priority: 0,
    second: { id: "note", title: "Reason, or to VWAP", width: 0, priority: 0 },
  },
];

/** Columns that are shown where nobody chose. */
export const USUAL_COLUMNS: readonly string[] = TRADE_COLUMNS.map((column) => column.id).filter(
  (id) => id !== "tradeId",
);

const GLYPHS: Readonly<Record<string, string>> = { VALID: "✓", INVALID: "✕", UNKNOWN: "?" };

/** Returns glyph and word. */
export function statusText(status: string): string {
  return `${GLYPHS[status] ?? "?"} ${status}`;
}

/** Returns the text of a cell. */
export function tradeText(column: string, rows: ColumnData, slot: number, decimals: number, zone: Zone): string {
  switch (column) {
    case "seq":
      return formatCount(rows.seq[slot] as number);
    case "time":
      return zone.clock(Number(rows.timestampNs[slot]) / 1e6);
    case "instrument":
      return rows.instrument[slot] as string;
    case "price":
      return formatFixed(rows.price[slot] as number, decimals);
    case "volume":
      return formatInt64(String(rows.volume[slot]) as Parameters<typeof formatInt64>[0]);
    case "vwap":
      return formatFixed(rows.vwap[slot] as number, Math.min(8, decimals + 2));
    case "distance":
      return formatPercent(distance(rows.price[slot] as number, rows.vwap[slot] as number));
    case "status":
      return statusText(STATUS_OF_CODE[rows.status[slot] as number] as string);
    case "reason":
      return rows.reason[slot] as string;
    case "note": {
      const reason = rows.reason[slot] as string;
      return reason === "" ? `${tradeText("distance", rows, slot, decimals, zone)} to VWAP` : reason;
    }
    case "tradeId":
      return idText(rows.id, slot);
    default:
      return enrichmentText(column, rows, slot);
  }
}

function enrichmentText(column: string, rows: ColumnData, slot: number): string {
  const value = rows.enrichments[Number(column.slice(1))]?.[slot] ?? Number.NaN;
  if (!Number.isFinite(value)) return NONE;
  return formatFixed(value, Math.abs(value) >= 1000 ? 0 : 4);
}

/** Returns a cell for a file: bare digits, a point, ISO time. */
export function exportText(column: string, rows: ColumnData, slot: number): string {
  switch (column) {
    case "seq":
      return String(rows.seq[slot]);
    case "time":
      return `${rows.timestampNs[slot]}`;
    case "price":
      return number(rows.price[slot]);
    case "volume":
      return String(rows.volume[slot]);
    case "vwap":
      return number(rows.vwap[slot]);
    case "distance":
      return number(distance(rows.price[slot] as number, rows.vwap[slot] as number));
    case "status":
      return STATUS_OF_CODE[rows.status[slot] as number] as string;
    case "instrument":
      return rows.instrument[slot] as string;
    case "reason":
      return rows.reason[slot] as string;
    case "tradeId":
      return idText(rows.id, slot);
    default:
      return number(rows.enrichments[Number(column.slice(1))]?.[slot]);
  }
}

/** Head of a column in a file. */
export function exportTitle(column: GridColumn): string {
  return column.id === "time" ? "timestamp_ns" : column.id.startsWith("+") ? column.title : column.id;
}

function number(value: number | undefined): string {
  return value === undefined || !Number.isFinite(value) ? "" : String(value);
}
