// What an API says, asked again every so often while the page is looked at.

import { type Signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { api } from "../app.ts";

export interface Answer<T> {
  readonly value: T | undefined;
  readonly error: string;
}

/**
 * Returns the newest answer; the last one stays while a new one is on its way, an error stands beside it.
 *
 * @param path Below `/api/`; another path starts anew. Empty: nothing is asked.
 * @param everyMs Between an answer and the next question; 0: asked once.
 */
export function useApi<T>(path: string, everyMs = 0): Signal<Answer<T>> {
  const answer = useSignal<Answer<T>>({ value: undefined, error: "" });
  useEffect(() => {
    if (path === "") {
      answer.value = { value: undefined, error: "" };
      return;
    }
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const ask = async () => {
      try {
        if (document.visibilityState === "visible")
          answer.value = { value: await api<T>(path, stop.signal), error: "" };
      } catch (error) {
        if (stop.signal.aborted) return;
        answer.value = { value: answer.value.value, error: error instanceof Error ? error.message : String(error) };
      }
      if (everyMs > 0 && !stop.signal.aborted) timer = setTimeout(ask, everyMs);
    };
    void ask();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [path, everyMs, answer]);
  return answer;
}
