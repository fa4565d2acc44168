"""``nats://`` and ``jetstream://`` as sinks: a message a trade, JetStream's each once by its trade id."""

import logging
import re
from itertools import takewhile

from tickcast import urls
from tickcast._core import Hold, NatsPublisher
from tickcast.errors import SourceError
from tickcast.processor.traces import Traces
from tickcast.servers import server_list
from tickcast.sinks.following import FollowingSink

__all__ = ["NatsSink", "subject_token"]

log = logging.getLogger("tickcast.sinks")

Message = tuple[str, bytes, str, list[tuple[str, str]]]
"""Instrument, payload, trade id, headers."""

MAX_TRADES = 4096
FLUSH_S = 1.0
TOKEN_CHARS = 128
TRIES = 3
"""Of a trade that is refused for its own size or form, while others are taken."""


class NatsSink(FollowingSink):
    """Follows the tape and confirms what the server has acknowledged.

    JetStream drops what it has already by ``Nats-Msg-Id``, the trade id, within the stream's duplicate window (by
    default 2 minutes): a crash doubles nothing that is made good within it. What is refused is sent again alone, and
    the tape is confirmed up to it; a trade that never will be taken, for its own size, is passed over.

    Core NATS keeps nothing and acknowledges nothing: a trade counts as written once the server has taken in what was
    sent, and has not said that it may not be.
    """

    def __init__(self, url: urls.NatsSink | urls.JetStreamSink, hold: Hold, traces: Traces) -> None:
        super().__init__(hold)
        self._url, self._traces = url, traces
        self._by_instrument = "*" in url.subject.split(".")
        self._is_stream = isinstance(url, urls.JetStreamSink)
        self._holds_many = url.format == "proto-batch"
        self._publisher, self._accepted = self._open(), 0
        self._done: set[str] = set()
        """Messages behind one that was refused that are not to be sent again."""
        self._tries: dict[str, int] = {}
        """Of messages that are refused for good."""
        self._are_others_taken = False
        """Something was taken since something was refused."""
        self._until: int | None = None
        """Where reading ends, so that the same trades are in the same messages again."""

    def _write_next(self, wait_s: float) -> bool:
        outbox = self._hold.read_messages(
            MAX_TRADES, wait_s, self._url.format, until=self._until, traces=self._traces.by_message
        )
        messages = outbox.messages()
        to_send = [m for m in messages if identity(m) not in self._done] if self._done else messages
        first = self._accepted
        if self._holds_many:
            self._until = outbox.last
        try:
            self._publish(to_send)
            if not self._flush():
                return False
        except SourceError as error:  # such as a stream that is not there yet: that publisher has ended
            self._state = str(error).replace(self._placeholder, self._url.subject)
            self._publisher.close(0.0)
            self._publisher, self._accepted = self._open(), 0
            return False
        failures = [failure for failure in self._publisher.take_failures() if failure[0] >= first]
        refused = {identity(to_send[number - first]): for_good for number, _, for_good in failures}
        if refused and not self._is_passed_over(refused, to_send, failures[-1][1]):
            self._state = f"refused by {self._publisher.url}: {failures[-1][1]}"
            if not self._holds_many:  # whose trades lie across one another
                self._confirm_front(messages)
            return False
        self._done.clear()
        self._tries.clear()
        self._are_others_taken, self._until = False, None
        self._state = "live"
        self._hold.confirm(outbox.last)
        return True

    def _is_passed_over(self, refused: dict[str, bool], sent: list[Message], why: str) -> bool:
        """Note what is not to be sent again; True if that is everything.

        Args:
            refused: Whether it is for good, by message.
            sent: All that was sent.
            why: Why the last one was refused.
        """
        taken = {identity(message) for message in sent} - refused.keys()
        self._done |= taken
        self._are_others_taken |= bool(taken)
        self._tries = {name: self._tries.get(name, 0) + 1 for name, for_good in refused.items() if for_good}
        # Where nothing is taken at all, the stream is the wrong one; and a message of many trades is not given up.
        if self._holds_many or not self._are_others_taken:
            return False
        given_up = {name for name, tries in self._tries.items() if tries >= TRIES}
        if given_up:
            self._done |= given_up
            self._passed_over += len(given_up)
            some = ", ".join(sorted(given_up)[:3])
            said = "%s refuses trades for good, which are lost to it: %d, such as %s: %s"
            log.error(said, self._publisher.url, len(given_up), some, why)
        return given_up == refused.keys()

    def _confirm_front(self, messages: list[Message]) -> None:
        """Confirm what lies before the first message that is still to be sent."""
        front = list(takewhile(lambda message: identity(message) in self._done, messages))
        if front:
            self._hold.confirm(sequence(front[-1]))
        # What the tape has let go in the meantime does not come again either.
        self._done.intersection_update(map(identity, messages[len(front) :]))

    def _open(self) -> NatsPublisher:
        url = self._url
        stream = url.stream if isinstance(url, urls.JetStreamSink) else None
        return NatsPublisher(server_list(url.server), self._placeholder, jetstream=self._is_stream, stream=stream)

    @property
    def _placeholder(self) -> str:
        """Subject of messages that have none of their own: there are none where it differs from the URL's."""
        return self._url.subject.replace("*", "-")

    def _publish(self, messages: list[Message]) -> None:
        """Hand everything over, waiting for room as long as there is time."""
        while messages and not self._is_over:
            accepted = self._publisher.publish(
                [payload for _, payload, _, _ in messages],
                subjects=[self._subject(key) for key, _, _, _ in messages] if self._by_instrument else None,
                message_ids=[self._message_id(message) for message in messages] if self._is_stream else None,
                message_headers=[headers for _, _, _, headers in messages] if self._url.headers else None,
                timeout=FLUSH_S,
            )
            self._accepted += accepted
            messages = messages[accepted:]
            if messages:
                self._wait_word()

    def _flush(self) -> bool:
        """Wait until the server has it all, however long it is away; False if there is no time left for that."""
        while not self._is_over:
            try:
                self._publisher.flush(FLUSH_S)
                return True
            except TimeoutError:
                self._wait_word()
        return False

    def _let_go(self) -> None:
        self._publisher.close()

    def _wait_word(self) -> None:
        self._state = f"no answer of {self._publisher.url}, {self._hold.lag} trades wait: {self._publisher.state()[2]}"

    def _subject(self, instrument: str) -> str:
        return self._url.subject.replace("*", subject_token(instrument))

    def _message_id(self, message: Message) -> str:
        """Return by what the stream knows a message again; one of many trades may have more of them the next time."""
        return f"{identity(message)}-{sequence(message)}" if self._holds_many else identity(message)


def identity(message: Message) -> str:
    """Return the id of a message's first trade."""
    return message[2]


def sequence(message: Message) -> int:
    """Return the sequence of a message's last trade."""
    return int(dict(message[3])["tickcast-sequence"])


def subject_token(instrument: str) -> str:
    """Return an instrument as one token of a subject: what may not stand in it becomes ``_``, and it is cut.

    An instrument that the screen refuses can be of any length, and a server takes no control line of over 4 KB.
    """
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f.*>/\\]", "_", instrument[:TOKEN_CHARS]) or "_"
