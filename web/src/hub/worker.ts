// The worker's shell: a hub, and the ports of the pages. Runs as a SharedWorker where there is one, else as a Worker.

import { openWebSocket } from "@tickcast/client";
import { Hub } from "./hub.ts";
import type { ToHub } from "./messages.ts";

/** Narrow views of what a worker's global scope is; the library of types for pages has neither. */
interface SharedScope {
  onconnect: ((event: MessageEvent) => void) | null;
}

const shared = "onconnect" in globalThis;
const hub = new Hub(openWebSocket, shared);

function take(port: MessagePort): void {
  const page = hub.connect(port);
  port.onmessage = ({ data }: MessageEvent<ToHub>) => {
    page.receive(data);
    // The lock falls to us when the page is gone, however it went.
    if (data.type === "open") void navigator.locks?.request(data.lock, () => page.gone());
  };
}

if (shared) {
  (globalThis as unknown as SharedScope).onconnect = ({ ports }) => {
    for (const port of ports) take(port);
  };
} else {
  globalThis.onmessage = ({ ports }: MessageEvent) => {
    for (const port of ports) take(port);
  };
}
