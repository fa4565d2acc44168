"""The server's own send, and the stand-in for it."""

import asyncio
import threading

import pytest

from tickcast.gateway import sender
from tickcast.gateway.sender import AwaitedSend, ends, starts_unawaited


def granian_like(**attributes):
    return type("PyFutureAwaitable", (), {"__module__": "granian._granian", **attributes})()


async def nothing() -> None: ...


def test_only_granians_messages_count_as_started(caplog):
    sender._told.clear()
    methods = {"done": lambda self: True, "cancel": lambda self: None}
    assert starts_unawaited(granian_like(**methods))
    assert not starts_unawaited(granian_like(done=lambda self: True))
    assert "without done and cancel" in caplog.text
    coroutine = nothing()
    assert not starts_unawaited(coroutine)
    coroutine.close()


SCOPE = {"scheme": "ws", "http_version": "1.1", "client": ("127.0.0.1", "41470"), "server": ("127.0.0.1", "3000")}


def test_a_connection_is_known_by_its_ends():
    assert ends(SCOPE) == ("127.0.0.1", 41470, 3000)


@pytest.mark.parametrize(
    "other",
    [
        {"scheme": "wss"},
        {"http_version": "2"},
        {"client": None},
        {"client": ("203.0.113.7", 0)},
        {"server": ("/run/gateway.sock", None)},
    ],
    ids=["TLS", "HTTP/2", "no client", "a proxy's word", "Unix socket"],
)
def test_whoever_has_no_connection_to_himself_has_no_ends(other):
    assert ends(SCOPE | other) is None


async def test_an_asyncio_task_is_not_taken_for_a_started_message():
    task = asyncio.create_task(nothing())
    assert not starts_unawaited(task)
    await task


async def test_messages_from_other_threads_are_awaited_in_order():
    got: list[int] = []

    async def send(message):
        await asyncio.sleep(0)
        got.append(message["n"])

    awaited = AwaitedSend(send)
    pending = []
    thread = threading.Thread(target=lambda: pending.extend(awaited({"n": n}) for n in range(200)))
    thread.start()
    await asyncio.to_thread(thread.join)
    async with asyncio.timeout(2):
        while not pending[-1].done():
            await asyncio.sleep(0)
    assert got == list(range(200))
    assert all(p.done() for p in pending)
    await awaited.close()


async def test_what_is_given_up_before_its_turn_is_not_sent():
    gate, got = asyncio.Event(), []

    async def send(message):
        await gate.wait()
        got.append(message)

    awaited = AwaitedSend(send)
    first, second = awaited({"n": 1}), awaited({"n": 2})
    await asyncio.sleep(0)
    second.cancel()
    gate.set()
    async with asyncio.timeout(2):
        while not first.done():
            await asyncio.sleep(0)
    assert got == [{"n": 1}]
    await awaited.close()


async def test_a_failing_send_is_done_and_the_next_one_goes_on():
    got = []

    async def send(message):
        if message == 1:
            raise OSError("gone")
        got.append(message)

    awaited = AwaitedSend(send)
    first, second = awaited(1), awaited(2)
    async with asyncio.timeout(2):
        while not second.done():
            await asyncio.sleep(0)
    assert first.done()
    assert got == [2]
    await awaited.close()


async def test_close_ends_the_task_and_gives_up_what_waits():
    async def send(message):
        await asyncio.Event().wait()

    awaited = AwaitedSend(send)
    pending = [awaited({"n": n}) for n in range(3)]
    await asyncio.sleep(0)
    await awaited.close()
    assert all(p.done() for p in pending)
    assert asyncio.all_tasks() == {asyncio.current_task()}
