"""The native part of tickcast: columns, judge, tape, sources, pump. Calls that do real work release the GIL."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, final

__all__ = [
    "AGE_BUCKETS_MS",
    "Batch",
    "Column",
    "Decoder",
    "EarlierVerdicts",
    "FrameNames",
    "Hold",
    "Inbox",
    "JetStreamSource",
    "Judge",
    "Judged",
    "KafkaInlet",
    "KafkaOutlet",
    "MessageDecoder",
    "NatsPublisher",
    "NatsSource",
    "Outbox",
    "Pending",
    "Pump",
    "Repeats",
    "Replay",
    "Sim",
    "TapeByHand",
    "TapeFeed",
    "TapeFilter",
    "TapeReader",
    "TapeWriter",
    "TopicTrades",
    "WindowCheckpoint",
    "__version__",
    "decode_topic",
    "load_librdkafka",
    "subject_covers",
]

__version__: str

_Position: TypeAlias = tuple[int, int, int, int]

@final
class Column:
    """A read-only one-dimensional buffer; ``np.asarray`` views it without copying and keeps its batch alive."""

    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Batch:
    """Decoded ticks on their way from a source to the judge, and what could not be decoded."""

    @property
    def rows(self) -> int:
        """Number of ticks."""
    @property
    def messages(self) -> int:
        """Number of messages that it was decoded from, the undecodable ones included."""
    @property
    def last_positions(self) -> list[_Position]:
        """Stream, partition, offset and index of each partition's last message: reading goes on right behind it."""
    @property
    def broker_ns(self) -> int:
        """The broker's time of its first message, ns since the Unix epoch; 0: it has none.

        Raises:
            ValueError: The batch has been judged already.
        """
    @property
    def has_undecodable(self) -> bool:
        """Whether anything could not be decoded."""
    @property
    def undecodable(self) -> list[tuple[_Position, bytes, str]]:
        """What could not be decoded: position, original bytes, why."""
    @property
    def letters(self) -> list[tuple[bytes | None, list[tuple[str, bytes | None]], bool]]:
        """Key and headers of the messages of `undecodable`, one for each, and whether it is one tick of several.

        The key of a message of NATS is its subject. Empty where the source has none.
        """
    @property
    def silent(self) -> bool:
        """Whether it only fills the windows: its trades are elsewhere already."""
    @property
    def traceparents(self) -> list[tuple[str, str]]:
        """W3C trace contexts of messages that came with one, each behind the first 28 digits of their trades' ids."""

@final
class Inbox:
    """Messages of one partition of a log, on their way to be decoded.

    Args:
        messages: Offset, the broker's time (ms), payload, key and headers of each, in the order of the offsets.

    Raises:
        ValueError: They are not in order, or there are none.
    """

    def __new__(
        cls, messages: list[tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]]
    ) -> Inbox: ...
    def __len__(self) -> int:
        """Return how many messages there are, one at least."""
    @property
    def first_offset(self) -> int:
        """Offset of the first message."""
    @property
    def last_offset(self) -> int:
        """Offset of the last message."""
    @property
    def first_ms(self) -> int:
        """The broker's time of the first message, ms."""
    @property
    def size(self) -> int:
        """Bytes of payloads, keys and headers."""
    def split(self, messages: int, size: int, before: int | None = None) -> tuple[Inbox, Inbox | None]:
        """Part it: so many messages and bytes at most, and only what lies before an offset; then the rest.

        The first part has one message at least.
        """

@final
class Decoder:
    """Decodes the messages of a queue.

    Args:
        format: ``proto``, ``proto-batch`` or ``json`` for messages without a ``tickcast-format`` header; None: detect.
        volume_scale: Factor that makes volumes whole, a power of ten up to 10^18.
        volume_scales: The factor of single instruments.

    Raises:
        ConfigError: A scale is not allowed.
        ValueError: There is no such format.
    """

    def __new__(
        cls, *, format: str | None = None, volume_scale: int = 1, volume_scales: dict[str, int] | None = None
    ) -> Decoder: ...
    def decode(self, partitions: list[tuple[int, list[Inbox]]], *, stream: int, silent: bool = False) -> Batch:
        """Decode messages of some partitions, those of each in order.

        Args:
            partitions: Each partition once, with its messages. Those without a payload are tombstones, which are no
                ticks; the headers ``tickcast-format`` and ``traceparent`` count.
            stream: Stream of the positions.
            silent: They only fill the windows: their trades are elsewhere already.
        """

@final
class MessageDecoder:
    """Decodes the messages of one stream of a client, which it counts: their positions are stream and number.

    Args:
        format: ``proto``, ``proto-batch`` or ``json``.
        stream: Number of the stream, 32 bits.

    Raises:
        ValueError: There is no such format.
    """

    def __new__(cls, format: str, *, stream: int) -> MessageDecoder: ...
    def decode(self, messages: list[bytes], arrival_ns: list[int]) -> Batch:
        """Decode messages that arrived at these times, ns since the Unix epoch.

        What can't be decoded gets a row of its own in its place, which is judged INVALID, and is no dead letter.

        Raises:
            ValueError: There is not one time for each message.
        """

