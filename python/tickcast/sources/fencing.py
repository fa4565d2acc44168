"""A dead processor's transaction is ended by whoever takes its partitions over, not by its timeout.

While it is open, nobody sees what others have written behind it in the same partitions of the validated topic, and how
far the dead one had come is not decided. A producer of the same transactional id ends it at once.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tickcast.commits import CommitNote
from tickcast.kafka import why
from tickcast.sources.group import members

__all__ = ["end_transactions_of_the_dead"]

log = logging.getLogger("tickcast.kafka")

ANSWER_S = 5.0


def end_transactions_of_the_dead(
    settings: Mapping[str, Any], group: str, own_id: str, partitions: Sequence[TopicPartition]
) -> None:
    """End what writers of these partitions have left open who are no members of the group any more.

    Args:
        settings: librdkafka's, for clients of any kind.
        group: The consumer group.
        own_id: Transactional id of this processor, which ends its own.
        partitions: Those that have just been assigned.

    Raises:
        KafkaException: The brokers don't answer.
        TimeoutError: Likewise.
    """
    writers = _writers(settings, group, partitions) - {own_id}
    if not writers:
        return
    living = {f"{group}-{name}" for name in members(settings, group).partitions}
    for writer in sorted(writers - living):
        producer = Producer({**settings, "transactional.id": writer})
        try:
            producer.init_transactions(ANSWER_S)
            log.info("what %s may have left open is ended", writer)
        except KafkaException as error:
            log.warning("what %s may have left open ends by its timeout: %s", writer, why(error))


def _writers(settings: Mapping[str, Any], group: str, partitions: Sequence[TopicPartition]) -> set[str]:
    """Return who committed last, without waiting for what is still undecided."""
    looking = Consumer({**settings, "group.id": group, "isolation.level": "read_uncommitted"})
    try:
        known = looking.committed(list(partitions), timeout=ANSWER_S)
    finally:
        looking.close()
    notes = [CommitNote.read(partition.metadata) for partition in known]
    return {note.by for note in notes if note.by is not None}
