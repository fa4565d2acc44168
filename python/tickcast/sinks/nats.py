"""``nats://`` and ``jetstream://`` as sinks: a message a trade, JetStream's each once by its trade id."""

import re

from tickcast import urls
from tickcast._core import Hold, NatsPublisher, Outbox
from tickcast.errors import SourceError
from tickcast.processor.traces import Traces
from tickcast.servers import server_list
from tickcast.sinks.following import FollowingSink

__all__ = ["NatsSink", "subject_token"]

MAX_TRADES = 4096
FLUSH_S = 1.0
TOKEN_CHARS = 128


class NatsSink(FollowingSink):
    """Follows the tape and confirms what the server has acknowledged.

    JetStream drops what it has already by ``Nats-Msg-Id``, the trade id, within the stream's duplicate window (by
    default 2 minutes): a crash doubles nothing that is made good within it. Core NATS keeps nothing and acknowledges
    nothing: a trade counts as written once the server has taken in what was sent, and has not said that it may not be.
    """

    def __init__(self, url: urls.NatsSink | urls.JetStreamSink, hold: Hold, traces: Traces) -> None:
        super().__init__(hold)
        self._url, self._traces = url, traces
        self._failures = 0
        self._by_instrument = "*" in url.subject.split(".")
        self._is_stream = isinstance(url, urls.JetStreamSink)
        self._publisher = self._open()

    def _write_next(self, wait_s: float) -> bool:
        outbox = self._hold.read_messages(MAX_TRADES, wait_s, self._url.format, traces=self._traces.by_message)
        try:
            self._publish(outbox)
            if not self._flush():
                return False
        except SourceError as error:  # such as a stream that is not there yet: that publisher has ended
            self._state = str(error).replace(self._placeholder, self._url.subject)
            self._publisher.close(0.0)
            self._publisher, self._failures = self._open(), 0
            return False
        figures = self._publisher.published()
        failures = int(figures["failed"] or 0)
        if failures > self._failures:
            self._failures = failures
            self._state = f"refused by {self._publisher.url}: {figures['last_failure']}"
            return False
        self._state = "live"
        self._hold.confirm(outbox.last)
        return True

    def _open(self) -> NatsPublisher:
        url = self._url
        stream = url.stream if isinstance(url, urls.JetStreamSink) else None
        return NatsPublisher(server_list(url.server), self._placeholder, jetstream=self._is_stream, stream=stream)

    @property
    def _placeholder(self) -> str:
        """Subject of messages that have none of their own: there are none where it differs from the URL's."""
        return self._url.subject.replace("*", "-")

    def _publish(self, outbox: Outbox) -> None:
        """Hand everything over, waiting for room as long as there is time."""
        messages = outbox.messages()
        while messages and not self._is_over:
            accepted = self._publisher.publish(
                [payload for _, payload, _, _ in messages],
                subjects=[self._subject(key) for key, _, _, _ in messages] if self._by_instrument else None,
                message_ids=[trade_id for _, _, trade_id, _ in messages] if self._is_stream else None,
                message_headers=[headers for _, _, _, headers in messages] if self._url.headers else None,
                timeout=FLUSH_S,
            )
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


def subject_token(instrument: str) -> str:
    """Return an instrument as one token of a subject: what may not stand in it becomes ``_``, and it is cut.

    An instrument that the screen refuses can be of any length, and a server takes no control line of over 4 KB.
    """
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f.*>/\\]", "_", instrument[:TOKEN_CHARS]) or "_"