@final
class Judge:
    """Screen and windows of all instruments.

    Args:
        id_chars: Shortest and longest instrument id, Unicode scalar values.
        band: Price band, both ends allowed, quote currency per unit; within 1e-12 … 1e15.
        bands: Bands of single instruments.
        max_ahead_ns: How far ahead of its arrival a live tick may be, ns.
        window_ns: Length of the VWAP window, ns.
        hold_ns: How far back ticks are held for late ones, ns.
        max_window_bytes: Above it the busiest instruments turn to time buckets; None: no bound.

    Raises:
        ConfigError: A bound or length is not allowed.
    """

    def __new__(
        cls,
        *,
        id_chars: tuple[int, int] = ...,
        band: tuple[float, float] = ...,
        bands: dict[str, tuple[float, float]] | None = ...,
        max_ahead_ns: int = ...,
        window_ns: int = ...,
        hold_ns: int = ...,
        max_window_bytes: int | None = ...,
    ) -> Judge: ...
    def begin(self, batch: Batch, live: bool) -> Pending:
        """Screen a batch and let what passes enter the windows. A batch is begun once.

        Raises:
            ValueError: The batch has been begun already.
        """
    def peek(self, payload: bytes, stream: int, first_offset: int) -> Pending:
        """Screen a client's JSON payload against the windows without entering it; undecodable parts become rejects."""
    def settle(
        self,
        pending: Pending,
        status: bytes,
        reason: bytes,
        reasons: list[tuple[str, bool]],
        rule: bytes,
        observed: bytes,
        limit: bytes,
        enrichments: bytes,
    ) -> Judged:
        """Take the verdicts on the batch that was begun first of those not settled.

        Args:
            pending: The batch.
            status: Shape ``(n,)``, uint8: 0 UNKNOWN, 1 VALID, 2 INVALID; ``n`` is ``len(pending)``.
            reason: Shape ``(n,)``, uint32: index into ``reasons``; 0: none.
            reasons: Reasons, and whether each is free text; the first is not used.
            rule: Shape ``(n,)``, uint16: the rule that decided, from 1; 0: none.
            observed: Shape ``(n,)``, float64; NaN: not said.
            limit: Shape ``(n,)``, float64; NaN: not said.
            enrichments: Shape ``(k, n)``, float64, C order.

        Raises:
            ConfigError: A column has another length.
            ValueError: The batch has been settled already.
        """
    def keep_horizons(self, lookback_ns: int = 0) -> None:
        """Begin to keep `horizons`, for sources that can be read again; before the first batch.

        Args:
            lookback_ns: How far back rules look, ns; 0: they don't.
        """
    def horizons(self) -> list[tuple[int, int, int, int]]:
        """Return from where each source partition would have to be read again to have the windows as they are now.

        Stream, partition, offset behind the last message that has entered, lowest offset that a window may hold.
        """
    def forget(self, stream: int, partition: int) -> bool:
        """Empty the windows of a source partition's instruments; False while a tick of theirs waits for its verdict."""
    def instruments(self, start: int) -> list[str]:
        """Return the ids of the instruments with codes from ``start`` on."""
    def window_figures(self) -> tuple[int, int, int]:
        """Return how many ticks the windows hold, their memory in bytes, and how many instruments are in buckets."""

@final
class EarlierVerdicts:
    """Verdicts given earlier, by position: ticks that are read again to fill the windows are not judged again."""

    def __new__(cls) -> EarlierVerdicts: ...
    def recall(self, writer: TapeWriter) -> None:
        """Learn those of all trades on a tape, and forget all others."""
    def learn(self, trades: TopicTrades, stream: int, partitions: list[int]) -> None:
        """Learn those of a topic's trades whose ticks came from these partitions of the source."""
    def lacks(self, batch: Batch) -> bool:
        """Whether there is a tick in the batch on which no verdict is known.

        Raises:
            ValueError: The batch has been judged already.
        """
    def of(self, pending: Pending) -> bytes:
        """Return what is known of a batch: shape ``(n,)``, uint8, status numbers, 255 where no verdict is known.

        Raises:
            ValueError: The batch has been settled already.
        """
    def forget(self, stream: int, partition: int) -> None:
        """Forget a partition's."""

@final
class Pending:
    """A screened batch on its way to the rules; columns have a row for each tick that passed the screen."""

    def __len__(self) -> int: ...
    @property
    def rows(self) -> int:
        """Number of ticks, the refused ones included."""
    @property
    def price(self) -> Column:
        """Shape ``(n,)``, float64, quote currency per unit."""
    @property
    def volume(self) -> Column:
        """Shape ``(n,)``, int64, units traded."""
    @property
    def timestamp_ns(self) -> Column:
        """Shape ``(n,)``, int64, event time, ns since the Unix epoch."""
    @property
    def instrument(self) -> Column:
        """Shape ``(n,)``, int32, codes (`Judge.instruments`)."""
    @property
    def vwap_20m(self) -> Column:
        """Shape ``(n,)``, float64: VWAP over what passed the screen strictly earlier; NaN: nothing."""
    @property
    def event_clock_ns(self) -> Column:
        """Shape ``(n,)``, int64: the largest event time that has passed the screen up to and with this tick, ns."""
    @property
    def late(self) -> int:
        """Ticks judged without what the windows had let go."""
    @property
    def stamped(self) -> int:
        """Ticks stamped on arrival."""

@final
class Judged:
    """Judged trades on their way to the tape."""

    def __len__(self) -> int: ...
    @property
    def counts(self) -> tuple[int, int, int]:
        """How many are UNKNOWN, VALID, INVALID."""
    @property
    def last_positions(self) -> list[_Position]:
        """Position of the last message of each partition."""
    @property
    def silent(self) -> bool:
        """Whether they only fill the windows: they are elsewhere already."""
    @property
    def last_arrival_ns(self) -> int:
        """When the last message arrived, ns since the Unix epoch; 0: there is none."""
    def proto(self) -> list[bytes]:
        """Return each trade as a ``marketdata.ValidatedTrade``."""
    def proto_batches(self) -> list[bytes]:
        """Return the trades of each message as a ``tickcast.v1.ValidatedTradeBatch``."""
    def json(self, enrichments: list[str]) -> list[str]:
        """Return each trade in the plain JSON form."""
    def json_lines(self, enrichments: list[str]) -> bytes:
        """Return the trades in the plain JSON form, one a line."""
    def csv_lines(self) -> bytes:
        """Return the trades as CSV rows."""

