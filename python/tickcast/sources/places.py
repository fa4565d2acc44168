"""From which offset a partition of a Kafka topic is read, and its trades go out.

That is for its group's commits, what windows need of it, what the tape has, and what the topic has no more to say.
"""

import logging
import time
from collections.abc import Mapping

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, TopicPartition

from tickcast import urls
from tickcast.commits import CommitNote
from tickcast.kafka import LogTopic, Ownership, client_settings, why
from tickcast.sources.shelf import Shelf

__all__ = ["Places"]

log = logging.getLogger("tickcast.kafka")

ANSWER_S = 5.0
LOOK_S = 3.0
HASTE_S = 0.5
PLACE_S = 20.0
"""How long brokers may take in all to say where partitions end; then each gets `HASTE_S` to answer."""
NO_END = 2**63 - 1
"""Of a partition whose end nobody tells."""
REACHES_BACK = 2
"""How many reaches before the first message the log is read where no commit says it."""


class Places:
    """Asks brokers where the partitions of a topic stand.

    Args:
        url: The topic.
        options: Settings of librdkafka.
        reach_ns: How far back windows and rules need ticks, ns.
        ownership: Knows of which partitions the tape's position counts.
        writer: Transactional id of whoever commits for this member; None: it does itself.
    """

    def __init__(
        self, url: urls.Kafka, options: Mapping[str, str], reach_ns: int, ownership: Ownership, writer: str | None
    ) -> None:
        self._url, self._reach_ns, self._ownership, self._writer = url, reach_ns, ownership, writer
        self._settings = client_settings(url, options)
        self.tape: dict[tuple[int, int], int] = {}
        """Last offset of each stream and partition that the tape had at the start."""

    def shelves(
        self, consumer: Consumer, partitions: list[TopicPartition], topic: LogTopic, *, is_made_again: bool
    ) -> dict[int, Shelf]:
        """Return the shelf of each partition, which knows its places.

        Args:
            consumer: Of the group.
            partitions: Those that have been assigned.
            topic: What brokers say of it.
            is_made_again: It has been made again under this processor.

        Raises:
            KafkaException: The brokers don't answer.
        """
        committed = self.committed(consumer, partitions, topic.stream)
        begins = self._pin_begins(consumer, committed, topic, is_made_again=is_made_again)
        patience = Patience(PLACE_S)
        return {known.partition: self._shelf(consumer, known, topic.stream, begins, patience) for known in committed}

    def committed(self, consumer: Consumer, partitions: list[TopicPartition], stream: int) -> list[TopicPartition]:
        """Ask what the group has committed of a stream.

        Raises:
            KafkaException: There is no answer for all of them.
        """
        found = self._committed(consumer, partitions)
        for known in found:
            if CommitNote.read(known.metadata).stream not in {None, stream}:
                known.offset, known.metadata = OFFSET_INVALID, ""  # of the topic that had the name before
        return found

    def _pin_begins(
        self, consumer: Consumer, committed: list[TopicPartition], topic: LogTopic, *, is_made_again: bool
    ) -> dict[int, int]:
        """Commit where new messages begin, before any of them has come, when the group first sees the topic.

        What is there then is not new; all of a partition that it gets later is. So all partitions are pinned, whosever
        they are, and who finds one without a commit beside others that have one knows that it was added.

        Returns:
            Where each partition begins; nothing unless the group has just seen its first.
        """
        if self._url.start != "new" or all(known.offset >= 0 for known in committed):
            return {}
        everyone = [TopicPartition(self._url.topic, partition) for partition in range(topic.partitions)]
        if any(known.offset >= 0 for known in self._committed(consumer, everyone)):
            return {}
        mine = {known.partition for known in committed}
        begins, pins = {}, []
        for known in everyone:
            low, high = _ends(consumer, known, ANSWER_S)
            begin = begins[known.partition] = low if is_made_again else high
            note = CommitNote(begin, self._writer if known.partition in mine else None, topic.stream)
            pins.append(TopicPartition(known.topic, known.partition, begin, note.text()))
        try:
            consumer.commit(offsets=pins, asynchronous=False)
        except KafkaException as error:
            log.info("where %s begins is not committed yet: %s", self._url.topic, why(error))
        return begins

    def _shelf(
        self, consumer: Consumer, known: TopicPartition, stream: int, begins: dict[int, int], patience: "Patience"
    ) -> Shelf:
        """Decide from where a partition is read, and from where its trades go out and are written."""
        low, high = self._ends(consumer, known, patience)
        # Behind what the tape has, unless sinks may have passed over some of it when it was given up.
        goes_on = self._ownership.goes_on(stream, known.partition)
        on_tape = self.tape.get((stream, known.partition)) if goes_on else None
        if known.offset < 0 and on_tape is None:
            begin = begins.get(known.partition, low)
            return Shelf(begin, begin, goes_on=goes_on, stream=stream, committed=begin)
        # Beyond the end only where brokers have lost what they had acknowledged.
        committed = min(max(known.offset, 0), high)
        resume = max(committed, min(on_tape + 1, high) if on_tape is not None else 0)
        lost = max(0, low - resume)
        if lost:
            log.warning("%s no longer has %d messages of partition %d", self._url.topic, lost, known.partition)
        if resume <= low:
            return Shelf(low, low, goes_on=goes_on, stream=stream, committed=committed, lost=lost)
        read_from = max(low, self._read_from(consumer, known, resume))
        return Shelf(resume, read_from, goes_on=goes_on, stream=stream, committed=committed)

    def _ends(self, consumer: Consumer, known: TopicPartition, patience: "Patience") -> tuple[int, int]:
        """Return the first offset that a partition still has, and the one behind its last, or bounds of them."""
        try:
            return _ends(consumer, known, patience.left_s)
        except KafkaException as error:
            if known.offset < 0 or CommitNote.read(known.metadata).lowest is None:
                raise
            # The other partitions are not to wait until its leader is back. What is out of range then is told then.
            log.warning("%s, partition %d: %s", self._url.topic, known.partition, why(error))
            return 0, NO_END

    def _read_from(self, consumer: Consumer, known: TopicPartition, resume: int) -> int:
        """Return the offset from which the windows can be had as they were at `resume`."""
        lowest = CommitNote.read(known.metadata).lowest
        if lowest is not None:
            return min(lowest, resume)
        if resume == 0 or (known.offset < 0 and self._url.start == "all"):
            # Or killed before its first commit: the windows hold what there is from the beginning.
            return 0
        return self._by_broker_time(consumer, known.partition, resume)

    def _committed(self, consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Ask what the group has committed; another client, where this one gets no answer.

        Seen once, in a test: a member that came right after the brokers' restart got none for as long as it asked. Why
        is not known; another client at least finds the coordinator anew.
        """
        if not partitions:
            return []
        try:
            found: list[TopicPartition] = consumer.committed(partitions, timeout=ANSWER_S)
        except KafkaException as error:
            log.info("%s: %s; asked again by another client", self._url.topic, why(error))
            found = self._asked_by_another(partitions)
        for known in found:
            if known.error is not None:
                raise KafkaException(known.error)
        return found

    def _asked_by_another(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        settings = self._settings | {"group.id": self._url.group, "isolation.level": "read_committed"}
        looking = Consumer({**settings, "enable.auto.commit": False})
        try:
            return looking.committed(partitions, timeout=ANSWER_S)
        finally:
            looking.close()

    def _by_broker_time(self, consumer: Consumer, partition: int, resume: int) -> int:
        """Return the offset of the message two reaches before the one at `resume`."""
        settings = self._settings | {"group.id": f"{self._url.group}-look", "auto.offset.reset": "earliest"}
        looking = Consumer({**settings, "enable.auto.commit": False})
        try:
            looking.assign([TopicPartition(self._url.topic, partition, resume - 1)])
            found = looking.consume(1, LOOK_S)
        finally:
            looking.close()
        if not found or found[0].error() is not None:
            return resume
        back_ms = found[0].timestamp()[1] - REACHES_BACK * self._reach_ns // 1_000_000
        asked = TopicPartition(self._url.topic, partition, max(0, back_ms))
        offset = consumer.offsets_for_times([asked], timeout=ANSWER_S)[0].offset
        return min(offset, resume) if offset >= 0 else resume


class Patience:
    """How long several answers may take together.

    Args:
        seconds: In all, before each gets only `HASTE_S`.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """How long the next answer may take, seconds."""
        return min(ANSWER_S, max(HASTE_S, self._end - time.monotonic()))


def _ends(consumer: Consumer, known: TopicPartition, timeout_s: float) -> tuple[int, int]:
    ends: tuple[int, int] = consumer.get_watermark_offsets(known, timeout=timeout_s)
    return ends
