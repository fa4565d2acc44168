"""``kafka://`` as a source of judged trades: every partition of a topic, without a group, in a thread.

Where reading goes on stands on the tape, so nothing is committed to the brokers, and any number of gateways read the
whole topic beside one another. Only what is committed is read.
"""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from time import monotonic

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from tickcast import urls
from tickcast._core import Inbox, KafkaInlet, TopicTrades, decode_topic
from tickcast.errors import SourceError
from tickcast.follower.base import Known, Start, Trades
from tickcast.follower.topic import Topic, no_judge
from tickcast.kafka import client_settings, log_topic, open_inlet, poll, why
from tickcast.sources.base import Position, SourceState
from tickcast.sources.member import REFUSALS

__all__ = ["KafkaTrades"]

log = logging.getLogger("tickcast.kafka")

TAKE, TAKE_S, GATHER_S = 4096, 0.1, 0.005
"""Messages taken from librdkafka at a time, the longest wait for the first, and for more."""
MOST_ROWS = 65_536
"""Trades that may wait for the tape; beyond it nothing is read."""
LOOK_S, LOOK_AWAY_S = 5.0, 0.5
"""How often the topic is looked at for new partitions, and for whether the brokers answer; how often while not."""
ANSWER_S = 2.0
RETRY_S = 0.5
EMPTY_S = 1.0
"""How long a topic may bring nothing before its tape is begun without knowing the enrichments."""