@final
class TapeWriter:
    """The one writer of a run-dir's tape.

    Args:
        run_dir: The run directory.
        bytes: Size of the tape, allocated whole.
        enrichments: Name and unit of each further column.
        rules: Names of the rules, in declared order.
        rule_set: ``name@version``.
        max_instruments: Instruments with a code of their own.
        fresh: Begin a new epoch in any case.
        epoch: Epoch of the tape that this one follows: another one means a new tape. None: a numbering of its own.

    Raises:
        TapeBusyError: Another process writes this tape.
        TapeError: There is no room for it.
        OSError: The system refuses.
    """

    def __new__(
        cls,
        run_dir: Path,
        *,
        bytes: int,
        enrichments: list[tuple[str, str]],
        rules: list[str],
        rule_set: str,
        max_instruments: int,
        fresh: bool = ...,
        epoch: int | None = ...,
    ) -> TapeWriter: ...
    @property
    def resumed(self) -> bool:
        """Whether the tape of an earlier life was taken up."""
    @property
    def epoch(self) -> int:
        """The id of this life of the tape's numbering."""
    @property
    def head(self) -> int:
        """The last sequence; 0: none."""
    @property
    def slots(self) -> int:
        """Most trades that the tape holds."""
    @property
    def positions(self) -> list[_Position]:
        """The last position of each source partition."""
    def append(self, judged: Judged, positioned: bool) -> tuple[int, int] | None:
        """Append trades, and the position behind them, both or nothing.

        Returns:
            First and last sequence; None where a holding cursor has yet to confirm what would be overwritten: try
            again.

        Raises:
            TapeError: The batch takes more than half of the tape.
        """
    def follow(self, names: FrameNames, frame: bytes, why: bytes) -> tuple[int, int, int] | None:
        """Append the trades of a binary frame under the sequences they have; those left out are holes.

        Args:
            names: What the sender's codes mean; learns from the frame.
            frame: A frame of ``tickcast.v1``.
            why: ``Frame.why`` of gRPC, or empty.

        Returns:
            How many are UNKNOWN, VALID, INVALID; None where a holding cursor has yet to confirm what would be
            overwritten: try again.

        Raises:
            SourceError: The bytes are no frame, or one before it is missing.
            TapeError: There is no room for a trade.
        """
    def append_topic(self, trades: TopicTrades, repeats: Repeats) -> tuple[int, int, int] | None:
        """Append those trades of a topic that have not been there, then the positions behind all of them.

        Enrichments that the tape has no column for are left out.

        Returns:
            How many those are: UNKNOWN, VALID, INVALID; None where a holding cursor has yet to confirm what would be
            overwritten: try again with the same trades.

        Raises:
            TapeError: There is no room for a trade.
        """
    def recall(self, repeats: Repeats) -> None:
        """Have ``repeats`` know what is on the tape."""
    def skip(self, to: int) -> bool:
        """Leave a hole up to ``to``; False where a holding cursor has yet to confirm what would be given up."""
    def seed(self, names: FrameNames, frame: bytes) -> None:
        """Enter the trades of a ``snapshot`` that lie before the tape's first one into the table of last values.

        Raises:
            SourceError: The bytes are no frame.
        """
    def learn(self, rules: list[str], rule_sets: list[str], rule_set: str) -> None:
        """Tell what the numbers of rules and rule sets mean in what follows, and which rule set is in force."""
    def let_go(self, count: int) -> tuple[str, int] | None:
        """Let the sink that is furthest behind lose up to ``count`` trades; return its name and how many it lost."""
    def commit(self, position: _Position) -> None:
        """Note a position without trades."""
    def set_board(self, json: bytes) -> None:
        """Put the status board up; at most 64 KiB."""
    def hold(self, name: str) -> Hold:
        """Return a holding cursor: what it has not confirmed is not overwritten."""
    def look_back(self, judge: Judge, lookback_ns: int) -> Pending:
        """Return the ticks of the tape that rules look back on, as they saw them; it can't be settled.

        Args:
            judge: Whose codes the instruments have.
            lookback_ns: How far back from the newest tick, ns.
        """
    def first_positions(self) -> list[_Position]:
        """Return the first position (stream, partition, offset, index) of each source partition that the tape holds."""
    def refill(self, judge: Judge) -> int:
        """Refill the judge's windows with what the tape holds; return how many ticks that were."""
    def restore(self, judge: Judge, path: Path) -> tuple[int, int, int, int | None] | None:
        """Fill the judge's empty windows from a checkpoint, and with what the tape has had since.

        Returns:
            When it was written (ns since the Unix epoch), ticks from it, ticks from the tape, and trades between the
            two that neither has (None: of another tape, so that is not known). None: there is no such file.

        Raises:
            SourceError: The file is damaged, or of another version; the windows are empty.
            OSError: It can't be read.
        """
    def close(self) -> None:
        """End in order and let go of the lock."""

@final
class WindowCheckpoint:
    """The windows on their way to a file, step by step, while judging goes on.

    Args:
        path: The file; the one that is there stays until `finish`.
        judge: Whose windows.
        epoch: Of the tape.

    Raises:
        OSError: The file can't be made.
    """

    def __new__(cls, path: Path, judge: Judge, epoch: int) -> WindowCheckpoint: ...
    def step(self, judge: Judge, sequence: int) -> bool:
        """Copy some more, in bounded time; False once everything is copied.

        Everything that is settled must be on the tape, up to ``sequence``.
        """
    def write(self) -> None:
        """Bring what was copied to the file.

        Raises:
            OSError: The system refuses.
        """
    def finish(self) -> int:
        """Put the file in its place, once it is on the disk; return how many ticks it has.

        Raises:
            OSError: The system refuses.
        """

@final
class TopicTrades:
    """Judged trades of a topic on their way to a tape."""

    @property
    def rows(self) -> int:
        """Number of trades, repetitions included."""
    @property
    def messages(self) -> int:
        """Number of messages."""
    @property
    def columns(self) -> list[str]:
        """Names of the enrichments among them, in order of first appearance."""
    @property
    def rule_set(self) -> str:
        """The rule set that judged the last trade, ``name@version``; empty: its message did not say."""
    @property
    def positions(self) -> list[_Position]:
        """The last position of each partition of the topic."""
    @property
    def undecodable(self) -> list[str]:
        """Why messages could not be decoded, one for each."""

@final
class Repeats:
    """Which trades have been there: the last position of each instrument and source partition."""

    def __new__(cls) -> Repeats: ...

def decode_topic(inboxes: list[tuple[int, Inbox]], *, stream: int, format: str | None = None) -> TopicTrades:
    """Decode judged trades as sinks write them; messages without a payload are passed over.

    Args:
        inboxes: Messages by partition; the headers ``tickcast-format`` and ``tickcast-rules`` count.
        stream: Stream of the topic's positions.
        format: ``proto``, ``proto-batch`` or ``json`` for messages without a ``tickcast-format`` header; None: detect.

    Raises:
        ValueError: There is no such format.
    """

