// Close codes of `/ws/marketdata`. The same table stands in docs/protocol.md and in the gateway's codes.py.

/** What to offer for each form; the gateway takes the first that it has. */
export const SUBPROTOCOLS = {
  json: ["tickcast.v1.json"],
  bin: ["tickcast.v1.bin", "tickcast.v1.json"],
} as const;

/** Why a connection was closed: 4000–4499 come back, 4500–4999 don't. */
export const CLOSE = {
  /** The gateway is going down or was replaced; another takes over. */
  draining: 4000,
  /** The client read too slowly, even conflated. */
  tooSlow: 4001,
  /** Nothing was heard from the other side for too long; either side may close with it. */
  heartbeatLost: 4002,
  /** A message that the other side could not read. */
  badRequest: 4500,
  /** Credentials are missing or not accepted. */
  unauthorized: 4501,
  /** A subprotocol, mode or option that this gateway does not have. */
  unsupported: 4502,
} as const;

/** Standard code of a closure that is neither side's fault. */
export const CLOSE_NORMAL = 1000;

/** Says whether a client that was closed with this code should connect again. Codes of others' (1006: lost) should. */
export function shouldReconnect(code: number): boolean {
  return code < 4500 || code > 4999;
}