class KafkaTrades:
    """The judged trades of a topic. Reconnects by itself, for ever.

    Args:
        url: The topic; its group plays no part.
        options: Settings of librdkafka.
    """

    def __init__(self, url: urls.Kafka, options: dict[str, str]) -> None:
        self._url, self._options = url, options
        self._shown = f"kafka://{url.servers}/{url.topic}"
        self._state = SourceState.now("reconnecting", "not connected yet")
        self._topic = Topic(self._shown, None)
        self._known: dict[tuple[int, int], int] = {}
        self._items: deque[Start | Trades] = deque()
        self._arrived: deque[TopicTrades] = deque()
        self._skipped: deque[Position] = deque()
        self._rows = 0
        self._room = threading.Condition()
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._error: SourceError | None = None
        self._aged_out = 0
        # Of the thread:
        self._stream = 0
        self._next: dict[int, int] = {}
        self._unsure = False
        self._moved = False
        """Partitions have to be read from somewhere else."""

    async def open(self, known: Known | None) -> None:
        """Prepare to go on right after what the tape has."""
        self._topic = Topic(self._shown, known)
        if known is not None:
            self._known = {position[:2]: position[2] + 1 for position in known.positions}
            self._state = SourceState.now("stale", "not connected yet")
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="kafka-trades", daemon=True)
        self._thread.start()

    async def next(self) -> Start | Trades | None:
        """Wait for what comes next.

        Raises:
            SourceError: The brokers refuse.
        """
        while not self._items:
            self._news.clear()
            with self._room:
                trades = self._arrived.popleft() if self._arrived else None
                if trades is not None:
                    self._rows -= trades.rows
                    self._room.notify_all()
            if trades is not None:
                while self._skipped:
                    self._topic.skip(self._skipped.popleft())
                self._items.extend(self._topic.take(trades))
            elif self._error is not None:
                raise self._error
            else:
                await self._wait()
        return self._items.popleft()

    async def judge(self, payload: bytes) -> list[str]:
        """Refuse: there is no processor behind a topic.

        Raises:
            JudgeAwayError: Always.
        """
        raise no_judge(self._shown)

    def state(self) -> SourceState:
        """Return where the connection stands."""
        return self._state

    @property
    def lost(self) -> int:
        """Messages that the topic no longer had when they were wanted, or that held no trades."""
        return self._aged_out + self._topic.undecodable

    async def close(self) -> None:
        """Disconnect."""
        self._closing.set()
        with self._room:
            self._room.notify_all()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 10.0)

    async def _wait(self) -> None:
        """Wait for news; a topic that stays empty gets its tape nevertheless, so that clients can come."""
        if self._topic.has_tape:
            await self._news.wait()
            return
        try:
            async with asyncio.timeout(EMPTY_S):
                await self._news.wait()
        except TimeoutError:
            if self._state.state == "live":
                self._items.append(self._topic.start())

    # Below: the thread.

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._follow()
        except SourceError as error:
            self._error = error
        except KafkaException as error:
            self._error = SourceError(f"source: {self._shown}: {why(error)}")
        except Exception as error:
            log.exception("following %s has failed", self._shown)
            self._error = SourceError(f"source: {self._shown}: {type(error).__name__}: {error}")
        finally:
            self._tell()

    def _follow(self) -> None:
        """Read with a client of its own until closed, or until partitions have to be read from somewhere else.

        In librdkafka 2.16 a partition that is assigned again does not come by the inlet: that takes a new client.
        """
        consumer, inlet = open_inlet(
            {
                "group.id": "tickcast-follower",  # librdkafka wants one; it is never joined
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": 65_536,
                "fetch.error.backoff.ms": 50,
                "allow.auto.create.topics": False,
                **client_settings(self._url, self._options),
                "enable.auto.commit": False,
                "error_cb": self._on_error,
            },
            TAKE,
        )
        try:
            if self._next or self._find_out(consumer):
                for partition in self._next:
                    inlet.divert(self._url.topic, partition)
                consumer.assign([TopicPartition(self._url.topic, number, at) for number, at in self._next.items()])
                self._moved = False
                self._live()
                self._read(consumer, inlet)
        finally:
            inlet.close()
            with contextlib.suppress(KafkaException, RuntimeError):
                consumer.close()

    def _find_out(self, consumer: Consumer) -> bool:
        """Find out which topic it is, and where to begin; False if closed meanwhile."""
        while not self._closing.is_set():
            try:
                self._stream = log_topic(self._url, self._options).stream
                self._begin(consumer)
                return True
            except (KafkaException, TimeoutError) as error:
                self._away(f"{self._shown}: {why(error)}")
                self._refuse(error)
                self._closing.wait(RETRY_S)
        return False

    def _begin(self, consumer: Consumer, *, anew: bool = False) -> None:
        """Decide to read each partition from where the tape stands; one that it has nothing of, from the beginning."""
        known = {partition: offset for (stream, partition), offset in self._known.items() if stream == self._stream}
        at_end = self._url.start == "new" and not known and not anew
        self._next = {}
        for partition in self._partitions(consumer):
            offset = known.get(partition, OFFSET_BEGINNING)
            if at_end:
                _, offset = consumer.get_watermark_offsets(TopicPartition(self._url.topic, partition), ANSWER_S)
                if offset > 0:
                    self._skipped.append((self._stream, partition, offset - 1, 0xFFFF))
            self._next[partition] = offset
        self._moved, self._unsure = True, False

    def _partitions(self, consumer: Consumer) -> list[int]:
        """Ask for the topic's partitions.

        Raises:
            KafkaException: The brokers don't answer, or there is no such topic.
        """
        topic = consumer.list_topics(self._url.topic, ANSWER_S).topics[self._url.topic]
        if topic.error is not None:
            raise KafkaException(topic.error)
        return sorted(topic.partitions)

    def _read(self, consumer: Consumer, inlet: KafkaInlet) -> None:
        looked = monotonic()
        while not (self._closing.is_set() or self._moved):
            told = poll(consumer)
            if told is not None:
                self._meet_error(consumer, *told)
            inboxes, errors = inlet.take(TAKE_S, GATHER_S)
            if inboxes:
                self._put(inboxes)
            for partition, code in errors:
                self._meet_error(consumer, partition, KafkaError(code))
            if monotonic() - looked >= (LOOK_S if self._state.state == "live" else LOOK_AWAY_S):
                self._look(consumer)
                looked = monotonic()

    def _put(self, inboxes: list[tuple[int, Inbox]]) -> None:
        """Hand messages on, once there is room."""
        trades = decode_topic(inboxes, stream=self._stream, format=self._url.format)
        for _, partition, offset, _ in trades.positions:
            self._next[partition] = offset + 1
        with self._room:
            while self._rows > MOST_ROWS and not self._closing.is_set():
                self._room.wait(1.0)
            self._arrived.append(trades)
            self._rows += trades.rows
        self._tell()

    def _look(self, consumer: Consumer) -> None:
        """See whether the brokers answer, whether the topic still is the one it was, and whether it has grown."""
        try:
            partitions = self._partitions(consumer)
            if self._unsure:
                stream = log_topic(self._url, self._options).stream
                if stream != self._stream:
                    log.warning("%s has been made again, it is read from its beginning", self._shown)
                    self._stream = stream
                    self._begin(consumer, anew=True)
                self._unsure = False
        except (KafkaException, TimeoutError) as error:
            self._unsure = True
            self._away(f"{self._shown}: {why(error)}")
            return
        new = [partition for partition in partitions if partition not in self._next]
        if new:
            log.info("%s has new partitions: %s", self._shown, new)
            self._next.update(dict.fromkeys(new, OFFSET_BEGINNING))
            self._moved = True
        self._live()

    def _meet_error(self, consumer: Consumer, partition: int | None, error: KafkaError) -> None:
        if error.code() == KafkaError._AUTO_OFFSET_RESET and partition is not None:
            self._go_where_there_is_some(consumer, partition)
        else:
            self._on_error(error)

    def _go_where_there_is_some(self, consumer: Consumer, partition: int) -> None:
        """Go on with what a partition still has; what lay before is lost, and counted."""
        with contextlib.suppress(KafkaException):  # asked again at the next error
            low, high = consumer.get_watermark_offsets(TopicPartition(self._url.topic, partition), ANSWER_S)
            wanted = self._next.get(partition, OFFSET_BEGINNING)
            if 0 <= wanted < low:
                self._aged_out += low - wanted
                log.warning("%s no longer has %s messages of partition %s", self._shown, low - wanted, partition)
            self._next[partition] = low if wanted < low else high
            self._unsure, self._moved = wanted > high, True

    def _on_error(self, error: KafkaError) -> None:
        self._refuse(KafkaException(error))
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError.UNKNOWN_TOPIC_OR_PART):
            self._unsure = True
            self._away(f"{self._shown}: {error.str()}")
        else:
            log.debug("librdkafka: %s", error.str())

    def _refuse(self, error: BaseException) -> None:
        """End if trying again would not help."""
        told = error.args[0] if isinstance(error, KafkaException) and error.args else None
        if isinstance(told, KafkaError) and (told.fatal() or told.code() in REFUSALS):
            self._error = SourceError(f"source: {self._shown}: {told.str()}")
            self._closing.set()

    def _live(self) -> None:
        if self._state.state != "live":
            self._state = SourceState.now("live", f"following {self._shown}, partitions {sorted(self._next)}")
            log.info("%s", self._state.detail)
            self._tell()

    def _away(self, detail: str) -> None:
        was = self._state
        if was.state == "live":
            log.warning("%s", detail)
        state = "stale" if was.state in ("live", "stale") else "reconnecting"
        self._state = SourceState(state, was.since, detail) if was.state == state else SourceState.now(state, detail)

    def _tell(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._news.set)