@final
class FrameNames:
    """What a receiver of binary frames knows of its sender's dictionaries.

    Args:
        instruments: Instrument ids by code, as ``hello`` has them.
        reasons: Reasons by code.
    """

    def __new__(cls, instruments: list[str], reasons: list[str]) -> FrameNames: ...
    def message(self, frame: bytes, enrichments: list[str]) -> bytes:
        """Read a frame and learn from it; return the message of ``tickcast.v1.json`` that says the same, as JSON.

        Args:
            frame: The next one.
            enrichments: Their names, as ``hello`` has them.

        Raises:
            SourceError: The bytes are no frame, or one before it is missing.
        """

    def columns(self, frame: bytes) -> dict[str, Any]:
        """Read a frame and learn from it.

        Returns:
            ``snapshot``, ``seq``, ``to_seq``, ``sent_ns``, ``conflated``; little-endian bytes ``seqs`` (uint64),
            ``timestamp_ns``, ``volume`` (int64), ``price``, ``vwap_20m`` (float64), ``status`` (uint8) and a list of
            ``enrichments`` (float64); lists ``trade_id``, ``instrument_id``, ``reason``.

        Raises:
            SourceError: The bytes are no frame, or one before it is missing.
        """

@final
class TapeFilter:
    """What one or more subscribers want.

    Args:
        instruments: Instrument ids; None: all.
        statuses: Numbers of statuses; None: all.
        stages: Whether times per stage come along.
        why: Whether it comes along why trades were judged so.

    Raises:
        ValueError: A status is not 0, 1 or 2.
    """

    def __new__(
        cls,
        instruments: list[str] | None = None,
        statuses: list[int] | None = None,
        *,
        stages: bool = False,
        why: bool = False,
    ) -> TapeFilter: ...

@final
class TapeFeed:
    """Binary frames of a run-dir's tape."""

    @staticmethod
    def open(run_dir: str | Path) -> TapeFeed:
        """Open the tape.

        Raises:
            FileNotFoundError: There is none.
            TapeError: There is none of this version.
        """
    def frame(
        self, filter: TapeFilter, seq: int, from_seq: int, known: tuple[int, int], max_trades: int, max_bytes: int
    ) -> tuple[str, int, bytes | None, tuple[int, int]]:
        """Make the message ``tickcast.v1.Frame`` of what a filter wants from ``from_seq`` on.

        Args:
            filter: What is wanted.
            seq: First sequence covered; those before ``from_seq`` were looked at already, and not wanted.
            from_seq: First sequence to look at.
            known: How many instruments and reasons the receiver knows.
            max_trades: Most sequences looked at.
            max_bytes: Most bytes, unless a single trade takes more.

        Returns:
            ``("frame", to, message, known)``: covers up to ``to``; None for the message where nothing of it is wanted.
            ``("overrun", oldest, …)`` where the tape no longer has ``from_seq``, ``("hole", to, …)`` where it never had
            what lies up to ``to``.
        """
    def newest(
        self,
        filter: TapeFilter,
        seq: int,
        from_seq: int,
        known: tuple[int, int],
        mark: tuple[int, int] | None,
        max_trades: int,
    ) -> tuple[str, int, bytes | None, tuple[int, int], tuple[int, int] | None]:
        """Make the message of the newest trade of each instrument only; it says how many were left out for newer ones.

        Args:
            filter: What is wanted.
            seq: First sequence covered.
            from_seq: First sequence to look at.
            known: How many instruments and reasons the receiver knows.
            mark: What was returned with the frame before: it gets all up to where `advance_board` has been. None, or of
                an earlier `begin_board`: it gets what is on the tape.
            max_trades: Most sequences of the tape looked at.

        Returns:
            As `frame`, and the receiver's mark, None where it has none yet.
        """
    def begin_board(self) -> None:
        """Begin to take in for `newest` what comes from now on; marks of before hold no more."""
    def advance_board(self) -> int:
        """Take in what has come, and return up to which sequence."""
    def json(
        self, filter: TapeFilter, seq: int, from_seq: int, max_trades: int, max_bytes: int
    ) -> tuple[str, int, bytes | None]:
        """Make a ``trades`` message of ``tickcast.v1.json`` of what a filter wants from ``from_seq`` on.

        Args:
            filter: What is wanted.
            seq: First sequence covered; those before ``from_seq`` were looked at already, and not wanted.
            from_seq: First sequence to look at.
            max_trades: Most sequences looked at.
            max_bytes: Most bytes, unless a single trade takes more.

        Returns:
            As `frame`, without the number of trades and what is known.
        """
    def json_snapshot(self, filter: TapeFilter) -> tuple[bytes, int]:
        """Return the newest VALID trades as a ``snapshot`` message of ``tickcast.v1.json``, and its last sequence."""
    def snapshot(self, filter: TapeFilter, known: tuple[int, int]) -> tuple[bytes, int, tuple[int, int]]:
        """Return the newest VALID trades as a binary frame, as of which sequence, and what its receiver knows then."""
    @property
    def epoch(self) -> str:
        """16 hex digits."""
    @property
    def head(self) -> int:
        """The last sequence; 0: none."""
    @property
    def oldest(self) -> int:
        """The first sequence that can still be read."""
    @property
    def rule_set(self) -> str:
        """``name@version`` in force."""
    def superseded(self) -> bool:
        """Whether a new tape has taken this one's place: open again."""
    def instruments(self) -> list[str]:
        """Return instrument ids by code."""
    def reasons(self) -> list[str]:
        """Return reasons by code."""
    def rules(self) -> list[str]:
        """Return the names of all rules that the tape has seen."""
    def rule_sets(self) -> list[str]:
        """Return all rule sets that the tape has seen."""
    def enrichments(self) -> list[tuple[str, str]]:
        """Return name and unit of each further column."""
    def board(self) -> bytes:
        """Return the status board, JSON; empty: there is none yet."""
    def wait(self, head: int, timeout_s: float) -> int:
        """Wait until the head has left ``head``, at most ``timeout_s`` seconds; return the head."""

@final
class Outbox:
    """Trades of the tape as messages for a queue."""

    def __len__(self) -> int:
        """Return how many messages there are."""
    @property
    def last(self) -> int:
        """Last sequence that the trades reach."""
    @property
    def positions(self) -> list[_Position]:
        """Last position of each source partition."""
    def messages(self) -> list[tuple[str, bytes, str, list[tuple[str, str]]]]:
        """Return the messages: instrument, payload, trade id, headers."""

