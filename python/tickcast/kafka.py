"""What sources and sinks on Kafka have in common: settings of librdkafka, the topic's identity, who owns a partition.

librdkafka comes with the extra ``tickcast[kafka]``; nothing here is imported without a ``kafka://`` URL.
"""

import contextlib
import hashlib
import socket
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, cimpl
from confluent_kafka.admin import AdminClient

from tickcast import _core, urls
from tickcast._core import KafkaInlet, KafkaOutlet
from tickcast.errors import ConfigError

__all__ = [
    "LogTopic",
    "Ownership",
    "check_settings",
    "client_settings",
    "instance_name",
    "log_topic",
    "open_inlet",
    "open_outlet",
    "poll",
    "why",
]

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
        # Its own lines say what `error_cb` says too, for every attempt at every broker; 7 shows them again.
        "log_level": 2,
    }
    if url.user is not None:
        settings |= {"sasl.username": url.user, "sasl.password": url.password or ""}
    return {**settings, **options, **url.options}


def check_settings(key: str, url: urls.Kafka | urls.KafkaSink, options: Mapping[str, str]) -> None:
    """See whether librdkafka takes the settings, without asking any broker.

    Raises:
        ConfigError: It doesn't; names the one that is wrong, and `key`.
    """
    try:
        Consumer({**client_settings(url, options), "group.id": "none"})
    except KafkaException as error:
        raise ConfigError(f"{key}: kafka://{url.servers}/{url.topic}: {why(error)}") from None


def instance_name(run_dir: str) -> str:
    """Return the name of the group member that this run directory is for ever."""
    digest = hashlib.sha256(run_dir.encode()).hexdigest()[:8]
    return f"tickcast-{socket.gethostname()}-{digest}"


def open_inlet(settings: Mapping[str, Any], most: int) -> tuple[Consumer, KafkaInlet]:
    """Make a consumer, and what takes messages from it past Python, so many at a time: the same client.

    Raises:
        KafkaException: A setting is wrong.
        RuntimeError: confluent-kafka's librdkafka takes no plugins, or is not found.
    """
    consumer = Consumer(with_plugin(settings))
    return consumer, KafkaInlet(consumer, most)


def open_outlet(settings: Mapping[str, Any], url: urls.KafkaSink) -> tuple[Producer, KafkaOutlet]:
    """Make a producer, and what hands messages for a topic to it past Python: the same client.

    Raises:
        KafkaException: A setting is wrong.
        RuntimeError: confluent-kafka's librdkafka takes no plugins, or is not found.
    """
    producer = Producer(with_plugin(settings))
    return producer, KafkaOutlet(producer, url.topic, url.headers)


def poll(consumer: Consumer) -> tuple[int | None, KafkaError] | None:
    """Serve what concerns group and brokers, of a consumer whose messages come by an inlet.

    Returns:
        Partition and error, if one is told.

    Raises:
        RuntimeError: A message came here, past the inlet: to go on would be to lose it.
    """
    told = consumer.poll(0)
    if told is None:
        return None
    error = told.error()
    if error is None:
        raise RuntimeError(f"{told.topic()}/{told.partition()} at {told.offset()}: a message came past the inlet")
    return told.partition(), error


