"""What following a topic of judged trades is like, whatever broker has it: each trade once, in a numbering of our own.

Processors that were killed write some trades again, and the follower that was killed is given some again: what the tape
has had is known by the ids (`Repeats`), which are positions too. The topic's own positions stand on the tape, behind
the trades that they cover.
"""

import logging

from tickcast._core import Repeats, TapeWriter, TopicTrades
from tickcast.follower.base import Counts, Known, Start, Trades
from tickcast.processor.control import JudgeAwayError
from tickcast.sources.base import Position

__all__ = ["Topic", "no_judge"]

log = logging.getLogger("tickcast.follower")

MAX_COLUMNS = 64
MAX_NAME_BYTES = 64


class Topic:
    """Turns what a topic brings into what the follower takes.

    Args:
        name: The topic, for people.
        known: The tape that is there.
    """

    def __init__(self, name: str, known: Known | None) -> None:
        self._name = name
        self._columns = list(known.enrichments) if known is not None else []
        self._rule_set = ""
        self._has_tape = known is not None
        self._epoch: int | None = None
        self._repeats = Repeats()
        self._positions: dict[tuple[int, int], Position] = {}
        self.undecodable = 0
        """Messages that held no judged trades: lost."""
        for position in known.positions if known is not None else ():
            self._positions[position[:2]] = position

    @property
    def has_tape(self) -> bool:
        """Whether the follower has been told what its tape has to be like."""
        return self._has_tape

    def skip(self, position: Position) -> None:
        """Begin behind a position that nothing was read of."""
        self._positions[position[:2]] = position

    def start(self) -> Start:
        """Return what the tape has to be like for what has come so far."""
        self._has_tape = True
        return Start(enrichments=tuple(self._columns), rule_set=self._rule_set)

    def take(self, trades: TopicTrades) -> list[Start | Trades]:
        """Return the trades as the follower takes them, after what their tape has to be like if that has changed."""
        if trades.undecodable:
            if not self.undecodable:
                log.warning("%s has messages that are no judged trades, the first: %s", self._name, trades.undecodable)
            self.undecodable += len(trades.undecodable)
        changed = self._learn_columns(trades.columns) or not self._has_tape
        if trades.rule_set and trades.rule_set != self._rule_set:
            self._rule_set, changed = trades.rule_set, True
        batch = TopicBatch(self, trades)
        return [self.start(), batch] if changed else [batch]

    def write(self, trades: TopicTrades, tape: TapeWriter) -> Counts | None:
        """Put trades on the tape that are not there yet, and the positions behind them."""
        if tape.epoch != self._epoch:
            self._meet(tape)
        counts = tape.append_topic(trades, self._repeats)
        if counts is not None:
            self._positions.update({position[:2]: position for position in trades.positions})
        return counts

    def _meet(self, tape: TapeWriter) -> None:
        """Find out what a tape has had, the first one; a tape that took its place is told where reading stands."""
        if self._epoch is None:
            tape.recall(self._repeats)
        for position in self._positions.values():
            tape.commit(position)
        self._epoch = tape.epoch

    def _learn_columns(self, names: list[str]) -> bool:
        known = {name for name, _ in self._columns}
        new = [name for name in names if name not in known and 0 < len(name.encode()) <= MAX_NAME_BYTES]
        new = new[: MAX_COLUMNS - len(self._columns)]
        self._columns += [(name, "") for name in new]
        return bool(new)


class TopicBatch:
    """Trades on their way to the tape."""

    def __init__(self, topic: Topic, trades: TopicTrades) -> None:
        self._topic, self._trades = topic, trades

    def write(self, tape: TapeWriter) -> Counts | None:
        """Put those on the tape that are not there yet."""
        return self._topic.write(self._trades, tape)


def no_judge(name: str) -> JudgeAwayError:
    """Return the answer to clients that want a tick judged where trades come from a topic."""
    return JudgeAwayError(f"this gateway follows {name}, where trades are judged already: no processor is behind it")