@final
class KafkaInlet:
    """Partitions of a consumer of confluent-kafka, whose messages come past Python.

    The consumer goes on to be polled for what concerns its group.

    Args:
        consumer: Made just before by this thread, with ``plugin.library.paths`` naming this module's file.
        most: Messages taken at a time.

    Raises:
        RuntimeError: librdkafka has not shown the consumer to the plugin.
    """

    def __new__(cls, consumer: object, most: int) -> KafkaInlet: ...
    def divert(self, topic: str, partition: int) -> None:
        """Have the messages of a partition come here, from its next assignment on.

        Raises:
            RuntimeError: It is no name of a topic.
        """
    def take(self, wait_s: float, gather_s: float) -> tuple[list[tuple[int, Inbox]], list[tuple[int, int]]]:
        """Wait for a message, and when one has come a moment longer for more.

        Returns:
            Messages by partition; and of what went wrong the partition and librdkafka's code.
        """
    def close(self) -> None:
        """End the queue; has to come before the consumer is closed."""

@final
class KafkaOutlet:
    """A topic of a producer of confluent-kafka, to which messages go past Python.

    Args:
        producer: Made just before by this thread, with ``plugin.library.paths`` naming this module's file.
        topic: The topic.
        headers: Whether messages have their headers.

    Raises:
        RuntimeError: librdkafka has not shown the producer to the plugin.
    """

    def __new__(cls, producer: object, topic: str, headers: bool) -> KafkaOutlet: ...
    def produce(self, outbox: Outbox, start: int) -> tuple[int, int | None]:
        """Hand over messages from ``start`` on; doesn't wait.

        Returns:
            Up to which message librdkafka has taken them, and its error code for that one (None: its queue is full,
            or all is taken).
        """
    def take_failure(self) -> int | None:
        """Return why a message could not be delivered, the first since this was asked last; librdkafka's code."""

def load_librdkafka(extension: str) -> None:
    """Find librdkafka in confluent-kafka's extension module, which has been imported.

    Raises:
        RuntimeError: It is not there.
    """

@final
class Hold:
    """A sink's cursor on the tape."""

    @property
    def lag(self) -> int:
        """Trades on the tape that have not been confirmed."""
    @property
    def confirmed(self) -> int:
        """Last sequence that is confirmed."""
    def read_messages(
        self,
        max_trades: int,
        wait_s: float,
        format: str,
        owned: dict[tuple[int, int], int] | None = None,
        until: int | None = None,
        traces: dict[str, str] | None = None,
    ) -> Outbox:
        """Wait up to ``wait_s`` seconds for trades and return them as messages for a queue.

        Args:
            max_trades: About so many at most; the ticks of one message of the source are never parted.
            wait_s: Longest wait, seconds.
            format: ``json``, ``proto``, or ``proto-batch``: a message for each instrument and rule set, of 512 KiB at
                most.
            owned: Source partitions (stream, partition) whose trades count, from an offset on; None: all.
            until: Last sequence at most, which ends a message of the source: behind it other partitions may count.
            traces: ``traceparent`` by the first 28 digits of the trade ids of a tick's message.

        Raises:
            ValueError: There is no such format.
        """
    @property
    def enrichments(self) -> list[str]:
        """Names of the enrichments, in the order of their columns."""
    @property
    def slots(self) -> int:
        """Most trades that the tape holds."""
    def read_columns(self, after: int, max_trades: int, wait_s: float) -> dict[str, Any]:
        """Wait up to ``wait_s`` seconds for trades and return those after sequence ``after``, at most ``max_trades``.

        Returns:
            ``first`` and ``last`` sequence (``last`` alone where there are no trades), ``rows``; native-endian bytes
            ``trade_id`` (16 a row), ``price``, ``vwap_20m`` (float64; NaN: none), ``volume``, ``timestamp_ns``,
            ``ingest_ns`` (int64), ``status`` (uint8), ``instrument`` and ``reason`` (int32 codes into the lists
            ``instruments`` and ``reasons``; -1: none); ``listed``: which of ``instruments`` the tape's dictionary has;
            a list of ``enrichments`` (float64; NaN: none).
        """
    def read_lines(self, max_trades: int, wait_s: float) -> tuple[bytes, int]:
        """Wait up to ``wait_s`` seconds for trades; return them as JSON lines, and the last sequence."""
    def confirm(self, sequence: int) -> None:
        """Say that everything up to ``sequence`` is kept."""
    def skip_through(self, trade_id: str) -> bool:
        """Confirm everything up to the trade with this id, if it is among those not confirmed."""

@final
class Replay:
    """A recorded file, read forward; positions are rows from 0.

    Args:
        path: CSV with header ``instrument_id,price,volume,timestamp_ns``, gzip'd or not.
        stream: Stream number of the positions.
        volume_scale: Volumes are multiplied by this power of ten.
        volume_scales: Scales of single instruments.
        columns: What the file calls those of the four columns that it does not call so.
        instrument: The one instrument of all its rows, instead of a column.
        unit_ns: Nanoseconds of a unit of its times.
        input: Gives the file's plain text by ``read(size) -> bytes``; ``path`` is its name in messages.

    Raises:
        OSError: The file can't be read.
        SourceError: Its header is wrong.
    """

    def __new__(
        cls,
        path: Path,
        *,
        stream: int,
        volume_scale: int = 1,
        volume_scales: dict[str, int] | None = None,
        columns: dict[str, str] | None = None,
        instrument: str | None = None,
        unit_ns: int = 1,
        input: object = None,
    ) -> Replay: ...
    @property
    def stream(self) -> int:
        """Stream number of the positions."""
    @property
    def bytes_total(self) -> int:
        """Size of the file, bytes; 0: not known."""
    @property
    def bytes_read(self) -> int:
        """Bytes of the file read so far."""
    @property
    def done(self) -> bool:
        """Whether everything has been handed out."""
    def skip(self, row: int) -> None:
        """Leave out the rows before ``row``."""
    def next_time_ns(self) -> int | None:
        """Return the event time of the next row, ns; None at the end."""
    def take(self, until_ns: int | None, max_rows: int) -> Batch | None:
        """Return the next rows, at most ``max_rows``, not later than ``until_ns``; None where there are none."""

