"""What goes with every message of a sink: where its trade stands on the tape, and which rules judged it."""

from collections.abc import Callable

from tickcast.processor.traces import Traces

__all__ = ["Headers"]


class Headers:
    """Makes the headers of a trade's message.

    Args:
        epoch: Of the tape.
        format: ``json``, ``proto`` or ``proto-batch``.
        rule_sets: Returns all rule sets of the tape, ``name@version``.
        traces: The trace contexts that ticks came with; None: nobody keeps them.
    """

    def __init__(
        self,
        epoch: int,
        format: str,  # noqa: A002
        rule_sets: Callable[[], list[str]],
        traces: Traces | None = None,
    ) -> None:
        self._constant = [("tickcast-format", format), ("tickcast-epoch", f"{epoch:016x}")]
        self._rule_sets = rule_sets
        self._traces = traces if traces is not None else Traces()
        self._by_rule_set: dict[int, list[tuple[str, str]]] = {}

    def of(self, trade_id: str, sequence: int, rule_set: int) -> list[tuple[str, str]]:
        """Return the headers of one message."""
        known = self._by_rule_set.get(rule_set)
        if known is None:
            known = self._by_rule_set[rule_set] = [*self._constant, ("tickcast-rules", self._rule_set(rule_set))]
        headers = [*known, ("tickcast-trade-id", trade_id), ("tickcast-sequence", str(sequence))]
        trace = self._traces.of(trade_id)
        if trace is not None:
            headers.append(("traceparent", trace))
        return headers

    def _rule_set(self, number: int) -> str:
        names = self._rule_sets()
        return names[number] if number < len(names) else ""
