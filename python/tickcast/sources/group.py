"""Who is a member of a Kafka consumer group, and which partitions each of them has."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

__all__ = ["Members", "members"]

ANSWER_S = 5.0


class Members(NamedTuple):
    """What the brokers say of a group."""

    is_stable: bool
    """Nobody joins or leaves at the moment."""
    partitions: dict[str, set[tuple[str, int]]]
    """Topics and partitions that each member has, by its instance; of such without a name by their member id."""

    def lacks(self, topic: str, partitions: int) -> set[int]:
        """Return which of a topic's first ``partitions`` are nobody's."""
        taken = {number for had in self.partitions.values() for name, number in had if name == topic}
        return set(range(partitions)) - taken


def members(settings: Mapping[str, Any], group: str) -> Members:
    """Ask who is a member of a group.

    Args:
        settings: librdkafka's, for clients of any kind.
        group: The consumer group.

    Raises:
        KafkaException: The brokers don't answer.
        TimeoutError: Likewise.
    """
    admin = AdminClient(dict(settings))
    told = admin.describe_consumer_groups([group], request_timeout=ANSWER_S)[group].result(ANSWER_S + 1)
    partitions = {
        one.group_instance_id or one.member_id: {(at.topic, at.partition) for at in one.assignment.topic_partitions}
        for one in told.members
    }
    return Members(told.state == ConsumerGroupState.STABLE, partitions)
