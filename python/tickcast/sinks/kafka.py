"""``kafka://`` as a sink: a message a trade, keyed by instrument, at least once or, by transactions, exactly once."""

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tickcast import urls
from tickcast._core import Hold, Outbox
from tickcast.commits import CommitNote
from tickcast.kafka import Ownership, client_settings, open_outlet, why
from tickcast.processor.progress import Progress
from tickcast.processor.traces import Traces
from tickcast.sinks.following import FollowingSink
from tickcast.sources.base import Position

if TYPE_CHECKING:
    from tickcast.sources.kafka import KafkaSource

__all__ = ["KafkaSink", "TransactionalKafkaSink"]

log = logging.getLogger("tickcast.kafka")

MAX_TRADES, MAX_TRADES_LAGGING = 4096, 16_384
"""Trades of one flush or transaction: more at a time where there is much to catch up on."""
FLUSH_S = 1.0
RETRY_S = 0.5
ANSWER_S = 3.0
"""Longest wait for a step of a transaction."""
TRANSACTION_MS = 10_000
"""A transaction that is open longer was its writer's last."""


class KafkaSink(FollowingSink):
    """Follows the tape and confirms what the brokers have acknowledged.

    The producer is idempotent: it keeps order and doubles nothing while it lives. After a crash, trades that were
    written but not yet confirmed are written again, with the same ids.

    Args:
        url: The topic.
        options: Settings of librdkafka.
        hold: Place on the tape.
        traces: The trace contexts that ticks came with.
        ownership: Which trades are to be written; None: all.
    """

    def __init__(
        self, url: urls.KafkaSink, options: dict[str, str], hold: Hold, traces: Traces, ownership: Ownership | None
    ) -> None:
        super().__init__(hold, RETRY_S)
        self._url, self._options, self._traces = url, options, traces
        self._ownership = ownership
        self._failed: KafkaError | None = None
        self._written: dict[tuple[int, int], int] = {}
        self._open()

    def _write_next(self, wait_s: float) -> bool:
        part = self._owned()
        if part is None:
            time.sleep(wait_s)
            return True
        owned, until, version = part
        outbox = self._read(wait_s, owned, until)
        if self._version() != version:
            return True  # what was read may be of a partition that was not ours yet: read again
        self._failed = None
        self._outlet.take_failure()
        handed_over = self._produce(outbox)
        if not (self._flush() and handed_over):
            return False
        self._state = "live"
        self._confirm(outbox)
        return True

    def _let_go(self) -> None:
        """Nothing is left to do: the producer ends with its last reference."""

    def _read(self, wait_s: float, owned: dict[tuple[int, int], int] | None, until: int | None) -> Outbox:
        most = MAX_TRADES if self._hold.lag < MAX_TRADES else MAX_TRADES_LAGGING
        traces = self._traces.by_message if self._url.headers else None
        return self._hold.read_messages(most, wait_s, self._url.format, owned, until, traces)

    def _version(self) -> int:
        return self._ownership.version if self._ownership is not None else 0

    def _owned(self) -> tuple[dict[tuple[int, int], int] | None, int | None, int] | None:
        """Return from where on each source partition is written, up to which sequence that holds, and its version.

        Without owners all partitions are written, and there is no map. None: it is not known yet.
        """
        version = self._version()
        if self._ownership is None:
            return None, None, version
        known = self._ownership.behind(self._hold.confirmed)
        if known is None:
            return None
        owned, until = known
        starts = {partition: max(start, self._written.get(partition, 0)) for partition, start in owned.items()}
        return starts, until, version

    def _confirm(self, outbox: Outbox) -> None:
        if self._ownership is not None:
            self._written.update({position[:2]: position[2] + 1 for position in outbox.positions})
        self._hold.confirm(outbox.last)

    def _produce(self, outbox: Outbox) -> bool:
        """Hand everything to librdkafka, waiting for room as long as there is time; False at what it refuses."""
        produced = 0
        while produced < len(outbox) and self._failed is None and not self._is_over:
            produced, refused = self._outlet.produce(outbox, produced)
            if refused is not None:
                self._failed = KafkaError(refused)
            elif produced < len(outbox):
                self._producer.poll(0.05)
        return produced >= len(outbox)

    def _flush(self) -> bool:
        """Wait until the brokers have it all, however long they are away; False if they refused some of it."""
        while self._producer.flush(FLUSH_S):
            if self._failure() is not None:
                break
            self._state = (
                f"no acknowledgement of {self._url.servers} for topic {self._url.topic}, which has to be there: "
                f"{self._hold.lag} trades wait"
            )
            if self._is_over:
                return False
        failure = self._failure()
        if failure is not None:
            self._state = f"refused by {self._url.servers}: {failure.str()}"
            if failure.fatal() or failure.code() == KafkaError._FATAL:
                self._open()  # the old one is of no use any more
        return failure is None

    def _failure(self) -> KafkaError | None:
        code = self._outlet.take_failure()
        self._failed = self._failed or (KafkaError(code) if code is not None else None)
        return self._failed

    def _open(self) -> None:
        settings = {**self._settings(), **client_settings(self._url, self._options)}
        self._producer, self._outlet = open_outlet(settings, self._url)

    def _settings(self) -> dict[str, Any]:
        return {
            "enable.idempotence": True,
            # The tape waits as long as need be; and keys go where Java's clients would put them.
            "message.timeout.ms": 0,
            "partitioner": "murmur2_random",
            # A flush follows at once, which waits for nothing; until then nothing goes out in small pieces.
            "linger.ms": 50,
            "message.max.bytes": 10_000_000,
            "queue.buffering.max.messages": 1_000_000,
            "compression.type": "lz4",
            "delivery.report.only.error": True,
            "error_cb": self._on_error,
        }

    def _on_error(self, error: KafkaError) -> None:
        log.debug("librdkafka: %s", error.str())
        if error.fatal():
            self._failed = error