@final
class Sim:
    """The simulator: bursts of ticks over many instruments, with some faults of every kind.

    Args:
        rate: Mean rate, ticks per second, 0.001 to 1e8.
        instruments: 1 to 65,536.
        seed: Seed of all chance.
        faults: Share of faulty ticks, 0 to 1.
        start_ns: Event time of the first tick, ns since the Unix epoch; None: the clock's.
        stream: Stream number of the batches' positions.

    Raises:
        ConfigError: A value is out of range.
    """

    def __new__(
        cls,
        *,
        rate: float = ...,
        instruments: int = ...,
        seed: int = ...,
        faults: float = ...,
        start_ns: int | None = ...,
        stream: int = ...,
    ) -> Sim: ...
    def begin(self, clock_ns: int) -> None:
        """Start over, with the first tick due at ``clock_ns``, ns since the Unix epoch."""
    def due(self, clock_ns: int, max_rows: int) -> Batch | None:
        """Return the ticks due at ``clock_ns``, at most ``max_rows``; None where there are none."""
    def take(self, max_rows: int) -> Batch | None:
        """Return the next ticks, however far ahead of the clock."""
    def due_payloads(self, clock_ns: int, *, format: str = ..., ticks_per_message: int = ...) -> list[bytes]:
        """Return the ticks due at ``clock_ns`` as messages for a queue: ``json``, ``proto`` or ``proto-batch``."""

_State: TypeAlias = tuple[str, int, str]
"""``live``, ``reconnecting``, ``failed`` or ``closed``; since when, ns since the Unix epoch; detail, for people."""

@final
class NatsSource:
    """A core NATS subject. Connects in a thread of its own, by itself and for ever; polling never waits.

    Args:
        servers: ``nats://[user[:password]@]host[:port]`` or ``tls://…``, one or more; a user alone is a token.
        subject: Subject, ``*`` and ``>`` allowed.
        queue: Queue group: each message goes to one of its members.
        format: ``proto``, ``proto-batch`` or ``json`` for messages without a ``tickcast-format`` header; None: detect.
        volume_scale: Factor that makes volumes whole, a power of ten up to 10^18.
        instrument_scales: The factor of single instruments.
        max_rows: Ticks that are decoded ahead, about.
        capacity: Messages that may wait before they are decoded; more are dropped and counted in `lost`.
        credentials: ``.creds`` file.
        root_certificates: PEM file, instead of the system's.
        name: Client name as the server shows it.

    Raises:
        ConfigError: A value is not allowed; names it.
        SourceError: There is no thread or pipe to be had.
    """

    def __new__(
        cls,
        servers: str | list[str],
        subject: str,
        *,
        queue: str | None = None,
        format: str | None = None,
        volume_scale: int = 1,
        instrument_scales: dict[str, int] | None = None,
        max_rows: int = 4096,
        capacity: int = 65_536,
        credentials: str | Path | None = None,
        root_certificates: str | Path | None = None,
        name: str | None = None,
    ) -> NatsSource: ...
    def fileno(self) -> int:
        """Return a descriptor that is readable while there is something to poll or a change of state to look at."""
    def poll(self, max_rows: int = 4096) -> Batch | None:
        """Return all that has come, about ``max_rows`` ticks at most (a message is never cut), or None.

        Raises:
            SourceError: What ended the source, or that it is closed; after everything that came before it.
        """
    def wait(self, timeout: float) -> bool:
        """Wait for something to poll or look at, ``timeout`` seconds at most; tell whether there is."""
    def state(self) -> _State:
        """Return where the connection stands."""
    @property
    def lost(self) -> int:
        """Messages that are known to be lost: exact when caught up, a lower bound while behind."""
    def meters(self) -> dict[str, int]:
        """Return messages, bytes, lost, lost_at_most, repeats, disconnects, pending, last_arrival_ns."""
    @property
    def url(self) -> str:
        """The source as a URL, without secrets."""
    def close(self) -> None:
        """End the thread and wait for it; what was not polled is gone."""

@final
class JetStreamSource:
    """A JetStream stream, read on from a position by an ordered consumer.

    Args:
        servers: See `NatsSource`.
        subject: Subject, ``*`` and ``>`` allowed; may be a part of the stream's.
        stream: Name of the stream; None: the only one that has the subject.
        durable: Name under which the position is kept in the key-value bucket ``tickcast``; None: it isn't.
        start: ``all`` or ``new``: where to start when no position is known.
        positions: Last positions (stream, partition, offset, index); those of other streams are ignored. The furthest
            of them and of what is kept under ``durable`` decides.
        create: Create the stream, on disk with limits retention, where it is absent.
        max_bytes: Limit of a created stream; implies ``create``.
        max_age: Limit of a created stream, seconds; implies ``create``.
        format: See `NatsSource`.
        volume_scale: See `NatsSource`.
        instrument_scales: See `NatsSource`.
        max_rows: Ticks that are decoded ahead, about.
        window: Messages that are asked for at a time.
        credentials: See `NatsSource`.
        root_certificates: See `NatsSource`.
        name: See `NatsSource`.
        trades: The messages hold judged trades, for `poll_trades`.
        since_ns: Where no position is known, start with the first message that was stored at this time or later, ns
            since the Unix epoch; goes before ``start``.
        at_hand: Of whoever fills windows: the first position of each stream that there still is to fill them with, and
            how far back ticks are needed, ns. See `begins_anew`.

    Raises:
        ConfigError: A value is not allowed; names it.
        SourceError: There is no thread or pipe to be had.
    """

    def __new__(
        cls,
        servers: str | list[str],
        subject: str,
        *,
        stream: str | None = None,
        durable: str | None = None,
        start: str = "all",
        positions: list[_Position] = ...,
        create: bool = False,
        max_bytes: int | None = None,
        max_age: float | None = None,
        format: str | None = None,
        volume_scale: int = 1,
        instrument_scales: dict[str, int] | None = None,
        max_rows: int = 4096,
        window: int = 2048,
        credentials: str | Path | None = None,
        root_certificates: str | Path | None = None,
        name: str | None = None,
        trades: bool = False,
        since_ns: int | None = None,
        at_hand: tuple[list[_Position], int] | None = None,
    ) -> JetStreamSource: ...
    def fileno(self) -> int:
        """Return a descriptor that is readable while there is something to poll or a change of state to look at."""
    def poll(self, max_rows: int = 4096) -> Batch | None:
        """Return all that has come, about ``max_rows`` ticks at most (a message is never cut), or None.

        Raises:
            SourceError: What ended the source (such as a missing stream), or that it is closed; after everything that
                came before it.
        """
    def poll_trades(self, max_rows: int = 4096) -> TopicTrades | None:
        """Return all judged trades that have come, about ``max_rows`` at most (a message is never cut), or None.

        Raises:
            SourceError: As `poll`.
        """
    def wait(self, timeout: float) -> bool:
        """Wait for something to poll or look at, ``timeout`` seconds at most; tell whether there is."""
    def state(self) -> _State:
        """Return where the connection stands."""
    @property
    def lost(self) -> int:
        """Messages that the stream's limits removed unread; exact, 0 if the stream has other subjects."""
    def meters(self) -> dict[str, int]:
        """Return messages, bytes, lost, lost_at_most, repeats, disconnects, pending, last_arrival_ns."""
    @property
    def url(self) -> str:
        """The source as a URL, without secrets."""
    @property
    def started(self) -> tuple[int, int, str] | None:
        """Stream id, first sequence, and why there; None: not yet.

        ``position``, ``durable``, ``all``, ``new`` or ``since``.
        """
    @property
    def begins_anew(self) -> bool:
        """Whether all that windows hold is read again, silently, although a position was given.

        So it is where what is ``at_hand`` does not reach as far back; False also until the stream is found.
        """
    @property
    def waiting(self) -> int | None:
        """Messages that waited where it began to read, those that only fill windows among them; None: not yet."""
    def load_position(self) -> tuple[int, int] | None:
        """Return the sequence and index that were kept under ``durable`` when the source started."""
    def save_position(self, stream: int, sequence: int, index: int = ..., lowest: int | None = None) -> None:
        """Keep a position under ``durable``, once the tape has everything up to it. Returns at once.

        One of another stream, such as of the one that had this name before, is passed over.
        ``lowest`` is the sequence from which the windows that stood there can be had again: a source that is opened
        without a position of the stream reads from there, silently (`Batch.silent`) up to the position. One that is
        opened with an earlier position of the stream reads from behind that.
        """
    @property
    def saved_position(self) -> tuple[int, int] | None:
        """The sequence and index that the server is known to keep."""
    @property
    def save_trouble(self) -> str | None:
        """Why the position could not be kept at the last attempt; it is tried again."""
    def close(self) -> None:
        """Keep the last position (waiting 2 s at most), end the thread and wait for it."""

