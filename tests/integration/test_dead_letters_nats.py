"""Dead letters as messages of a JetStream stream: which ones are said to be refused."""

from collections.abc import Callable
from typing import ClassVar

import nats
import pytest
from nats.js.api import StreamConfig

from fixtures.nats import NatsServer
from tickcast import post, urls
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