class Hangs(Exception):
    """A call of librdkafka has not come back."""


class TransactionalKafkaSink(KafkaSink):
    """Writes by transactions, with the source's positions inside: each trade exactly once, whoever is killed.

    Args:
        url: The topic.
        options: Settings of librdkafka.
        hold: Place on the tape.
        traces: The trace contexts that ticks came with.
        source: The source whose positions are committed.
        progress: Which positions the tape has by which sequence.
        name: Transactional id: one for each member of the group.
    """

    def __init__(  # noqa: PLR0917 (made in one place)
        self,
        url: urls.KafkaSink,
        options: dict[str, str],
        hold: Hold,
        traces: Traces,
        source: "KafkaSource",
        progress: Progress,
        name: str,
    ) -> None:
        self._source, self._progress, self._name = source, progress, name
        self._begun = False
        self._committed: dict[tuple[int, int], Position] = {}
        super().__init__(url, options, hold, traces, source.ownership)

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings()
        del settings["message.timeout.ms"]  # a transaction's own timeout bounds it
        return {
            **settings,
            "transactional.id": self._name,
            "transaction.timeout.ms": TRANSACTION_MS,
            # Brokers refuse the next transaction until the last one's markers are written, a few ms; librdkafka's own
            # first pause, 100 ms, was most of what a trade waited for. It doubles with every refusal.
            "retry.backoff.ms": 2,
        }

    def _write_next(self, wait_s: float) -> bool:
        try:
            if not self._begun:
                self._producer.init_transactions(ANSWER_S)
                # Whatever was under way is decided now: it may have been committed after all.
                if not self._source.look_again(ANSWER_S):
                    raise Hangs("no answer to what the group has committed")
                self._begun = True
            return self._write_transaction(wait_s)
        except (KafkaException, Hangs) as error:
            self._state = f"{self._url.servers}: {why(error)}"
            self._recover(error)
            return False

    def _write_transaction(self, wait_s: float) -> bool:
        # The generation first: if the partitions change after it, the brokers refuse it.
        group = self._source.group_metadata()
        part = self._owned()
        if part is None or group is None:
            time.sleep(wait_s)
            return True
        owned, until, version = part
        assert owned is not None  # a source of this kind has owners
        outbox = self._read(min(wait_s, 0.05), owned, until)
        if self._version() != version:
            return True
        offsets = self._offsets([*outbox.positions, *self._progress.until(outbox.last)], owned)
        if len(outbox) or offsets:
            self._failed = None
            self._producer.begin_transaction()
            if not self._produce(outbox):
                raise KafkaException(self._failed or KafkaError(KafkaError._TIMED_OUT))
            self._send_offsets(list(offsets.values()), group)
            self._commit()
        self._state = "live"
        self._confirm(outbox)
        return True

    def _commit(self) -> None:
        """Commit; what is not decided within the wait is asked for again, never written again."""
        while True:
            try:
                self._producer.commit_transaction(ANSWER_S)
                return
            except KafkaException as error:
                if self._is_over or not error.args[0].retriable():
                    raise
                self._state = f"{self._url.servers}: {why(error)}"

    def _offsets(
        self, positions: list[Position], owned: dict[tuple[int, int], int]
    ) -> dict[tuple[int, int], TopicPartition]:
        """Return what to commit: the newest position of each partition that is ours and has moved on."""
        newest: dict[tuple[int, int], Position] = {}
        for position in positions:
            key = position[:2]
            # Below it lies what an earlier owner has committed.
            if position[2] + 1 > owned.get(key, 2**63) and position > newest.get(
                key, self._committed.get(key, (0,) * 4)
            ):
                newest[key] = position
        self._committed.update(newest)
        offsets = {}
        for key, position in newest.items():
            lowest = self._progress.lowest(position)
            note = CommitNote(self._source.lowest(key[1]) if lowest is None else lowest, self._name, key[0])
            offsets[key] = TopicPartition(self._source.topic, key[1], position[2] + 1, note.text())
        return offsets

    def _send_offsets(self, offsets: list[TopicPartition], group: object) -> None:
        """Put positions into the transaction, in a thread that can be left behind.

        After a restart of the brokers librdkafka may never come back from this call, whatever timeout it was given.

        Raises:
            KafkaException: The brokers refuse.
            Hangs: It has not come back.
        """
        producer, failures, done = self._producer, list[KafkaException](), threading.Event()

        def send() -> None:
            try:
                producer.send_offsets_to_transaction(offsets, group, ANSWER_S)
            except KafkaException as error:
                failures.append(error)
            done.set()

        threading.Thread(target=send, name="kafka-offsets", daemon=True).start()
        if not done.wait(ANSWER_S + 1):
            raise Hangs("no answer to positions in a transaction")
        if failures:
            raise failures[0]

    def _recover(self, error: Exception) -> None:
        """Abort what was under way; where that fails, begin with a new producer, which fences the old one."""
        self._committed.clear()
        log.warning("transaction failed, its trades are written again: %s", why(error))
        if self._begun and not isinstance(error, Hangs):
            try:
                self._producer.abort_transaction(ANSWER_S)
                return
            except KafkaException as worse:
                log.warning("it can't be aborted, there has to be a new producer: %s", why(worse))
        self._open()
        self._begun = False