def subject_covers(pattern: str, subject: str) -> bool:
    """Tell whether a subject can be published to and is one of those that a pattern with wildcards stands for."""

@final
class NatsPublisher:
    """Publishes to core NATS, or to JetStream with a window of unacknowledged messages.

    Args:
        servers: See `NatsSource`.
        subject: Subject of messages that don't name theirs; no wildcards.
        jetstream: Publish to JetStream; implied by ``stream``.
        stream: Name of the stream; None: whichever has the subject.
        create: Create the stream where it is absent; needs ``stream``.
        max_bytes: Limit of a created stream; implies ``create``.
        max_age: Limit of a created stream, seconds; implies ``create``.
        format: Written into the header ``tickcast-format``; None: no header.
        window: Messages that may wait or be under way.
        credentials: See `NatsSource`.
        root_certificates: See `NatsSource`.
        name: See `NatsSource`.

    Raises:
        ConfigError: A value is not allowed; names it.
        SourceError: There is no thread to be had.
    """

    def __new__(
        cls,
        servers: str | list[str],
        subject: str,
        *,
        jetstream: bool = False,
        stream: str | None = None,
        create: bool = False,
        max_bytes: int | None = None,
        max_age: float | None = None,
        format: str | None = None,
        window: int = 5000,
        credentials: str | Path | None = None,
        root_certificates: str | Path | None = None,
        name: str | None = None,
    ) -> NatsPublisher: ...
    def publish(
        self,
        payloads: bytes | list[bytes],
        *,
        subject: str | None = None,
        message_ids: list[str] | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        subjects: list[str] | None = None,
        message_headers: list[list[tuple[str, str]]] | None = None,
    ) -> int:
        """Accept payloads in order, waiting for room in the window; return how many were accepted.

        With ``message_ids`` (``Nats-Msg-Id``) a message is sent again after a broken connection and stored once;
        without, it is then counted as unconfirmed.

        Raises:
            SourceError: The publisher has ended or is closed.
            ConfigError: The subject has wildcards.
            ValueError: As many ids, subjects (each message's own) and message_headers as payloads are needed.
        """
    def flush(self, timeout: float | None = 10.0) -> None:
        """Wait until the server (and stream) was reached and every accepted message is settled.

        Raises:
            TimeoutError: It is not so after ``timeout`` seconds; says why.
            SourceError: The publisher has ended.
        """
    def published(self) -> dict[str, int | str | None]:
        """Return confirmed, duplicates, failed, unconfirmed, waiting and last_failure."""
    def take_failures(self) -> list[tuple[int, str, bool]]:
        """Return which messages have failed since the last call, the last ``window`` of them in no order.

        Returns:
            Number, counted from 0 in the order in which they were accepted; why; and whether the message is refused for
            its own size or form, and would be again.
        """
    def state(self) -> _State:
        """Return where the connection stands."""
    @property
    def url(self) -> str:
        """The target as a URL, without secrets."""
    def close(self, timeout: float = 2.0) -> None:
        """Flush for ``timeout`` seconds at most, end the thread and wait for it; the rest is unconfirmed."""

AGE_BUCKETS_MS: list[float]
"""Upper ends of the buckets in which the pump counts how old trades are when they are sent, milliseconds."""

