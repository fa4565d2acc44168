"""From which offset a partition of a Kafka topic is read: what its group has committed, and what windows need of it."""

import logging
from collections.abc import Mapping

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, TopicPartition

from tickcast import urls
from tickcast.commits import CommitNote
from tickcast.kafka import client_settings, why

__all__ = ["Places"]

log = logging.getLogger("tickcast.kafka")

ANSWER_S = 5.0
LOOK_S = 3.0
REACHES_BACK = 2
"""How many reaches before the first message the log is read where no commit says it."""


class Places:
    """Asks brokers where the partitions of a topic stand.

    Args:
        url: The topic.
        options: Settings of librdkafka.
        reach_ns: How far back windows and rules need ticks, ns.
    """

    def __init__(self, url: urls.Kafka, options: Mapping[str, str], reach_ns: int) -> None:
        self._url, self._reach_ns = url, reach_ns
        self._settings = client_settings(url, options)

    def committed(self, consumer: Consumer, partitions: list[TopicPartition], stream: int) -> list[TopicPartition]:
        """Ask what the group has committed of a stream; another client, where this one gets no answer.

        Seen once, in a test: a member that came right after the brokers' restart got none for as long as it asked. Why
        is not known; another client at least finds the coordinator anew.

        Raises:
            KafkaException: There is no answer for all of them.
        """
        if not partitions:
            return []
        try:
            found = consumer.committed(partitions, timeout=ANSWER_S)
        except KafkaException as error:
            log.info("%s: %s; asked again by another client", self._url.topic, why(error))
            found = self._asked_by_another(partitions)
        for known in found:
            if known.error is not None:
                raise KafkaException(known.error)
            if CommitNote.read(known.metadata).stream not in {None, stream}:
                known.offset, known.metadata = OFFSET_INVALID, ""  # of the topic that had the name before
        return found

    @staticmethod
    def ends(consumer: Consumer, known: TopicPartition) -> tuple[int, int]:
        """Return the first offset that a partition still has, and the one behind its last.

        Raises:
            KafkaException: The brokers don't answer.
        """
        ends: tuple[int, int] = consumer.get_watermark_offsets(known, timeout=ANSWER_S)
        return ends

    def read_from(self, consumer: Consumer, known: TopicPartition, resume: int) -> int:
        """Return the offset from which the windows can be had as they were at `resume`.

        Args:
            consumer: Of the group.
            known: The partition, as `committed` gave it.
            resume: First offset whose trades go out.

        Raises:
            KafkaException: The brokers don't answer.
        """
        lowest = CommitNote.read(known.metadata).lowest
        if lowest is not None:
            return min(lowest, resume)
        if resume == 0 or (known.offset < 0 and self._url.start == "all"):
            # Or killed before its first commit: the windows hold what there is from the beginning.
            return 0
        return self._by_broker_time(consumer, known.partition, resume)

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
