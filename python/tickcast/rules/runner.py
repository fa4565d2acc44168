"""Makes the runner that a configuration asks for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, get_args

from tickcast.errors import RuleError
from tickcast.rules.base import Policy, Runner
from tickcast.rules.inline import InlineRunner, NoRules
from tickcast.rules.loading import load
from tickcast.rules.pool import PoolRunner

if TYPE_CHECKING:
    from tickcast.rules.ruleset import RuleSet

__all__ = ["make_runner"]


def make_runner(
    rule_set: RuleSet | None,
    spec: str | None,
    *,
    workers: int = 1,
    spares: int = 2,
    deadline_s: float = 0.25,
    policy: str = "fail-closed",
    concurrency: int = 256,
) -> Runner:
    """Return a runner for a rule set; it is yet to be started.

    Args:
        rule_set: The rules. None with a ``spec``: workers import them, this process never does (in line it must).
        spec: Names them for the workers; None: where the module of ``rule_set`` is found to hold it. None with no rule
            set either: no rules, everything is VALID.
        workers: Worker processes; 0: in line.
        spares: Further ones that stand by with the rules imported. A hang costs two workers, the one it is found on and
            the one that finds the instrument: with fewer than two the stall is longer by the start of a process.
        deadline_s: Seconds for one call of a rule: of columns a batch, of plain per-tick rules a run of 64 ticks, of
            ``async`` ones a tick.
        policy: ``fail-closed`` (INVALID) or ``fail-open`` (UNKNOWN) where a rule is not available.
        concurrency: Ticks of a batch that an ``async`` rule is asked about at once, >= 1.

    Raises:
        RuleError: A value is out of range, or workers could not find the rule set by a name.
    """
    if policy not in get_args(Policy):
        raise RuleError(f"policy must be fail-closed or fail-open, was {policy!r}")
    if min(workers, spares) < 0 or deadline_s <= 0 or concurrency < 1:
        raise RuleError(
            "rule workers and spares must be >= 0, the deadline > 0 and the concurrency >= 1, "
            f"were {workers}, {spares}, {deadline_s:g} s and {concurrency}"
        )
    chosen: Policy = "fail-open" if policy == "fail-open" else "fail-closed"
    if rule_set is None and spec is None:
        return NoRules(chosen)
    if not workers:
        rules = rule_set if rule_set is not None else load(spec or "")
        return InlineRunner(rules, deadline_s=deadline_s, policy=chosen, concurrency=concurrency)
    name = spec if spec is not None else _name_of(rule_set)
    expected = rule_set.declaration() if rule_set is not None else None
    return PoolRunner(
        name, expected, workers=workers, spares=spares, deadline_s=deadline_s, policy=chosen, concurrency=concurrency
    )


def _name_of(rule_set: RuleSet | None) -> str:
    for module_name, module in list(sys.modules.items()):
        if module_name == "__main__":
            continue  # workers have another
        for attribute, value in list(vars(module).items() if hasattr(module, "__dict__") else ()):
            if value is rule_set:
                return f"{module_name}:{attribute}"
    raise RuleError("rule workers import the rule set by name: give module:attribute, or judge in line with 0 workers")
