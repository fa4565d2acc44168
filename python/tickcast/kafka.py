"""What sources and sinks on Kafka have in common: settings of librdkafka, the topic's identity, who owns a partition.

librdkafka comes with the extra ``tickcast[kafka]``; nothing here is imported without a ``kafka://`` URL.
"""

import hashlib
import socket
import threading
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from tickcast import urls

__all__ = ["Ownership", "client_settings", "instance_name", "log_stream", "why"]

CONNECT_S = 5.0
"""Longest wait for an answer of the brokers before it is asked again."""


def client_settings(url: urls.Kafka | urls.KafkaSink, options: Mapping[str, str]) -> dict[str, Any]:
    """Return librdkafka's settings for a URL: brokers, user, then ``kafka_options``, then the URL's own."""
    settings: dict[str, Any] = {
        "bootstrap.servers": url.servers,
        "client.id": "tickcast",
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": 1000,
        "retry.backoff.max.ms": 500,
        "topic.metadata.refresh.interval.ms": 5000,
    }
    if url.user is not None:
        settings |= {"sasl.username": url.user, "sasl.password": url.password or ""}
    return {**settings, **options, **url.options}


def instance_name(run_dir: str) -> str:
    """Return the name of the group member that this run directory is for ever."""
    digest = hashlib.sha256(run_dir.encode()).hexdigest()[:8]
    return f"tickcast-{socket.gethostname()}-{digest}"


def log_stream(url: urls.Kafka, options: Mapping[str, str]) -> int:
    """Ask the brokers for the topic's identity; return the stream number of its positions.

    That is the first 8 hex digits of SHA-256 of ``kafka:<cluster id>:<topic id>``: a topic that is deleted and made
    again is another stream.

    Raises:
        KafkaException: They don't answer, or there is no such topic.
    """
    admin = AdminClient(client_settings(url, options))
    cluster = admin.describe_cluster(request_timeout=CONNECT_S).result(CONNECT_S + 1)
    topics = admin.describe_topics(TopicCollection([url.topic]), request_timeout=CONNECT_S)
    topic = topics[url.topic].result(CONNECT_S + 1)
    identity = f"kafka:{cluster.cluster_id}:{topic.topic_id}"
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4])


def why(error: BaseException) -> str:
    """Return what librdkafka says, for people."""
    if isinstance(error, KafkaException) and error.args:
        told = error.args[0]
        return str(told.str()) if hasattr(told, "str") else str(told)
    return str(error) or type(error).__name__


class Ownership:
    """Which source partitions this processor owns, and from which offset on its sinks have to write.

    Shared by the source, which learns it from the group, and the sinks: what another processor has gone on with, or
    has written already, is not written again. Used from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._from: dict[tuple[int, int], int] = {}
        self._after: dict[tuple[int, int], int] = {}
        self._known = False
        self.version = 0
        """Changes with everything that a sink was told."""

    def take(self, owned: Mapping[tuple[int, int], int]) -> None:
        """Own these partitions from now on, from these offsets.

        The first ones count at once, with what the tape has of them from before. Of others the tape may still get what
        was under way when they were given up: they count from `begin` on.
        """
        with self._lock:
            self.version += 1
            self._from.update(owned)
            for partition in owned:
                self._after.pop(partition, None)
                if not self._known:
                    self._after[partition] = 0
            self._known = True

    def begin(self, stream: int, partition: int, after: int) -> None:
        """Learn that what is read of a partition under its present owner comes after sequence `after` on the tape."""
        with self._lock:
            if (stream, partition) in self._from:
                self.version += 1
                self._after.setdefault((stream, partition), after)

    def move(self, stream: int, partition: int, offset: int) -> None:
        """Learn that sinks have to write a partition from another offset on."""
        with self._lock:
            if (stream, partition) in self._from:
                self.version += 1
                self._from[stream, partition] = offset

    def drop(self, stream: int, partition: int) -> None:
        """Own a partition no more."""
        with self._lock:
            self.version += 1
            self._from.pop((stream, partition), None)
            self._after.pop((stream, partition), None)

    @property
    def is_first(self) -> bool:
        """Whether nothing has been assigned yet since the start: sinks wait, nothing on the tape is passed over."""
        return not self._known

    def behind(self, sequence: int) -> tuple[dict[tuple[int, int], int], int | None] | None:
        """Return what sinks have to write of the trades behind `sequence`; None while nothing is known.

        That is the offset of each partition from which trades count, and the last sequence for which this is so (None:
        no end in sight).
        """
        with self._lock:
            if not self._known:
                return None
            begun = {partition: at for partition, at in self._after.items() if at <= sequence}
            later = [at for at in self._after.values() if at > sequence]
            return {partition: self._from[partition] for partition in begun}, min(later, default=None)
