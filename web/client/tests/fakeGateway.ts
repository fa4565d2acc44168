// The other end of a session's sockets, in the test's hands.

import type { ClientMessage } from "../src/messages.ts";
import type { OpenSocket, SocketHandlers } from "../src/socket.ts";

/** One connection as the gateway sees it. */
export class FakeConnection {
  readonly sent: ClientMessage[] = [];
  readonly subprotocols: readonly string[];
  /** Code with which the page closed it; `undefined` while it is open. */
  closedWith: number | undefined;
  readonly #handlers: SocketHandlers;

  constructor(subprotocols: readonly string[], handlers: SocketHandlers) {
    this.subprotocols = subprotocols;
    this.#handlers = handlers;
  }

  say(message: unknown): void {
    const data = typeof message === "string" || message instanceof ArrayBuffer ? message : JSON.stringify(message);
    this.#handlers.received(data);
  }

  drop(code: number, reason = ""): void {
    this.#handlers.closed(code, reason);
  }

  /** Messages of one type that the page sent. */
  asked<T extends ClientMessage["type"]>(type: T): Extract<ClientMessage, { type: T }>[] {
    return this.sent.filter((message): message is Extract<ClientMessage, { type: T }> => message.type === type);
  }
}

export class FakeGateway {
  readonly connections: FakeConnection[] = [];

  readonly open: OpenSocket = (_url, subprotocols, handlers) => {
    const connection = new FakeConnection(subprotocols, handlers);
    this.connections.push(connection);
    return {
      send: (text) => connection.sent.push(JSON.parse(text) as ClientMessage),
      close: (code) => {
        connection.closedWith = code;
      },
    };
  };

  /** The newest connection. */
  get now(): FakeConnection {
    const connection = this.connections.at(-1);
    if (connection === undefined) throw new Error("nobody connected");
    return connection;
  }

  /** Greets the newest connection and grants what it asks for. */
  welcome(epoch: string, seq: number, heartbeatMs = 1000): FakeConnection {
    this.now.say({
      type: "hello",
      epoch,
      seq,
      heartbeatMs,
      instruments: [],
      reasons: [],
      enrichments: [],
      server: "t",
    });
    this.now.say({ type: "subscribed", id: this.now.asked("subscribe").at(-1)?.id, granted: {} });
    return this.now;
  }
}
