// @tickcast/client: connect, subscribe, resume, decode. See the README beside `src`.

export { wallNow } from "./clock.ts";
export { CLOSE, CLOSE_NORMAL, SUBPROTOCOLS, shouldReconnect } from "./codes.ts";
export { type ColumnData, idText, seqAt, TradeColumns, tradeAt, writeId } from "./columns.ts";
export { type Dictionaries, parseFrame } from "./frame.ts";
export { Ledger } from "./ledger.ts";
export type { Link, LinkState } from "./link.ts";
export type { Enrichment, Hello, ServerMessage, SourceStatus, StageTimes, Trade, Verdict } from "./messages.ts";
export {
  type Epoch,
  type Int64Text,
  int64Text,
  type Nominal,
  type Sequence,
  STATUS_OF_CODE,
  STATUSES,
  type Status,
  type WallMs,
  wallMsOfNs,
} from "./nominal.ts";
export type { Offset } from "./offset.ts";
export { ProtocolError, parseMessage, trade as parseTrade } from "./parse.ts";
export { type Delivery, Session, type SessionListener, type SessionOptions, type Wanted } from "./session.ts";
export { type OpenSocket, openWebSocket, type Socket, type SocketHandlers, socketUrl } from "./socket.ts";
export { TIMING, type Timing } from "./timing.ts";
