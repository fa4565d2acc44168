// A dialog that takes the focus and gives it back.

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { icons } from "./icons.tsx";

export function Modal({
  title,
  close,
  children,
  testId,
}: {
  title: string;
  close: () => void;
  children: ComponentChildren;
  testId: string;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    dialog.current?.showModal();
    dialog.current?.querySelector("input")?.focus();
    return () => {
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog ref={dialog} class="modal" aria-label={title} data-testid={testId} onClose={close}>
      <div class="modal-head">
        <h2>{title}</h2>
        <button type="button" class="icon-button" aria-label="Close" onClick={close}>
          <icons.close />
        </button>
      </div>
      <div class="modal-body">{children}</div>
    </dialog>
  );
}
