"""The blocking form: the same subscription on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from tickcast.client.stream import Subscription, subscribe
from tickcast.client.types import Batch, Event, Gap, Lost, Mode, Place, Snapshot, Status, Trade

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

    from tickcast.retry import Limits

__all__ = ["BlockingSubscription", "subscribe_sync"]

Item = TypeVar("Item")

_AHEAD = 64
"""Items that are fetched before they are asked for; then the server is made to wait."""


def subscribe_sync(
    url: str,
    instruments: Iterable[str] | None = None,
    *,
    status: Iterable[str] | str | None = None,
    place: Place | None = None,
    from_seq: int | None = None,
    snapshot: bool = False,
    mode: Mode = "tape",
    max_rate_hz: float | None = None,
    token: str | None = None,
    limits: Limits | None = None,
) -> BlockingSubscription:
    """Subscribe as `subscribe` does, to be iterated with a plain ``for``, in any thread.

    Raises:
        ConfigError: The URL, a status, a sequence, the mode or the rate is wrong.
    """
    return BlockingSubscription(
        subscribe(
            url,
            instruments,
            status=status,
            place=place,
            from_seq=from_seq,
            snapshot=snapshot,
            mode=mode,
            max_rate_hz=max_rate_hz,
            token=token,
            limits=limits,
        )
    )


class BlockingSubscription:
    """Trades, for ever. Iterate it once; `close`, or the end of the ``with`` block, ends an iteration."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._stops: list[Callable[[], None]] = []

    @property
    def place(self) -> Place | None:
        """The resume token, behind everything that was fetched: up to a few frames ahead of what was yielded."""
        return self._subscription.place

    @property
    def gaps(self) -> list[Gap]:
        """Gaps so far, the newest thousand."""
        return self._subscription.gaps

    def __enter__(self) -> BlockingSubscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Trade]:
        return self.trades()

    def trades(self) -> Iterator[Trade]:
        """Yield trades one by one.

        Raises:
            LinkLostError: The first connection can't be made.
            LinkRefusedError: The server says not to come back.
        """
        for item in self._run(self._subscription.batches):
            if isinstance(item, Batch):
                yield from item.trades()

    def batches(self) -> Iterator[Batch | Gap]:
        """Yield batches of columns, and gaps. Raises what `trades` does."""
        return self._run(self._subscription.batches)

    def events(self) -> Iterator[Event]:
        """Yield trades one by one, and all that happens between them. Raises what `trades` does."""
        return self._run(self._subscription.events)

    def frames(self) -> Iterator[Batch | Gap | Status | Snapshot | Lost]:
        """Yield batches of columns, and all that happens between them. Raises what `trades` does."""
        return self._run(self._subscription.frames)

    def close(self) -> None:
        """End."""
        for stop in self._stops:
            stop()

    def _run(self, make: Callable[[], AsyncGenerator[Item, None]]) -> Iterator[Item]:
        """Yield what an asynchronous generator yields in a thread of its own."""
        waiting: queue.Queue[tuple[str, Any]] = queue.Queue(_AHEAD)
        stopped = threading.Event()
        loop = asyncio.new_event_loop()

        async def fetch() -> None:
            generator = make()
            try:
                async for item in generator:
                    await asyncio.to_thread(_put, waiting, ("item", item), stopped)
            finally:
                await generator.aclose()

        def run() -> None:
            try:
                loop.run_until_complete(task)
            except asyncio.CancelledError:
                _put(waiting, ("end", None), stopped)
            except BaseException as error:
                _put(waiting, ("error", error), stopped)
            finally:
                loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()

        task = loop.create_task(fetch())
        thread = threading.Thread(target=run, name="tickcast-client", daemon=True)

        def stop() -> None:
            stopped.set()
            if not loop.is_closed():
                try:
                    loop.call_soon_threadsafe(task.cancel)
                except RuntimeError:
                    return  # it ended meanwhile

        self._stops.append(stop)
        thread.start()
        try:
            while not stopped.is_set():
                try:
                    kind, value = waiting.get(timeout=0.1)
                except queue.Empty:
                    continue
                if kind == "error":
                    raise value
                if kind == "end":
                    return
                yield value
        finally:
            stop()
            thread.join()


def _put(waiting: queue.Queue[tuple[str, Any]], item: tuple[str, Any], stopped: threading.Event) -> None:
    while not stopped.is_set():
        try:
            waiting.put(item, timeout=0.1)
        except queue.Full:
            continue
        return
