// The little of a WebSocket that a session uses, so that tests can put their own in its place.

/** What a session hears of its connection. */
export interface SocketHandlers {
  /** A message came: text, or what else the other side sent. */
  received(data: unknown): void;
  /** The connection ended, or never came about. The last call. */
  closed(code: number, reason: string): void;
}

export interface Socket {
  send(text: string): void;
  /** Closes; the handlers are not called any more. */
  close(code: number, reason: string): void;
}

export type OpenSocket = (url: string, subprotocols: readonly string[], handlers: SocketHandlers) => Socket;

/** Opens the browser's own. */
export const openWebSocket: OpenSocket = (url, subprotocols, handlers) => {
  const socket = new WebSocket(url, [...subprotocols]);
  socket.binaryType = "arraybuffer";
  socket.onmessage = (event) => handlers.received(event.data);
  socket.onclose = (event) => handlers.closed(event.code, event.reason);
  return {
    send: (text) => socket.send(text),
    close: (code, reason) => {
      socket.onmessage = null;
      socket.onclose = null;
      socket.close(code, reason);
    },
  };
};

/** Returns the address of a path beside the page: `ws:` for a page on `http:`, `wss:` for one on `https:`. */
export function socketUrl(path: string, page: string): string {
  const url = new URL(path, page);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = "";
  url.hash = "";
  return url.href;
}
