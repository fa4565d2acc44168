"""The user's rules: how they are written (`RuleSet`), and how batches are judged by them (`make_runner`).

`judge` takes a batch through the rules; `inline` does it in this process, `pool` in worker processes that hang or die
without harm to anybody else.
"""

from typing import TYPE_CHECKING

from tickcast.rules.base import Policy, Runner
from tickcast.rules.declaration import Declaration, Enrichment, RuleInfo
from tickcast.rules.loading import installed, load
from tickcast.rules.ruleset import RESERVED, Rule, RuleSet
from tickcast.rules.state import BreakerState, RuleCounters, RulesState, RuleState, WorkerState
from tickcast.rules.verdicts import INVALID, UNKNOWN, VALID, Verdicts

if TYPE_CHECKING:
    from tickcast.rules.runner import make_runner

__all__ = [
    "INVALID",
    "RESERVED",
    "UNKNOWN",
    "VALID",
    "BreakerState",
    "Declaration",
    "Enrichment",
    "Policy",
    "Rule",
    "RuleCounters",
    "RuleInfo",
    "RuleSet",
    "RuleState",
    "RulesState",
    "Runner",
    "Verdicts",
    "WorkerState",
    "installed",
    "load",
    "make_runner",
]


def __getattr__(name: str) -> object:
    # A worker needs none of what starts workers, and should be up fast.
    if name == "make_runner":
        from tickcast.rules.runner import make_runner  # noqa: PLC0415

        return make_runner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