@final
class Pump:
    """The thread that sends frames to a gateway worker's clients. Commands return at once and are carried out in order.

    Args:
        run_dir: Where the tape is, or will be.
        event_fd: Written to when clients have left (`left`).
        server: Name and version for ``hello``.
        heartbeat_ms: Pause between heartbeats to a quiet client.
        budget_ms: How long a trade may wait to ride with others.
        max_backlog_bytes: What may wait for one client.
        stall_ms: A client that takes nothing for this long is closed.
    """

    def __new__(
        cls,
        run_dir: str | Path,
        *,
        event_fd: int,
        server: str,
        heartbeat_ms: int = ...,
        budget_ms: int = ...,
        max_backlog_bytes: int = ...,
        stall_ms: int = ...,
    ) -> Pump: ...
    def attach(
        self,
        send: Callable[[dict[str, object]], object],
        *,
        form: str,
        ends: tuple[str, int, int] | None = ...,
    ) -> int:
        """Take a client on; ``send`` starts at once and returns an object with ``done`` and ``cancel``.

        Args:
            send: The server's own.
            form: ``plain``, ``json`` or ``bin``: how it gets its trades.
            ends: The client's address and port and the port of ours, where the connection is a WebSocket of this
                process and of nobody else: frames are then written to its socket, past ``send``, while it keeps up.

        Raises:
            ValueError: There is no such form.
            RuntimeError: The pump has stopped.
        """
    def subscribe(
        self,
        client: int,
        *,
        request: str | None = ...,
        instruments: list[str] | None = ...,
        statuses: list[int] | None = ...,
        from_seq: int | None = ...,
        epoch: str | None = ...,
        snapshot: bool = ...,
        latest: bool = ...,
        max_rate_hz: float | None = ...,
        ack_bytes: int | None = ...,
        stages: bool = ...,
        deflate: bool = ...,
    ) -> None:
        """Replace the client's subscription (docs/protocol.md, "subscribe").

        Raises:
            ValueError: A status is not 0, 1 or 2.
            RuntimeError: The pump has stopped.
        """
    def ack(self, client: int, seq: int) -> None:
        """Take note that the client has everything up to a sequence."""
    def unsubscribe(self, client: int, *, request: str | None = ...) -> None:
        """End the client's subscription."""
    def say(self, client: int, text: str) -> None:
        """Send the client a message of its own, in order with the others."""
    def detach(self, client: int) -> None:
        """Let a client go; `left` hands its unfinished sends over."""
    def left(self) -> list[tuple[int, int, str, list[Any]]]:
        """Return who has left since the last call: client, close code (0: detached), reason, unfinished sends."""
    def stats(self) -> dict[str, Any]:
        """Return the pump's counters and the ages of what it sent."""
    def stop(self, *, code: int, plain_code: int, reason: str, retry_after_ms: int) -> None:
        """Say goodbye to all clients and end."""
    def join(self) -> None:
        """Wait for the thread's end."""

@final
class TapeReader:
    """The tape of a run-dir, for reading; trades leave as the JSON bytes that the processor wrote."""

    @staticmethod
    def open(run_dir: str | Path) -> TapeReader:
        """Open the tape.

        Raises:
            TapeError: There is none, or none of this version.
        """
    @property
    def epoch(self) -> str:
        """16 hex digits."""
    @property
    def head(self) -> int:
        """The last sequence; 0: none."""
    @property
    def oldest(self) -> int:
        """The first sequence that can still be read."""
    @property
    def rule_set(self) -> str:
        """``name@version`` of the newest writer."""
    def superseded(self) -> bool:
        """Whether a new tape has taken this one's place: open again."""
    def writer_alive(self) -> bool:
        """Whether a process writes this tape."""
    def trades(self, from_seq: int, limit: int) -> bytes:
        """Return a page of trades as a JSON object."""
    def trade(self, seq: int) -> bytes | None:
        """Return one trade; None where it is not on the tape."""
    def why(self, seq: int) -> bytes | None:
        """Return why a trade was judged as it was, as a JSON object; None where it is not on the tape."""
    def search(
        self,
        *,
        instrument: str | None = ...,
        status: int | None = ...,
        reason: str | None = ...,
        rule: str | None = ...,
        before: int | None = ...,
        limit: int = ...,
        scan: int = ...,
    ) -> bytes:
        """Return the trades that match, newest first, as a JSON object.

        Args:
            instrument: Its id.
            status: 0 UNKNOWN, 1 VALID, 2 INVALID.
            reason: Up to the value that it names: ``Processing error: price: must be > 0``.
            rule: The rule that refused, ``screen`` for the built-in checks.
            before: Only sequences below.
            limit: Most trades, at most 10,000.
            scan: Most sequences to look through.

        Raises:
            ValueError: There is no such status.
        """
    def rejects(
        self,
        *,
        instrument: str | None = ...,
        reason: str | None = ...,
        rule: str | None = ...,
        buckets: int = ...,
        scan: int = ...,
    ) -> bytes:
        """Count what is not VALID: by reason over time (at most ``buckets`` bars), rule, instrument; a JSON object."""
    def stages(self, newest: int) -> bytes:
        """Return how long the stages of the newest trades took, µs, as a JSON object."""
    def activity(self, since_ns: int, recent_ns: int) -> bytes:
        """Add up what has arrived since a time, ns since the Unix epoch, by instrument; a JSON object of columns.

        ``recent`` counts the VALID trades since ``recent_ns`` among them.
        """
    def find(self, trade_id: str) -> int | None:
        """Return the sequence of the trade with that id; None where it is not on the tape."""
    def snapshot(self, instruments: list[str] | None = ...) -> bytes:
        """Return the newest VALID trade of each instrument as a JSON object."""
    def instruments(self, from_code: int = ...) -> list[str]:
        """Return the ids of the instruments with codes from ``from_code`` on."""
    def reasons(self, from_code: int = ...) -> list[str]:
        """Return the declared reasons with codes from ``from_code`` on."""
    def enrichments(self) -> list[tuple[str, str]]:
        """Return name and unit of each further column."""
    def rules(self) -> list[str]:
        """Return the names of the rules."""
    def board(self) -> bytes:
        """Return the processor's status board, JSON; empty: there is none yet."""
    def wait(self, head: int, timeout_s: float) -> int:
        """Wait until the head is beyond ``head``, at most ``timeout_s`` seconds; return the head."""

@final
class TapeByHand:
    """A tape written trade by trade: for tests, and for feeding a gateway from a notebook.

    Raises:
        TapeBusyError: Another process writes this tape.
    """

    def __new__(
        cls,
        run_dir: str | Path,
        *,
        bytes: int = ...,
        fresh: bool = ...,
        rule_set: str = ...,
        rules: list[str] = ...,
        enrichments: list[tuple[str, str]] = ...,
    ) -> TapeByHand: ...
    @property
    def epoch(self) -> str:
        """16 hex digits."""
    @property
    def head(self) -> int:
        """The last sequence; 0: none."""
    def append(
        self,
        rows: list[tuple[str, float, int, int, int, str | None, float, list[float], int]],
        ingest_ns: int,
    ) -> int:
        """Append trades; return the last sequence.

        Args:
            rows: Instrument id, price, volume, time (ns), status number, reason, VWAP (NaN: none), enrichments, and
                the number of the failing rule (0: none).
            ingest_ns: When they came in, ns since the Unix epoch.
        """
    def set_board(self, json: bytes) -> None:
        """Put the status board up."""
    def close(self) -> None:
        """End in order and let go of the lock."""
