// The state of the connection and of the source: a shape, a word, and what there is to say about it.

import { formatMs } from "../base/format";
import type { Link, LinkState } from "../base/link";
import type { WallMs } from "../base/nominal";
import type { Board } from "../model/board";
import { part, setAttribute, setText } from "./dom";

const LINK_WORDS: Readonly<Record<LinkState, string>> = {
  connecting: "connecting",
  live: "live",
  stale: "stale",
  reconnecting: "reconnecting",
  closed: "closed",
};

export class Header {
  readonly #link: HTMLElement;
  readonly #linkText: HTMLElement;
  readonly #detail: HTMLElement;
  readonly #retry: HTMLButtonElement;
  readonly #source: HTMLElement;
  readonly #sourceText: HTMLElement;

  /** @param connect Connects now instead of at the planned time. */
  constructor(root: ParentNode, connect: () => void) {
    this.#link = part(root, "link", HTMLElement);
    this.#linkText = part(root, "link-text", HTMLElement);
    this.#detail = part(root, "link-detail", HTMLElement);
    this.#retry = part(root, "retry", HTMLButtonElement);
    this.#source = part(root, "source", HTMLElement);
    this.#sourceText = part(root, "source-text", HTMLElement);
    this.#retry.addEventListener("click", connect);
  }

  paint(board: Board, now: WallMs): void {
    const { link, source } = board;
    setAttribute(this.#link, "data-state", link.state);
    setText(this.#linkText, LINK_WORDS[link.state]);
    // Beside the live region and not in it: a countdown must not be read out.
    setText(this.#detail, detail(link, now));
    this.#retry.hidden = link.state !== "closed" && link.retryAt === undefined;

    // What the source was doing when the gateway was last heard says nothing about now.
    const known = source !== undefined && (link.state === "live" || link.state === "stale");
    setAttribute(this.#source, "data-state", known ? source.state : "unknown");
    setText(this.#sourceText, known ? source.state : "unknown");
    setAttribute(this.#source, "title", source?.source ?? "");
  }
}

function detail(link: Link, now: WallMs): string {
  if (link.retryAt === undefined) return link.why;
  const wait = link.retryAt - now;
  return wait > 100 ? `${link.why} · next attempt in ${formatMs(Math.ceil(wait / 100) * 100)}` : link.why;
}
