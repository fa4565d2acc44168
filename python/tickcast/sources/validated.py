"""The topic of judged trades, read again by who takes a partition over: what it says is not judged again."""

import logging
import threading
import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tickcast import urls
from tickcast._core import EarlierVerdicts, KafkaInlet, decode_topic
from tickcast.kafka import client_settings, open_inlet, poll, why
from tickcast.sources.base import VERDICT_MARGIN_MS, VERDICT_PATIENCE_S

__all__ = ["ValidatedTopic"]

log = logging.getLogger("tickcast.kafka")

TAKE, TAKE_S, GATHER_S = 10_000, 0.1, 0.01
ANSWER_S = 5.0


class ValidatedTopic:
    """Where the trades of a consumer group go.

    Args:
        url: The sink.
        options: Settings of librdkafka.
    """

    def __init__(self, url: urls.KafkaSink, options: Mapping[str, str]) -> None:
        self._url = url
        self._options = dict(options)

    def read(
        self, earlier: EarlierVerdicts, stream: int, partitions: list[int], since_ms: int, closing: threading.Event
    ) -> None:
        """Learn what the ticks of source partitions were judged; blocks, for `VERDICT_PATIENCE_S` at most.

        Brokers that don't answer are no error: the ticks are judged again then.

        Args:
            earlier: Is told the verdicts.
            stream: Stream of the ticks' positions.
            partitions: Partitions of the ticks' positions.
            since_ms: The log's time of the first tick, ms since the Unix epoch.
            closing: Set: give up.
        """
        consumer, inlet = open_inlet(
            {
                "group.id": "tickcast-verdicts",  # librdkafka wants one; it is never joined
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "allow.auto.create.topics": False,
                **client_settings(self._url, self._options),
                "enable.auto.commit": False,
            },
            TAKE,
        )
        try:
            count = self._read(consumer, inlet, earlier, stream, partitions, since_ms, closing)
            log.info("%s trades of %s read for the verdicts on partitions %s", count, self._url.topic, partitions)
        except KafkaException as error:
            log.warning("ticks are judged again, %s can't be read: %s", self._url.topic, why(error))
        finally:
            inlet.close()
            consumer.close()

    def _read(  # noqa: PLR0917 (called in one place)
        self,
        consumer: Consumer,
        inlet: KafkaInlet,
        earlier: EarlierVerdicts,
        stream: int,
        partitions: list[int],
        since_ms: int,
        closing: threading.Event,
    ) -> int:
        topic = self._url.topic
        known = consumer.list_topics(topic, ANSWER_S).topics[topic]
        if known.error is not None:
            raise KafkaException(known.error)
        asked = [TopicPartition(topic, number, max(0, since_ms - VERDICT_MARGIN_MS)) for number in known.partitions]
        starts = consumer.offsets_for_times(asked, timeout=ANSWER_S)
        for start in starts:
            inlet.divert(topic, start.partition)
        consumer.assign([start for start in starts if start.offset >= 0])
        left = {start.partition for start in starts if start.offset >= 0}
        deadline, count = time.monotonic() + VERDICT_PATIENCE_S, 0
        while left and not closing.is_set():
            if time.monotonic() > deadline:
                log.warning("ticks are judged again: %s is not read to its end within %g s", topic, VERDICT_PATIENCE_S)
                break
            poll(consumer)
            inboxes, errors = inlet.take(TAKE_S, GATHER_S)
            count += sum(len(inbox) for _, inbox in inboxes)
            earlier.learn(decode_topic(inboxes, stream=0, format=self._url.format), stream, partitions)
            left -= {partition for partition, code in errors if code == KafkaError._PARTITION_EOF}
        return count
