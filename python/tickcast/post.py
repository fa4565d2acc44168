"""Sends dead letters as messages: to a topic or subject of their own, or back to where they came from."""

import logging

from tickcast import urls
from tickcast._core import NatsPublisher
from tickcast.errors import ConfigError
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
        if "*" in url.subject or ">" in url.subject:
            raise ConfigError(f"dead letters: {url.subject!r} has wildcards; name one subject with --to")
        self._added = added
        self._is_stream = isinstance(url, urls.JetStream | urls.JetStreamSink)
        self._publisher = NatsPublisher(server_list(url.server), url.subject, jetstream=self._is_stream)

    def send(self, letters: list[DeadLetter]) -> list[DeadLetter]:
        """Send them one by one and wait; return those that were refused."""
        refused: list[DeadLetter] = []
        for letter in letters:
            headers = [*letter.header_bytes, *(letter.error_headers if self._added else [])]
            before = self._publisher.published()
            self._publisher.publish(
                letter.payload_bytes,
                message_headers=[[(name, (value or b"").decode(errors="replace")) for name, value in headers]],
                timeout=SEND_S,
            )
            try:
                self._publisher.flush(SEND_S)
            except TimeoutError as error:
                log.warning("dead letter %s: %s", letter.identity, error)
                return letters[len(refused) :]
            after = self._publisher.published()
            if after["confirmed"] == before["confirmed"]:
                log.warning("dead letter %s: %s", letter.identity, after["last_failure"])
                refused.append(letter)
        return refused

    def close(self) -> None:
        """Disconnect."""
        self._publisher.close()
