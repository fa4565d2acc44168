"""A member of a consumer group: the thread that reads a Kafka topic, keeps to the group's rules and commits.

What it reads waits on shelves, a partition each, for whoever judges. Decided here: which partitions are whose, from
where each is read, and when reading has to wait.
"""

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tickcast import urls
from tickcast._core import Inbox, KafkaInlet
from tickcast.errors import SourceError
from tickcast.kafka import LogTopic, Ownership, client_settings, log_topic, open_inlet, poll, why
from tickcast.sources.base import Position, SourceState
from tickcast.sources.fencing import end_transactions_of_the_dead
from tickcast.sources.group import members
from tickcast.sources.places import Places
from tickcast.sources.shelves import Shelves

__all__ = ["REFUSALS", "Member"]

log = logging.getLogger("tickcast.kafka")

TAKE, TAKE_S = 4096, 0.005
"""Messages taken from librdkafka at a time, and the longest wait for the first."""
GATHER_S, GATHER_BUSY_S, BUSY = 0.001, 0.005, 64
"""How long more are waited for: when few came the last time, and when so many did, whose batches are worth it."""
COMMIT_S = 0.5
"""Pause between two commits."""
GROUP_S = 0.1
"""How often the group's generation is looked at, for transactions."""
ENDS_S = 0.5
"""How often the ends of the partitions are noted, for their lag."""
DRAIN_S = 5.0
"""How long a partition that is taken away is waited for, until tape and sinks have what was read of it."""
READ_AHEAD = {
    "queued.min.messages": 3000,
    "queued.max.messages.kbytes": 16_384,
    "fetch.message.max.bytes": 131_072,
    "fetch.queue.backoff.ms": 2,
}
"""What is fetched ahead: little, as every message that lies there ready has memory of its own.

More is fetched while fewer than 3,000 wait in all, and then 128 KiB of each partition. librdkafka's defaults, 100,000
and 1 MiB, cost a processor a third more CPU with one tick a message (`benchmarks/results/queue_path.md`), and with its
queue full it would pause for 1 s. Brokers many ms away want more, by the URL's own settings.
"""
BACK_S = 1.0
"""Longest wait for brokers that were away, each time that it is looked whether they are back."""
CHECK_S, MOST_TRIES = 5.0, 3
"""How long after an assignment it is looked whether all partitions are somebody's, and how often the group is joined
again where they aren't."""
RETRY_S = 1.0
LOUD = 10
"""Of so many failures in a row the first is a warning."""

REFUSALS = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
"""What trying again does not mend."""

DOUBTS = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
"""After these the topic may be another one of the same name."""


