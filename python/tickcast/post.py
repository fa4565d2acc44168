"""Sends dead letters as messages: to a topic or subject of their own, or back to where they came from."""

import logging

from tickcast import urls
from tickcast._core import NatsPublisher, subject_covers
from tickcast.errors import ConfigError, SourceError
from tickcast.processor.deadletters import DeadLetter, Post
from tickcast.servers import server_list

__all__ = ["open_target"]

log = logging.getLogger("tickcast.processor")

SEND_S = 10.0
LARGEST = 100_000_000

Target = urls.Source | urls.Sink


def open_target(url: Target, options: dict[str, str], *, added: bool) -> Post:
    """Return what sends letters to a URL's topic or subject.

    Args:
        url: A source or sink on a broker.
        options: Settings of librdkafka.
        added: Whether to add the headers ``tickcast.error.*``.

    Raises:
        ConfigError: It is no broker, or its client is not installed.
    """
    match url:
        case urls.Kafka() | urls.KafkaSink():
            return KafkaPost(url, options, added=added)
        case urls.Nats() | urls.NatsSink() | urls.JetStream() | urls.JetStreamSink():
            return NatsPost(url, added=added)
    raise ConfigError("dead letters: can be sent to kafka://, nats:// or jetstream:// only")


class KafkaPost:
    """Letters as messages of a Kafka topic, with their key, headers and bytes."""

    def __init__(self, url: urls.Kafka | urls.KafkaSink, options: dict[str, str], *, added: bool) -> None:
        try:
            from confluent_kafka import Producer  # noqa: PLC0415 (an optional part)

            from tickcast.kafka import client_settings  # noqa: PLC0415
        except ImportError as error:
            raise ConfigError(f"kafka:// needs an optional part: pip install 'tickcast[kafka]' ({error})") from None
        self._topic, self._added = url.topic, added
        settings = {"enable.idempotence": True, "message.max.bytes": LARGEST, "partitioner": "murmur2_random"}
        self._producer = Producer(
            {**settings, "message.timeout.ms": int(SEND_S * 1000), **client_settings(url, options)}
        )

    def send(self, letters: list[DeadLetter]) -> list[DeadLetter]:
        """Send them and wait; return those that were refused."""
        sent: set[str] = set()
        for letter in letters:
            headers = [*letter.header_bytes, *(letter.error_headers if self._added else [])]

            def delivered(error: object, _: object, identity: str = letter.identity) -> None:
                if error is None:
                    sent.add(identity)
                else:
                    log.warning("dead letter %s: %s", identity, error)

            try:
                self._producer.produce(
                    self._topic,
                    letter.payload_bytes,
                    letter.key_bytes,
                    headers=list[tuple[str, str | bytes | None]](headers),
                    on_delivery=delivered,
                )
            except Exception as error:  # too large, or the queue is full: it stays where it is
                log.warning("dead letter %s: %s", letter.identity, error)
        self._producer.flush(SEND_S + 1)
        return [letter for letter in letters if letter.identity not in sent]

    def close(self) -> None:
        """Nothing is under way."""


class NatsPost:
    """Letters as messages of a NATS subject or a JetStream stream."""

    def __init__(self, url: urls.Nats | urls.NatsSink | urls.JetStream | urls.JetStreamSink, *, added: bool) -> None:
        self._by_letter = "*" in url.subject or ">" in url.subject
        if self._by_letter and added:
            raise ConfigError(f"dead letters: {url.subject!r} has wildcards; name one subject")
        self._url, self._added = url, added
        self._publisher: NatsPublisher | None = None

    def send(self, letters: list[DeadLetter]) -> list[DeadLetter]:
        """Send them one by one and wait; return those that were refused."""
        refused: list[DeadLetter] = []
        for at, letter in enumerate(letters):
            subject = self._subject(letter)
            if subject is None:
                log.warning("dead letter %s: its key is no subject of %s", letter.identity, self._url.subject)
                refused.append(letter)
                continue
            publisher = self._publisher = self._publisher or self._open(subject)
            try:
                why = self._send(publisher, letter, subject)
            except (SourceError, TimeoutError) as error:
                log.warning("dead letter %s, and %d behind it: %s", letter.identity, len(letters) - at - 1, error)
                # A publisher that was refused has ended; and what one hears too late is not of the next letter.
                publisher.close(0.0)
                self._publisher = None
                return [*refused, *letters[at:]]
            if why is not None:
                log.warning("dead letter %s: %s", letter.identity, why)
                refused.append(letter)
        return refused

    def _subject(self, letter: DeadLetter) -> str | None:
        """Return where a letter goes: where there are wildcards, to the subject that it came by."""
        if not self._by_letter:
            return self._url.subject
        own = (letter.key_bytes or b"").decode(errors="replace")
        return own if subject_covers(self._url.subject, own) else None

    def _open(self, subject: str) -> NatsPublisher:
        url = self._url
        if isinstance(url, urls.JetStream | urls.JetStreamSink):
            return NatsPublisher(server_list(url.server), subject, jetstream=True, stream=url.stream)
        return NatsPublisher(server_list(url.server), subject)

    def _send(self, publisher: NatsPublisher, letter: DeadLetter, subject: str) -> object:
        """Send a letter and wait; return why it was refused, None if it was not."""
        # The server's own headers are about the first sending: by its id a stream would drop this one as a duplicate.
        own = [(name, value) for name, value in letter.header_bytes if not name.lower().startswith("nats-")]
        headers = [*own, *(letter.error_headers if self._added else [])]
        before = publisher.published()
        publisher.publish(
            letter.payload_bytes,
            subject=subject,
            message_headers=[[(name, (value or b"").decode(errors="replace")) for name, value in headers]],
            timeout=SEND_S,
        )
        publisher.flush(SEND_S)
        after = publisher.published()
        return None if after["confirmed"] != before["confirmed"] else after["last_failure"] or "it was not confirmed"

    def close(self) -> None:
        """Disconnect."""
        if self._publisher is not None:
            self._publisher.close()