def with_plugin(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with which librdkafka shows its client to the extension."""
    _core.load_librdkafka(cimpl.__file__)
    plugins = [path for path in (settings.get("plugin.library.paths"), _core.__file__) if path]
    return {**settings, "plugin.library.paths": ";".join(plugins)}


class LogTopic(NamedTuple):
    """What brokers say of a topic."""

    stream: int
    """Number of its positions' stream: the first 8 hex digits of SHA-256 of ``kafka:<cluster id>:<topic id>``.

    A topic that is deleted and made again is another stream.
    """
    partitions: int
    """How many it has."""


def log_topic(url: urls.Kafka, options: Mapping[str, str]) -> LogTopic:
    """Ask the brokers for the topic's identity and size.

    Raises:
        KafkaException: They don't answer, or there is no such topic.
    """
    admin = AdminClient(client_settings(url, options))
    cluster = admin.describe_cluster(request_timeout=CONNECT_S).result(CONNECT_S + 1)
    topics = admin.describe_topics(TopicCollection([url.topic]), request_timeout=CONNECT_S)
    topic = topics[url.topic].result(CONNECT_S + 1)
    identity = f"kafka:{cluster.cluster_id}:{topic.topic_id}"
    return LogTopic(int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4]), len(topic.partitions))


def why(error: BaseException) -> str:
    """Return what librdkafka says, for people."""
    if isinstance(error, KafkaException) and error.args:
        told = error.args[0]
        return str(told.str()) if hasattr(told, "str") else str(told)
    return str(error) or type(error).__name__


class Remembered(msgspec.Struct, frozen=True):
    """``ownership.json`` in the run directory."""

    epoch: int
    """Epoch of the tape whose sequences these are."""
    after: list[tuple[int, int, int]]
    """Stream, partition, and the sequence behind which the tape has what was read under the present owner.

    Only of partitions of which it has something.
    """


class Ownership:
    """Which source partitions this processor owns, and from which offset on its sinks have to write.

    Shared by the source, which learns it from the group, and the sinks: what another processor has gone on with, or
    has written already, is not written again. Used from any thread.

    It is remembered over a restart. The tape has trades of partitions that were given up, which sinks have passed
    over: who took the tape's position for them as read would leave them out for ever. So a partition that comes back
    is remembered only once the tape has something of its new time: until then the tape's position is of the old one.

    Args:
        path: Where it is remembered.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._epoch = 0
        self._lock = threading.Lock()
        self._from: dict[tuple[int, int], int] = {}
        self._after: dict[tuple[int, int], int] = {}
        self._on_tape: set[tuple[int, int]] = set()
        self._known = False
        self.version = 0
        """Changes with everything that a sink was told."""

    def remember(self, epoch: int) -> None:
        """Learn what was owned when this processor ended, if the tape is still the same one."""
        self._epoch = epoch
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found = msgspec.json.decode(self._path.read_bytes(), type=Remembered)
            if found.epoch == epoch:
                self._after = {(stream, partition): after for stream, partition, after in found.after}
                self._on_tape = set(self._after)

    def goes_on(self, stream: int, partition: int) -> bool:
        """Whether what the tape has of a partition counts, when it is assigned now: it was never given up."""
        return not self._known and (stream, partition) in self._after

    def take(self, owned: Mapping[tuple[int, int], int]) -> None:
        """Own these partitions from now on, from these offsets.

        Those that go on count at once, with what the tape has of them from before. Of others the tape may still get
        what was under way when they were given up: they count from `begin` on.
        """
        with self._lock:
            self.version += 1
            self._from.update(owned)
            going_on = owned.keys() if not self._known else self._from.keys() - owned.keys()
            self._after = {partition: at for partition, at in self._after.items() if partition in going_on}
            self._on_tape &= self._after.keys()
            self._known = True
            self._keep()

    def begin(self, stream: int, partition: int, after: int) -> None:
        """Learn that what is read of a partition under its present owner comes after sequence `after` on the tape."""
        with self._lock:
            if (stream, partition) in self._from:
                self.version += 1
                self._after.setdefault((stream, partition), after)

    def appended(self, partitions: Iterable[tuple[int, int]]) -> None:
        """Learn that the tape has something of these partitions, by now of their present owner if they have begun."""
        with self._lock:
            new = (self._after.keys() & partitions) - self._on_tape
            if new:
                self._on_tape |= new
                self._keep()

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
            self._on_tape.discard((stream, partition))
            self._keep()  # before any sink passes over what the tape still has of it

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

    def _keep(self) -> None:
        after = [(*partition, self._after[partition]) for partition in sorted(self._on_tape)]
        draft = self._path.with_name(f"{self._path.name}.new")
        draft.write_bytes(msgspec.json.encode(Remembered(self._epoch, after)))
        draft.replace(self._path)