class Member:
    """Connects, joins the group and reads, in a thread; reconnects by itself, for ever.

    Args:
        url: The topic.
        options: Settings of librdkafka.
        name: Name of this member for ever.
        reach_ns: How far back windows and rules need ticks, ns.
        shelves: Where messages are put.
        ownership: Is told which partitions are whose.
        on_news: Called, in the thread, when messages have been put or it has ended.
    """

    def __init__(  # noqa: PLR0917 (made in one place)
        self,
        url: urls.Kafka,
        options: dict[str, str],
        name: str,
        reach_ns: int,
        shelves: Shelves,
        ownership: Ownership,
        on_news: Callable[[], None],
    ) -> None:
        self._url, self._options, self.name = url, options, name
        self._shelves, self._ownership, self._on_news = shelves, ownership, on_news
        self._thread: threading.Thread | None = None
        self._consumer: Consumer | None = None
        self._inlet: KafkaInlet | None = None
        self._looks: deque[threading.Event] = deque()
        self.commits = not url.exactly_once
        """Whether it commits; else the sink does, with its transactions."""
        self.closing = threading.Event()
        """Set when it ends, for whatever reason."""
        self.state = SourceState.now("reconnecting", "not connected yet")
        self.error: SourceError | None = None
        """Why it has ended."""
        self._places = Places(url, options, reach_ns, ownership, None if self.commits else self.transactional_id)
        self._topic = LogTopic(0, 0)
        self._is_paused = False
        self._is_unsure = False
        self._is_misplaced = False
        self._is_leaving = False
        self._is_made_again = False
        self._check_s, self._checks, self._tries = math.inf, 0, 0
        self.lost = 0
        """Messages that were to be read when the topic had them no more."""
        self.ends: dict[int, int] = {}
        """Where its partitions end, as of the last fetch; below 0 where that is not known."""
        self.group_metadata: Any = None
        """What a transaction needs to commit for the group: librdkafka's own, opaque. None before it is joined."""

    @property
    def transactional_id(self) -> str:
        """Name of the transactions that commit for this member."""
        return f"{self._url.group}-{self.name}"

    def start(self, positions: Sequence[Position]) -> None:
        """Begin to connect and to join the group.

        Args:
            positions: Where the tape stands.
        """
        self._places.tape = {(stream, partition): offset for stream, partition, offset, _ in positions}
        self._thread = threading.Thread(target=self._run, name="kafka-source", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Commit what is saved, and leave; the partitions stay reserved for this member until its session ends."""
        self.closing.set()
        self._shelves.wake()
        if self._thread is not None:
            self._thread.join(10.0)

    def look_again(self, timeout_s: float) -> bool:
        """Ask what the group has committed: from there on sinks have to write. False if there is no answer in time."""
        looked = threading.Event()
        # The thread that consumes asks: a call from another one beside it does not come back.
        self._looks.append(looked)
        return looked.wait(timeout_s)

    def _run(self) -> None:
        try:
            while self._connect():
                self._read()
                self._leave()
        except SourceError as error:
            self.error = error
        except KafkaException as error:
            self.error = SourceError(f"{urls.mask(self._shown)}: {why(error)}")
        except Exception as error:
            log.exception("the Kafka source has failed")
            self.error = SourceError(f"{urls.mask(self._shown)}: {type(error).__name__}: {error}")
        finally:
            self.closing.set()
            self._shelves.wake()
            self._leave()
            self._on_news()

    @property
    def _shown(self) -> str:
        return f"kafka://{self._url.servers}/{self._url.topic}"

    def _connect(self) -> bool:
        """Find out who the topic is, and join the group; False if closed meanwhile."""
        while not self._topic.partitions and not self.closing.is_set():
            try:
                self._topic = log_topic(self._url, self._options)
            except (KafkaException, TimeoutError) as error:
                self._enter("reconnecting", f"{self._shown}: {why(error)}")
                self.closing.wait(RETRY_S)
        if self.closing.is_set():
            return False
        self._consumer, self._inlet = open_inlet(
            {
                "group.id": self._url.group,
                "group.instance.id": self.name,
                # Not cooperative: a static member that is killed between the two rounds of a cooperative rebalance gets
                # its old assignment back, and what it was to give away is nobody's for ever.
                "partition.assignment.strategy": "range",
                "session.timeout.ms": 6000,
                "max.poll.interval.ms": 60_000,
                "heartbeat.interval.ms": 1500,
                "auto.offset.reset": "error",  # where to read instead is decided here
                "isolation.level": "read_committed",
                **READ_AHEAD,
                "fetch.error.backoff.ms": 50,
                "allow.auto.create.topics": False,
                **client_settings(self._url, self._options),
                "enable.auto.commit": False,
                "error_cb": self._on_error,
                "on_commit": self._on_commit,
            },
            TAKE,
        )
        self._is_leaving = False
        self._enter("live", f"joining group {self._url.group} at {self._shown}")
        self._join(self._consumer)
        return True

    def _join(self, consumer: Consumer) -> None:
        consumer.subscribe(
            [self._url.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _leave(self) -> None:
        """Commit what is saved and disconnect; the partitions stay reserved for this member until its session ends."""
        if self._consumer is None:
            return
        self._commit(self._consumer, wait=True)
        if self._inlet is not None:
            self._inlet.close()
        with contextlib.suppress(KafkaException, RuntimeError):
            self._consumer.close()
        self._consumer = self.group_metadata = None

    def _read(self) -> None:
        """Read until closed, or until it has to be read from somewhere else: as a member that comes back."""
        consumer, inlet = self._consumer, self._inlet
        assert consumer is not None
        assert inlet is not None
        last_commit, last_ends, gather_s = time.monotonic(), 0.0, GATHER_S
        while not self.closing.is_set():
            told = poll(consumer)
            if told is not None:
                self._on_error(told[1])
            inboxes, errors = inlet.take(TAKE_S, gather_s)
            gather_s = GATHER_BUSY_S if sum(len(inbox) for _, inbox in inboxes) >= BUSY else GATHER_S
            for _, code in errors:
                self._on_error(KafkaError(code))
            self._put(inboxes)
            if self._shelves.waiting:
                self._on_news()
            if self._looks:
                self._answer_looks(consumer)
            if time.monotonic() - last_ends >= ENDS_S:
                last_ends = time.monotonic()
                self._note_ends(consumer, inlet)
                self._look_around(consumer)
            # Not before tape and sinks have what was read: the topic may no longer have it.
            if self._is_leaving and self._shelves.are_saved:
                return
            if not self.commits and time.monotonic() - last_commit >= GROUP_S:
                last_commit = time.monotonic()
                self.group_metadata = consumer.consumer_group_metadata()
            if self.commits and time.monotonic() - last_commit >= COMMIT_S:
                last_commit = time.monotonic()
                self._commit(consumer, wait=False)
            self._relieve(consumer)

    def _look_around(self, consumer: Consumer) -> None:
        """Look whether it is still the same topic, after errors that make it doubtful, and whether brokers are back."""
        if self._is_unsure or self._is_misplaced:
            if self._has_moved():
                log.warning("%s no longer has what was to be read next: first sinks take what was read", self._shown)
                self._is_leaving = True
                self._pause(consumer)
        elif self.state.state == "reconnecting":
            self._see_whether_back(consumer)
        elif time.monotonic() >= self._check_s and not self._is_leaving:
            self._see_to_all(consumer)

    def _note_ends(self, consumer: Consumer, inlet: KafkaInlet) -> None:
        """Note where the partitions end, as the last fetch had it; asks nobody."""
        ends = {}
        for known in consumer.assignment():
            # Again: librdkafka 2.16 forgets it where a partition is stopped after it was diverted.
            inlet.divert(known.topic, known.partition)
            _, ends[known.partition] = consumer.get_watermark_offsets(known, cached=True)
        self.ends = ends

    def _answer_looks(self, consumer: Consumer) -> None:
        """Look for those that wait; tried again where the brokers don't answer."""
        with contextlib.suppress(KafkaException):
            asked = [TopicPartition(self._url.topic, partition) for partition in self._shelves.partitions]
            for known in self._places.committed(consumer, asked, self._topic.stream):
                if known.offset >= 0:
                    move = partial(self._ownership.move, self._topic.stream, known.partition, known.offset)
                    self._shelves.if_there(known.partition, move)
            while self._looks:
                self._looks.popleft().set()

    def _put(self, inboxes: list[tuple[int, Inbox]]) -> None:
        if inboxes and self.state.state != "live":
            self._enter("live", f"reading {self._shown}")
        self._shelves.put(inboxes)

    def _relieve(self, consumer: Consumer) -> None:
        """Pause all partitions while too much waits, or let them go on."""
        if self._shelves.are_full and not self._is_paused:
            self._pause(consumer)
        elif self._is_paused and self._shelves.have_room and not self._is_leaving:
            consumer.resume(consumer.assignment())
            self._is_paused = False

    def _pause(self, consumer: Consumer) -> None:
        consumer.pause(consumer.assignment())
        self._is_paused = True

    def _see_whether_back(self, consumer: Consumer) -> None:
        """Note that brokers answer again: where no messages come, nothing else says so."""
        with contextlib.suppress(KafkaException):
            if consumer.list_topics(self._url.topic, timeout=BACK_S).topics[self._url.topic].error is None:
                self._enter("live", f"reading {self._shown}")

    def _see_to_all(self, consumer: Consumer) -> None:
        """Join the group again where partitions are nobody's: they were added while its leader was away.

        A static member that comes back gets what it had, and the brokers have the group share anew only when it is its
        leader who joins again, whoever that is: each of them tries in turn.
        """
        self._check_s = time.monotonic() + CHECK_S
        try:
            topic = consumer.list_topics(self._url.topic, timeout=BACK_S).topics[self._url.topic]
            known = members(client_settings(self._url, self._options), self._url.group)
        except (KafkaException, TimeoutError) as error:
            log.debug("%s: who reads what is not known: %s", self._shown, why(error))
            return
        if not known.is_stable or self.name not in known.partitions:
            return
        lacking = known.lacks(self._url.topic, len(topic.partitions))
        if not lacking:
            self._check_s, self._tries = math.inf, 0
        elif self._tries >= MOST_TRIES:
            log.warning("%s: nobody reads partitions %s: start its readers again", self._shown, sorted(lacking))
            self._check_s = math.inf
        elif self._checks < sorted(known.partitions).index(self.name):
            self._checks += 1
        else:
            log.info("nobody reads partitions %s: joining the group again", sorted(lacking))
            self._checks, self._tries = 0, self._tries + 1
            self._join(consumer)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        placed = self._patiently(lambda: self._place(consumer, partitions))
        if placed is None or self._inlet is None:
            return
        for known in placed:
            self._inlet.divert(self._url.topic, known.partition)
        consumer.assign(placed)
        # A pause outlives its assignment: those that come back would stand still for ever.
        consumer.resume(placed)
        self._is_paused = False
        if self._is_leaving:
            self._pause(consumer)
        self._check_s = time.monotonic() + CHECK_S
        log.info("partitions assigned: %s", ", ".join(map(shown, placed)) or "none")
        self._enter("live", f"reading {self._shown}, partitions {self._shelves.partitions}")
        self._on_news()

    def _place(self, consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Decide from where to read each partition, and from where on trades go out."""
        if partitions:
            self._learn_topic()
        if partitions and not self.commits:
            settings = client_settings(self._url, self._options)
            end_transactions_of_the_dead(settings, self._url.group, self.transactional_id, partitions)
        shelves = self._places.shelves(consumer, partitions, self._topic, is_made_again=self._is_made_again)
        self._shelves.add(shelves)
        self.lost += sum(shelf.lost for shelf in shelves.values())
        if shelves:
            self._ownership.take({(self._topic.stream, at): shelf.saved + 1 for at, shelf in shelves.items()})
        return [TopicPartition(self._url.topic, at, shelf.lowest) for at, shelf in shelves.items()]

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [known.partition for known in partitions]
        self._shelves.clear(numbers)  # whoever has them next reads it
        if not (self.closing.is_set() or self._shelves.wait_saved(numbers, DRAIN_S, self.closing)):
            log.warning("sinks have not taken all of partitions %s: their next owner goes over it", numbers)
        self._commit(consumer, wait=True)
        self._let_go(consumer, numbers)
        log.info("partitions revoked: %s", ", ".join(map(str, numbers)))

    def _learn_topic(self) -> bool:
        """Ask which topic it is; return whether it is another one than before.

        Raises:
            KafkaException: The brokers don't answer.
            TimeoutError: Likewise.
        """
        before, self._topic = self._topic, log_topic(self._url, self._options)
        if self._topic.stream == before.stream:
            return False
        log.warning("%s has been made again: it is read from its beginning", self._shown)
        self._is_made_again = True
        return True

    def _has_moved(self) -> bool:
        """Whether the topic is another one now, or has no more what was to be read."""
        try:
            moved = self._learn_topic() or self._is_misplaced
        except (KafkaException, TimeoutError) as error:
            self._enter("reconnecting", f"{self._shown}: {why(error)}")
            return False
        self._is_unsure = self._is_misplaced = False
        self._enter("live", f"reading {self._shown}")
        return moved

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [known.partition for known in partitions]
        self._let_go(consumer, numbers)
        log.warning("partitions lost: %s", ", ".join(map(str, numbers)))

    def _let_go(self, consumer: Consumer, partitions: list[int]) -> None:
        self._shelves.remove(partitions)
        if not self.closing.is_set():  # else they are ours again at the next start, or another's by their commits
            for partition in partitions:
                self._ownership.drop(self._topic.stream, partition)
        with contextlib.suppress(KafkaException):
            consumer.unassign()

    def _commit(self, consumer: Consumer, *, wait: bool) -> None:
        if not self.commits:
            return
        wanted = self._shelves.take_commits()
        offsets = [TopicPartition(self._url.topic, p, at, note) for p, (at, note) in wanted.items()]
        if not offsets:
            return
        try:
            if wait:
                consumer.commit(offsets=offsets, asynchronous=False)
            else:
                consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._on_commit(error.args[0], offsets)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """Try again soon what could not be committed, such as in the middle of a rebalance."""
        failed = [p for p in partitions if error is not None or p.error is not None]
        if failed:
            log.debug("commit failed: %s", error or failed[0].error)
            self._shelves.commit_failed(known.partition for known in failed)

    def _on_error(self, error: KafkaError) -> None:
        self._is_misplaced |= error.code() == KafkaError._AUTO_OFFSET_RESET
        self._is_unsure |= error.code() in DOUBTS
        if error.fatal():
            what = error.str()
            if error.code() == KafkaError.FENCED_INSTANCE_ID:
                what = f"another processor is member {self.name} of group {self._url.group}"
                what += "; give each an instance of its own"
            self._refuse(what)
        elif error.code() in REFUSALS:
            self._refuse(error.str())
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._enter("reconnecting", f"{self._shown}: {error.str()}")
        else:
            log.debug("librdkafka: %s", error.str())

    def _refuse(self, what: str) -> None:
        self.error = SourceError(f"{self._shown}: {what}")
        self.closing.set()

    def _patiently(self, attempt: Callable[[], list[TopicPartition]]) -> list[TopicPartition] | None:
        """Try until the brokers answer; None if closed meanwhile."""
        failures = 0
        while not self.closing.is_set():
            try:
                return attempt()
            except (KafkaException, TimeoutError) as error:
                log.log(logging.INFO if failures % LOUD else logging.WARNING, "%s: %s", self._shown, why(error))
                failures += 1
                self._enter("reconnecting", f"{self._shown}: {why(error)}")
                self.closing.wait(RETRY_S / 4)
        return None

    def _enter(self, state: str, detail: str) -> None:
        since = self.state.since if self.state.state == state else time.time_ns()
        self.state = SourceState(state, since, detail)


def shown(place: TopicPartition) -> str:
    """Return a partition and from where it is read, in words."""
    return f"{place.partition} from {place.offset}"
