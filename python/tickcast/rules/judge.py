"""Takes a batch through the rules, in order: the same code in line and in a worker.

- A rule sees the ticks that every rule before it let pass.
- A rule over columns that raises is called again for each half, until the culprits stand alone.
- Where a set has ``async`` rules, several batches are under way at once. Rules over columns, and plain per-tick rules,
  still see the batches in order: one that keeps state of an instrument's earlier rows finds them complete.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from tickcast.rules.each import Each, Sweeper
from tickcast.rules.notes import MANY, Notes
from tickcast.rules.run import Run, Share, Work
from tickcast.ticks import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tickcast.rules.ruleset import Rule, RuleSet
    from tickcast.ticks import Ticks

__all__ = ["Judge"]

# Ticks of a plain per-tick rule that share one deadline: a batch of thousands may take longer than a hang is given.
_CHUNK: Final = 64


class Judge:
    """Judges batches by a rule set.

    Args:
        rule_set: The rules; those declared later are not seen.
        deadline_s: Seconds that one awaited tick may take; bounds the search for culprits as well.
        fail_open: Policy where a rule is not available: True UNKNOWN, False INVALID.
        concurrency: Ticks of one batch awaited at once.
        notes: Where to note what is running.
    """

    def __init__(
        self, rule_set: RuleSet, *, deadline_s: float, fail_open: bool, concurrency: int, notes: Notes | None = None
    ) -> None:
        self.declaration: Final = rule_set.declaration()
        self.notes: Final = notes or Notes(None, len(rule_set.rules))
        self._rules = rule_set.rules
        self._deadline_s = deadline_s
        self._fail_open = fail_open
        self._concurrency = concurrency
        self._sweeper = Sweeper(deadline_s)
        self.asynchronous: Final = any(rule.info.asynchronous for rule in self._rules)
        """Whether batches must be judged by `judge`; else `judge_now` will do."""
        self._gates: dict[int, asyncio.Future[None]] = {}

    def judge_now(self, work: Work) -> Run:
        """Judge a batch by a set without ``async`` rules (or a probe of a rule that is not)."""
        run = Run(work, self.declaration, self._fail_open, self.notes)
        for rule in self._wanted(work):
            self._plain(run, rule)
        return run

    async def judge(self, work: Work) -> Run:
        """Judge a batch by any set. Call it in the order of the batches, each as a task of its own."""
        run = Run(work, self.declaration, self._fail_open, self.notes)
        if work.only:
            for rule in self._wanted(work):
                await self._stage(run, rule)
            return run
        before, self._gates = self._gates, {}
        mine = self._gates
        loop = asyncio.get_running_loop()
        after_async = False
        for rule in self._rules:  # before the first await, so that the next batch finds the gates
            after_async |= rule.info.asynchronous
            if after_async and not rule.info.asynchronous:
                mine[rule.index] = loop.create_future()
        try:
            for rule in self._rules:
                gate = before.get(rule.index)
                if gate is not None:
                    await gate
                await self._stage(run, rule)
                if rule.index in mine:
                    mine[rule.index].set_result(None)
        finally:
            for gate in mine.values():
                if not gate.done():
                    gate.set_result(None)
        return run

    def _wanted(self, work: Work) -> tuple[Rule, ...]:
        return (self._rules[work.only - 1],) if work.only else self._rules

    async def _stage(self, run: Run, rule: Rule) -> None:
        if not rule.info.asynchronous:
            self._plain(run, rule)
            return
        self._skip_blocked(run, rule)
        for share in self._shares(run, rule):
            self.notes.count(rule.index, len(share.ticks), len(share.ticks))
            each = Each(run, rule, share, notes=self.notes, sweeper=self._sweeper)
            self.notes.await_all(run.task, rule.index, share.code)
            await each.judge(self._concurrency)
            self.notes.await_all(0, 0, MANY)
        run.settle()

    def _plain(self, run: Run, rule: Rule) -> None:
        self._skip_blocked(run, rule)
        for share in self._shares(run, rule):
            if rule.per_tick:
                self._each(run, rule, share)
            else:
                self._bisect(run, rule, share, time.monotonic_ns() + int(self._deadline_s * 0.5e9))
        run.settle()

    def _skip_blocked(self, run: Run, rule: Rule) -> None:
        if rule.index not in run.work.blocked or not len(run.ticks):
            return
        codes = run.work.blocked[rule.index]
        rows = run.row_numbers()
        run.unavailable(rows if codes is None else rows[np.isin(run.ticks.instrument, list(codes))], rule.index)
        run.settle()

    def _shares(self, run: Run, rule: Rule) -> Iterator[Share]:
        """Yield what to call the rule for: all that stands, or one instrument at a time."""
        ticks, rows = _asked(run, rule)
        if not len(ticks):
            return
        first_code = int(ticks.instrument[0])
        if (ticks.instrument == first_code).all():
            yield Share(ticks, rows, first_code)
            return
        if rule.index not in run.work.isolate:
            yield Share(ticks, rows, MANY)
            return
        codes, first = np.unique(ticks.instrument, return_index=True)
        for code in codes[np.argsort(first)]:
            own = np.flatnonzero(ticks.instrument == code)
            yield Share(ticks.take(own), rows[own], int(code))

    def _bisect(self, run: Run, rule: Rule, share: Share, until_ns: int) -> None:
        """Call a rule over columns; where it raises, for each half, until the culprits stand alone.

        A rule that is slow and raises on everything would stop all others: at ``until_ns`` what is left of the search
        is called off, and all rows of a part that raised are taken for culprits.
        """
        try:
            self._columns(run, rule, share)
        except BaseException as error:  # user code: SystemExit among others
            rows = len(share.ticks)
            if rows == 1 or time.monotonic_ns() > until_ns:
                self.notes.count_raised(rule.index, rows)
                run.raised(share.rows, rule, error)
                return
            self._bisect(run, rule, share.span(0, rows // 2), until_ns)
            self._bisect(run, rule, share.span(rows // 2, rows), until_ns)

    def _columns(self, run: Run, rule: Rule, share: Share) -> None:
        notes, index, rows = self.notes, rule.index, len(share.ticks)
        notes.count(index, 1, rows)
        since = notes.enter(run.task, index, share.code)
        try:
            answer = _read(rule.function(share.ticks), rule, rows)  # reading it may run user code as well
        finally:
            notes.leave(index, since)
        if not isinstance(answer, Outcome):
            run.verdicts.enrichments[rule.columns[0][1], share.rows] = answer
        elif not answer.passed.all():
            failed = ~answer.passed
            observed, limit = _figures("observed", answer.observed, rows), _figures("limit", answer.limit, rows)
            run.reject(share.rows[failed], index, observed[failed], limit[failed])

    def _each(self, run: Run, rule: Rule, share: Share) -> None:
        notes, index, task, function = self.notes, rule.index, run.task, rule.function
        codes = share.ticks.instrument.tolist()
        rows = share.rows.tolist()
        notes.count(index, len(rows), len(rows))
        for place, tick in enumerate(share.ticks.each()):
            if not place % _CHUNK:
                notes.chunk(share.code)
            since = notes.enter_tick(task, index, codes[place])
            try:
                run.take_answer(rows[place], rule, function(tick))
            except BaseException as error:  # user code: SystemExit among others
                notes.count_raised(index, 1)
                run.raised(rows[place], rule, error)
            finally:
                notes.leave(index, since)


def _asked(run: Run, rule: Rule) -> tuple[Ticks, NDArray[np.intp]]:
    """Return the ticks that a rule is asked about, and their rows: those that stand.

    Where a rule in shadow is blocked the ticks stand all the same, and are left out here.
    """
    ticks, rows = run.ticks, run.row_numbers()
    if not rule.info.shadow or rule.index not in run.work.blocked:
        return ticks, rows
    codes = run.work.blocked[rule.index]
    open_rows = np.flatnonzero(~np.isin(ticks.instrument, list(codes))) if codes is not None else rows[:0]
    return ticks.take(open_rows), rows[open_rows]


def _read(answer: object, rule: Rule, rows: int) -> Outcome | NDArray[np.float64]:
    """Return what a rule over columns said, in the form that the contract promises; raises where it has another."""
    if rule.info.kind == "enrich":
        return _numbers(answer, rows)
    if not isinstance(answer, Outcome):
        return Outcome(_mask(answer, rows))
    return Outcome(
        _mask(answer.passed, rows),
        _figures("observed", answer.observed, rows),
        _figures("limit", answer.limit, rows),
    )


def _mask(answer: object, rows: int) -> NDArray[np.bool_]:
    mask = np.asarray(answer)
    if mask.dtype != np.bool_ or mask.shape != (rows,):
        raise TypeError(f"expected bool of shape ({rows},), was {mask.dtype} of shape {mask.shape}")
    return mask


def _numbers(answer: object, rows: int) -> NDArray[np.float64]:
    numbers = np.asarray(answer)
    if numbers.dtype.kind not in "fiub" or numbers.shape != (rows,):
        raise TypeError(f"expected numbers of shape ({rows},), was {numbers.dtype} of shape {numbers.shape}")
    return numbers.astype(np.float64, copy=False)


def _figures(name: str, answer: object, rows: int) -> NDArray[np.float64]:
    figures = np.asarray(answer)
    if figures.dtype.kind not in "fiub" or figures.shape not in ((), (rows,)):
        found = f"{figures.dtype} of shape {figures.shape}"
        raise TypeError(f"{name}: expected numbers of shape () or ({rows},), was {found}")
    return np.broadcast_to(figures.astype(np.float64, copy=False), rows)
