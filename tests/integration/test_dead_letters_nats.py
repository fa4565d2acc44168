"""Dead letters of messages of NATS, and dead letters as such messages: which ones are said to be refused."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import nats
import pytest
from nats.js.api import StreamConfig

from fixtures.nats import NatsServer
from fixtures.processes import Programs, wait_until
from fixtures.ticks import as_batch, as_proto
from tickcast import post, urls
from tickcast._core import subject_covers
from tickcast.processor.deadletters import DeadLetter, encoded

pytestmark = [pytest.mark.nats, pytest.mark.timeout(60)]


class Letter(DeadLetter):
    """One that does something when it is sent."""

    does: ClassVar[dict[int, Callable[[], None]]] = {}

    @property
    def payload_bytes(self) -> bytes:
        """The original bytes."""
        self.does.get(self.offset, lambda: None)()
        return super().payload_bytes


def letter(number: int, size: int = 1) -> Letter:
    return Letter("0badcafe", 0, number, 0, "no tick", encoded(b"?" * size) or "", 17, headers=[("a:b\n", "AA==")])


def opened(server: NatsServer) -> post.NatsPost:
    url = urls.parse_sink(f"jetstream://{server.url.removeprefix('nats://')}/letters?stream=LETTERS")
    assert isinstance(url, urls.JetStreamSink)
    return post.NatsPost(url, added=True)


async def sent(server: NatsServer) -> list[int]:
    """Return the numbers of the letters in the stream."""
    client = await nats.connect(server.url)
    context = client.jetstream()
    count = (await context.stream_info("LETTERS")).state.messages
    found = [await context.get_msg("LETTERS", number) for number in range(1, count + 1)]
    await client.close()
    return [int(message.headers["tickcast.error.position"].split()[2]) for message in found]


async def make_stream(server: NatsServer, **limits: int) -> None:
    client = await nats.connect(server.url)
    await client.jetstream().add_stream(StreamConfig(name="LETTERS", subjects=["letters"], **limits))
    await client.close()


async def test_what_is_refused_or_not_sent_in_time_is_returned_and_nothing_else(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_stream(nats_server, max_msg_size=1000)
    target = opened(nats_server)
    letters = [letter(0, size=2000), letter(1), letter(2), letter(3), letter(4)]
    monkeypatch.setattr(post, "SEND_S", 1.0)
    monkeypatch.setitem(Letter.does, 3, nats_server.pause)
    try:
        left = target.send(letters)
    finally:
        nats_server.resume()
    assert left == [letters[0], letters[3], letters[4]]
    monkeypatch.setattr(post, "SEND_S", 10.0)
    monkeypatch.delitem(Letter.does, 3)
    assert target.send(left[2:] + left[:1]) == left[:1], "an acknowledgement that comes late is not of another letter"
    target.close()
    assert {1, 2, 4} <= set(await sent(nats_server)) <= {1, 2, 3, 4}


async def test_a_stream_that_is_not_there_refuses_them_until_it_is(nats_server: NatsServer) -> None:
    target = opened(nats_server)
    letters = [letter(1), letter(2)]
    assert target.send(letters) == letters
    await make_stream(nats_server)
    assert target.send(letters) == []
    target.close()
    assert await sent(nats_server) == [1, 2]


async def test_letters_go_to_no_other_stream_than_the_one_that_is_named(nats_server: NatsServer) -> None:
    client = await nats.connect(nats_server.url)
    context = client.jetstream()
    await context.add_stream(StreamConfig(name="LETTERS", subjects=["elsewhere"]))
    await context.add_stream(StreamConfig(name="OTHER", subjects=["letters"]))
    target = opened(nats_server)
    letters = [letter(1)]
    assert target.send(letters) == letters
    target.close()
    assert (await context.stream_info("OTHER")).state.messages == 0
    await client.close()


async def test_one_tick_of_a_batch_comes_back_to_its_subject_as_a_message_of_its_own(
    nats_server: NatsServer, programs: Programs, run_dir: Path, tmp_path: Path
) -> None:
    client = await nats.connect(nats_server.url)
    context = client.jetstream()
    await context.add_stream(StreamConfig(name="TICKS", subjects=["ticks.>"]))
    good = as_batch([("AAPL", 10.0, 5, 17)])
    bad = [as_proto((name, 11.0, 5, 18)).replace(name.encode(), b"MS\xff\xfe") for name in ("MSFT", "IBMX")]
    elements = [b"\x0a" + bytes([len(tick)]) + tick for tick in bad]
    headers = {"tickcast-format": "proto-batch", "who": "us", "Nats-Msg-Id": "many"}
    await context.publish("ticks.many", good + b"".join(elements) + good, headers=headers)
    await client.close()
    source = f"jetstream://{nats_server.url.removeprefix('nats://')}/ticks.>?stream=TICKS"
    flags = ("--source", source, "--run-dir", str(run_dir))
    program = programs.tickcast("process", *flags, "--sink", f"jsonl:{tmp_path / 'trades'}", "--set", "grpc.port=0")
    path = run_dir / "dead-letters.jsonl"

    def letters(count: int) -> list[dict]:
        wait_until(lambda: path.exists() and len(path.read_text().splitlines()) == count, f"{count} dead letters")
        return [json.loads(line) for line in path.read_text().splitlines()]

    first = letters(2)
    redrive = programs.tickcast("dlq", "redrive", *flags)
    assert redrive.wait() == 0, redrive.errors
    assert redrive.lines[0].startswith("2 of 2")
    for before, after in zip(first, letters(4)[2:], strict=True):
        assert (before["part"], after.get("part", False)) == (True, False)
        assert before["payload"] == after["payload"]
        assert before["key"] == after["key"] == encoded(b"ticks.many")
        named = [{name: base64.b64decode(value).decode() for name, value in one["headers"]} for one in (before, after)]
        assert named == [headers, {"tickcast-format": "proto", "who": "us"}]
    assert program.end() == 0


async def test_a_letter_that_no_subject_of_the_source_is_known_for_stays(nats_server: NatsServer) -> None:
    await make_stream(nats_server)
    url = urls.parse_source(f"jetstream://{nats_server.url.removeprefix('nats://')}/*?stream=LETTERS")
    assert isinstance(url, urls.JetStream)
    target = post.NatsPost(url, added=False)
    keys = [None, "letters", "letters.other", ">", "no good"]
    letters = [Letter("0badcafe", 0, at, 0, "no tick", "", 17, encoded(k and k.encode())) for at, k in enumerate(keys)]
    assert target.send(letters) == [letter for letter in letters if letter.key_bytes != b"letters"]
    target.close()


@pytest.mark.parametrize(
    ("pattern", "subject", "fits"),
    [
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.b", False),
        ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("*", "", False),
        ("a.b", "a.b", True),
        ("a.>", "a.*", False),
        ("*", ">", False),
        (">", "a b", False),
    ],
)
def test_a_pattern_covers_subjects_as_the_server_says(pattern: str, subject: str, fits: bool) -> None:
    assert subject_covers(pattern, subject) == fits
