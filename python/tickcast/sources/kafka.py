"""``kafka://``: a topic read by a consumer group, in a thread; messages are decoded by batch, in Rust.

The group spreads the partitions over its processors. A processor that is given a partition first reads again what the
windows of its instruments hold, silently, from the offset that was saved with the last commit; trades go out only from
the committed position on. So a processor that takes over computes what the one before it would have.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from tickcast import urls
from tickcast._core import Batch, Decoder, EarlierVerdicts, Inbox, KafkaInlet
from tickcast.commits import CommitNote
from tickcast.errors import SourceError
from tickcast.kafka import READ_AHEAD, Ownership, client_settings, log_stream, open_inlet, poll, why
from tickcast.sources.base import Lag, Position, SourceState
from tickcast.sources.fencing import end_transactions_of_the_dead
from tickcast.sources.places import Places
from tickcast.sources.shelf import Shelf
from tickcast.sources.validated import ValidatedTopic

__all__ = ["KafkaSource"]

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
MOST_MESSAGES, MOST_BYTES = 65_536, 64 * 1024 * 1024
"""What may wait to be decoded; beyond it the partitions are paused, while the group goes on to be polled."""
BYTES_PER_ROW = 40
"""No tick is much shorter: bounds the rows of a batch before it is decoded."""
RETRY_S = 1.0
LOUD = 10
"""Of so many failures in a row the first is a warning."""


class KafkaSource:
    """A member of a consumer group. Reconnects by itself, for ever.

    Args:
        url: The topic.
        options: Settings of librdkafka.
        instance: Name of this member for ever.
        memory: File in which it is remembered which partitions were owned.
        reach_ns: How far back windows and rules need ticks, ns.
        validated: Where the group's trades go; None: nowhere that they could be read again.
        volume_scale: Volumes are multiplied by this power of ten.
        scales: Scales of single instruments.
    """

    live = True
    positioned = True

    def __init__(  # noqa: PLR0917 (made in one place)
        self,
        url: urls.Kafka,
        options: dict[str, str],
        instance: str,
        memory: Path,
        reach_ns: int,
        validated: urls.KafkaSink | None,
        volume_scale: int,
        scales: dict[str, int],
    ) -> None:
        self._url, self._options, self._instance = url, options, instance
        self._places = Places(url, options, reach_ns)
        self._decoder = Decoder(format=url.format, volume_scale=volume_scale, volume_scales=scales)
        self.ownership = Ownership(memory)
        self.earlier = EarlierVerdicts()
        self._validated = ValidatedTopic(validated, options) if validated is not None else None
        self._state = SourceState.now("reconnecting", "not connected yet")
        self._lock = threading.Condition()
        self._shelves: dict[int, Shelf] = {}
        self._waiting = self._waiting_bytes = 0
        self._stream = 0
        self._tape: dict[tuple[int, int], int] = {}
        self._error: SourceError | None = None
        self._closing = threading.Event()
        self._looks: deque[threading.Event] = deque()
        self._group: Any = None
        self._ends: dict[int, int] = {}
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._consumer: Consumer | None = None
        self._inlet: KafkaInlet | None = None
        self._begin_on_tape: Callable[[int, int, bool], Awaitable[int]] | None = None
        self.commits = not url.exactly_once
        """Whether the source commits; else the sink does, with its transactions."""

    def attach(self, epoch: int, begin: Callable[[int, int, bool], Awaitable[int]]) -> None:
        """Learn how to have a partition begin anew; see `LogSource.attach`."""
        self.ownership.remember(epoch)
        self._begin_on_tape = begin

    async def open(self, positions: Sequence[Position]) -> None:
        """Begin to connect and to join the group."""
        self._tape = {(stream, partition): offset for stream, partition, offset, _ in positions}
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="kafka-source", daemon=True)
        self._thread.start()

    async def next(self, max_rows: int) -> Batch | None:
        """Wait for messages and return them: of all partitions that have some, or of one whose windows are filled.

        Raises:
            SourceError: The brokers refuse, and trying again would not help.
        """
        while True:
            self._news.clear()
            filled = self._filled()
            if not filled:
                if self._error is not None:
                    raise self._error
                await self._news.wait()
                continue
            partition, shelf = filled[0]
            if shelf.is_fresh:
                await self._begin(partition, shelf)
            if shelf.is_silent:
                batch = await self._next_silent(partition, shelf, max_rows)
            else:
                batch = self._next_together(filled, max_rows)
            if batch is not None:
                return batch

    async def _begin(self, partition: int, shelf: Shelf) -> None:
        """Have a partition begin anew, and tell the sinks what is of its present owner."""
        if self._begin_on_tape is not None:
            head = await self._begin_on_tape(self._stream, partition, shelf.goes_on)
            with self._lock:
                if self._shelves.get(partition) is shelf:  # it has not changed hands again meanwhile
                    self.ownership.begin(self._stream, partition, head)
        shelf.is_fresh = False

    async def _next_silent(self, partition: int, shelf: Shelf, max_rows: int) -> Batch | None:
        """Take messages of a partition that only fill its windows."""
        inboxes = self._take([(partition, shelf)], max_rows)
        if not inboxes:
            return None
        batch = self._decoder.decode(inboxes, stream=self._stream, silent=True)
        await self._look_up(partition, shelf, batch, since_ms=inboxes[0][1][0].first_ms)
        return batch

    def _next_together(self, filled: list[tuple[int, Shelf]], max_rows: int) -> Batch | None:
        """Take messages whose trades go out, of all partitions that are under way: a batch costs the same for all."""
        ready = [(partition, shelf) for partition, shelf in filled if not (shelf.is_fresh or shelf.is_silent)]
        inboxes = self._take(ready, max_rows)
        for partition, shelf in ready:
            if shelf.remembers and shelf.taken >= 0:
                shelf.remembers = False
                self.earlier.forget(self._stream, partition)
        return self._decoder.decode(inboxes, stream=self._stream) if inboxes else None

    async def _look_up(self, partition: int, shelf: Shelf, batch: Batch, *, since_ms: int) -> None:
        """See to it that the verdicts on a silent batch are known, where the topic of judged trades has them."""
        if self._validated is None or shelf.looked_up or not self.earlier.lacks(batch):
            return
        partitions = {partition: since_ms}
        shelf.looked_up = True
        with self._lock:  # what waits besides is looked up with it: the topic is read once
            for number, other in self._shelves.items():
                if other.is_silent and not other.looked_up:
                    partitions[number] = other.inboxes[0].first_ms
                    other.looked_up = True
        read, since_ms = self._validated.read, min(partitions.values())
        await asyncio.to_thread(read, self.earlier, self._stream, list(partitions), since_ms, self._closing)

    async def saved(self, position: Position, lowest: int | None) -> None:
        """Note that tape and sinks have everything up to `position`; committed soon."""
        stream, partition, offset, _ = position
        with self._lock:
            shelf = self._shelves.get(partition)
            if stream != self._stream or shelf is None or offset <= shelf.saved:
                return
            if shelf.is_fresh and not shelf.goes_on:
                return  # a position of an earlier time as its owner
            shelf.saved = offset
            shelf.wanted = (offset + 1, CommitNote(shelf.lowest if lowest is None else lowest).text())
            self._lock.notify_all()

    def state(self) -> SourceState:
        """Return where the connection stands."""
        return self._state

    def lags(self) -> list[Lag]:
        """Return how many messages each of its partitions has that were not handed out, as of the last fetch."""
        with self._lock:
            places = {at: max(shelf.resume, shelf.taken + 1) for at, shelf in sorted(self._shelves.items())}
        ends = self._ends
        known = {at: max(0, ends[at] - place) for at, place in places.items() if ends.get(at, -1) >= 0 <= place}
        return [Lag(f"{self.topic}/{at}", known.get(at)) for at in places]

    @property
    def lost(self) -> int:
        """Nothing gets lost that the log still has."""
        return 0

    async def close(self) -> None:
        """Commit what is saved, and leave; the partitions stay reserved for this member until its session ends."""
        self._closing.set()
        with self._lock:
            self._lock.notify_all()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 10.0)

    def group_metadata(self) -> Any:  # noqa: ANN401 (librdkafka's own, opaque)
        """Return what a transaction needs to commit positions for the group; None before the source has joined it.

        After a rebalance it is out of date for a moment: the brokers refuse it, and the transaction is written again.
        """
        return self._group

    def look_again(self) -> None:
        """Ask what the group has committed, and wait for the answer: from there on sinks have to write."""
        looked = threading.Event()
        self._looks.append(looked)
        # The thread that consumes asks: a call from another one beside it does not come back.
        while not (looked.wait(0.1) or self._closing.is_set()):
            pass

    def _look(self, consumer: Consumer) -> None:
        with self._lock:
            asked = [TopicPartition(self._url.topic, partition) for partition in self._shelves]
        for known in self._places.committed(consumer, asked):
            with self._lock:
                if known.offset >= 0 and known.partition in self._shelves:
                    self.ownership.move(self._stream, known.partition, known.offset)

    def lowest(self, partition: int) -> int | None:
        """Return the offset from which a partition has been read; None: not known."""
        with self._lock:
            shelf = self._shelves.get(partition)
            return shelf.lowest if shelf is not None else None

    @property
    def group(self) -> str:
        """Name of the consumer group."""
        return self._url.group

    @property
    def instance(self) -> str:
        """Name of this member."""
        return self._url.instance or self._instance

    @property
    def transactional_id(self) -> str:
        """Name of the transactions that commit for this member."""
        return f"{self.group}-{self.instance}"

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self._url.topic

    def _filled(self) -> list[tuple[int, Shelf]]:
        """Return the partitions of which messages wait: first the one whose oldest, by broker time, waits longest."""
        with self._lock:
            filled = [(shelf.inboxes[0].first_ms, at) for at, shelf in self._shelves.items() if shelf.inboxes]
            return [(at, self._shelves[at]) for _, at in sorted(filled)]

    def _take(self, shelves: list[tuple[int, Shelf]], max_rows: int) -> list[tuple[int, list[Inbox]]]:
        """Take messages off shelves, by partition, as many as make a batch."""
        found = []
        messages, size = max_rows, max_rows * BYTES_PER_ROW
        with self._lock:
            for partition, shelf in shelves:
                taken = shelf.take(messages, size)
                if taken:
                    found.append((partition, taken))
                    count, taken_bytes = sum(map(len, taken)), sum(inbox.size for inbox in taken)
                    messages, size = messages - count, size - taken_bytes
                    self._waiting -= count
                    self._waiting_bytes -= taken_bytes
        return found

    # Below: the thread.

    def _run(self) -> None:
        try:
            if self._connect():
                self._read()
        except SourceError as error:
            self._error = error
        except KafkaException as error:
            self._error = SourceError(f"{urls.mask(self._shown)}: {why(error)}")
        except Exception as error:
            log.exception("the Kafka source has failed")
            self._error = SourceError(f"{urls.mask(self._shown)}: {type(error).__name__}: {error}")
        finally:
            if self._consumer is not None:
                self._commit(self._consumer, wait=True)
                self._closing.set()
                if self._inlet is not None:
                    self._inlet.close()
                with contextlib.suppress(KafkaException, RuntimeError):
                    self._consumer.close()
            self._tell()

    @property
    def _shown(self) -> str:
        return f"kafka://{self._url.servers}/{self._url.topic}"

    def _connect(self) -> bool:
        """Find out who the topic is, and join the group; False if closed meanwhile."""
        while not self._closing.is_set():
            try:
                self._stream = log_stream(self._url, self._options)
                break
            except (KafkaException, TimeoutError) as error:
                self._enter("reconnecting", f"{self._shown}: {why(error)}")
                self._closing.wait(RETRY_S)
        else:
            return False
        self._consumer, self._inlet = open_inlet(
            {
                "group.id": self._url.group,
                "group.instance.id": self.instance,
                # Not cooperative: a static member that is killed between the two rounds of a cooperative rebalance gets
                # its old assignment back, and what it was to give away is nobody's for ever.
                "partition.assignment.strategy": "range",
                "session.timeout.ms": 6000,
                "max.poll.interval.ms": 60_000,
                "heartbeat.interval.ms": 1500,
                "auto.offset.reset": "latest" if self._url.start == "new" else "earliest",
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
        self._enter("live", f"joining group {self._url.group} at {self._shown}")
        self._consumer.subscribe(
            [self._url.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        return True

    def _read(self) -> None:
        consumer, inlet = self._consumer, self._inlet
        assert consumer is not None
        assert inlet is not None
        paused, last_commit, last_ends, gather_s = False, time.monotonic(), 0.0, GATHER_S
        while not self._closing.is_set():
            told = poll(consumer)
            if told is not None:
                self._on_error(told[1])
            inboxes, errors = inlet.take(TAKE_S, gather_s)
            gather_s = GATHER_BUSY_S if sum(len(inbox) for _, inbox in inboxes) >= BUSY else GATHER_S
            self._put(inboxes, errors)
            if self._waiting:
                self._tell()
            if self._looks:
                self._answer_looks(consumer)
            if time.monotonic() - last_ends >= ENDS_S:
                last_ends = time.monotonic()
                self._note_ends(consumer, inlet)
            if not self.commits and time.monotonic() - last_commit >= GROUP_S:
                last_commit = time.monotonic()
                self._group = consumer.consumer_group_metadata()
            if self.commits and time.monotonic() - last_commit >= COMMIT_S:
                last_commit = time.monotonic()
                self._commit(consumer, wait=False)
            paused = self._relieve(consumer, paused)

    def _note_ends(self, consumer: Consumer, inlet: KafkaInlet) -> None:
        """Note where the partitions end, as the last fetch had it; asks nobody."""
        ends = {}
        for known in consumer.assignment():
            # Again: librdkafka 2.16 forgets it where a partition is stopped after it was diverted.
            inlet.divert(known.topic, known.partition)
            _, ends[known.partition] = consumer.get_watermark_offsets(known, cached=True)
        self._ends = ends

    def _answer_looks(self, consumer: Consumer) -> None:
        """Look for those that wait; tried again where the brokers don't answer."""
        with contextlib.suppress(KafkaException):
            self._look(consumer)
            while self._looks:
                self._looks.popleft().set()

    def _put(self, inboxes: list[tuple[int, Inbox]], errors: list[tuple[int, int]]) -> None:
        for _, code in errors:
            self._on_error(KafkaError(code))
        if inboxes and self._state.state != "live":
            self._enter("live", f"reading {self._shown}")
        with self._lock:
            for partition, inbox in inboxes:
                shelf = self._shelves.get(partition)
                if shelf is not None:
                    shelf.inboxes.append(inbox)
                    self._waiting += len(inbox)
                    self._waiting_bytes += inbox.size

    def _relieve(self, consumer: Consumer, paused: bool) -> bool:
        """Pause all partitions while too much waits, or let them go on; return whether they are paused."""
        full = self._waiting > MOST_MESSAGES or self._waiting_bytes > MOST_BYTES
        if full and not paused:
            consumer.pause(consumer.assignment())
            return True
        if paused and self._waiting < MOST_MESSAGES // 2 and self._waiting_bytes < MOST_BYTES // 2:
            consumer.resume(consumer.assignment())
            return False
        return paused

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        placed = self._patiently(lambda: self._place(consumer, partitions))
        if placed is None or self._inlet is None:
            return
        for known in placed:
            self._inlet.divert(self._url.topic, known.partition)
        consumer.assign(placed)
        log.info("partitions assigned: %s", ", ".join(map(shown, placed)) or "none")
        self._enter("live", f"reading {self._shown}, partitions {sorted(self._shelves)}")
        self._tell()

    def _place(self, consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Decide from where to read each partition, and from where on trades go out."""
        placed: list[TopicPartition] = []
        shelves: dict[int, Shelf] = {}
        owned: dict[tuple[int, int], int] = {}
        if partitions and not self.commits:
            settings = client_settings(self._url, self._options)
            end_transactions_of_the_dead(settings, self.group, self.transactional_id, partitions)
        for known in self._places.committed(consumer, partitions):
            committed = max(known.offset, 0)
            # Behind what the tape has, unless sinks may have passed over some of it when it was given up.
            goes_on = self.ownership.goes_on(self._stream, known.partition)
            on_tape = self._tape.get((self._stream, known.partition)) if goes_on else None
            resume = max(committed, on_tape + 1 if on_tape is not None else 0)
            read_from = self._places.read_from(consumer, known, resume)
            shelves[known.partition] = Shelf(resume, lowest_read(read_from), goes_on=goes_on)
            owned[self._stream, known.partition] = committed
            placed.append(TopicPartition(self._url.topic, known.partition, read_from))
        with self._lock:
            self._shelves.update(shelves)
        if owned:
            self.ownership.take(owned)
        return placed

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._clear(partitions)
        if not self._closing.is_set():
            self._drain([p.partition for p in partitions])
        if self.commits:
            self._commit(consumer, wait=True)
        self._let_go(partitions)
        with contextlib.suppress(KafkaException):
            consumer.unassign()
        log.info("partitions revoked: %s", ", ".join(str(p.partition) for p in partitions))

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._clear(partitions)
        self._let_go(partitions)
        with contextlib.suppress(KafkaException):
            consumer.unassign()
        log.warning("partitions lost: %s", ", ".join(str(p.partition) for p in partitions))

    def _clear(self, partitions: list[TopicPartition]) -> None:
        """Throw away what waits of these partitions: whoever has them next reads it."""
        with self._lock:
            for known in partitions:
                shelf = self._shelves.get(known.partition)
                if shelf is not None:
                    messages, size = shelf.clear()
                    self._waiting -= messages
                    self._waiting_bytes -= size

    def _drain(self, partitions: list[int]) -> None:
        """Wait until tape and sinks have what was handed out of these partitions."""

        def drained() -> bool:
            shelves = [self._shelves[p] for p in partitions if p in self._shelves]
            return self._closing.is_set() or all(shelf.saved >= shelf.taken for shelf in shelves)

        with self._lock:
            if not self._lock.wait_for(drained, DRAIN_S):
                log.warning("sinks have not taken all of partitions %s: their next owner goes over it", partitions)

    def _let_go(self, partitions: list[TopicPartition]) -> None:
        with self._lock:
            for known in partitions:
                self._shelves.pop(known.partition, None)
        for known in partitions:
            self.ownership.drop(self._stream, known.partition)

    def _commit(self, consumer: Consumer, *, wait: bool) -> None:
        if not self.commits:
            return
        with self._lock:
            wanted = {p: s.wanted for p, s in self._shelves.items() if s.wanted and s.wanted != s.committed}
            for partition, note in wanted.items():
                self._shelves[partition].committed = note
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
        with self._lock:
            for known in failed:
                if known.partition in self._shelves:
                    self._shelves[known.partition].committed = None

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            if error.code() == KafkaError.FENCED_INSTANCE_ID:
                what = f"another processor is member {self.instance} of group {self.group}"
                self._error = SourceError(f"{self._shown}: {what}; give each an instance of its own")
            else:
                self._error = SourceError(f"{self._shown}: {error.str()}")
            self._closing.set()
        elif error.code() in REFUSALS:
            self._error = SourceError(f"{self._shown}: {error.str()}")
            self._closing.set()
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._enter("reconnecting", f"{self._shown}: {error.str()}")
        else:
            log.debug("librdkafka: %s", error.str())

    def _patiently(self, attempt: Callable[[], list[TopicPartition]]) -> list[TopicPartition] | None:
        """Try until the brokers answer; None if closed meanwhile."""
        failures = 0
        while not self._closing.is_set():
            try:
                return attempt()
            except (KafkaException, TimeoutError) as error:
                log.log(logging.INFO if failures % LOUD else logging.WARNING, "%s: %s", self._shown, why(error))
                failures += 1
                self._enter("reconnecting", f"{self._shown}: {why(error)}")
                self._closing.wait(RETRY_S / 4)
        return None

    def _enter(self, state: str, detail: str) -> None:
        since = self._state.since if self._state.state == state else time.time_ns()
        self._state = SourceState(state, since, detail)

    def _tell(self) -> None:
        """Wake whoever waits for messages."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._news.set)


REFUSALS = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
"""What trying again does not mend."""


def lowest_read(read_from: int) -> int | None:
    """Return the first offset that is read from there; None at the end, which is not known before it is reached."""
    return 0 if read_from == OFFSET_BEGINNING else None if read_from == OFFSET_END else read_from


def shown(place: TopicPartition) -> str:
    """Return a partition and from where it is read, in words."""
    words = {OFFSET_BEGINNING: "its beginning", OFFSET_END: "its end"}
    return f"{place.partition} from {words.get(place.offset, place.offset)}"
