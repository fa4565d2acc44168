"""How users write rules: a `RuleSet` collects checks, per-tick checks, enrichments and adopted functions, in order.

Declaring runs nothing of the user's; whatever is wrong with a declaration is said at once, by a `RuleError`.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar, overload

from tickcast.errors import RuleError
from tickcast.rules.declaration import Declaration, Enrichment, Kind, RuleInfo
from tickcast.units import parse_duration_ns

__all__ = ["RESERVED", "Rule", "RuleSet"]

RESERVED: Final = frozenset(
    {"tradeId", "instrumentId", "price", "volume", "timestampNs", "status", "reason", "vwap20m"},
)
"""Keys of a trade: no enrichment may take them."""

# What an adopted function's result may carry besides its enrichments: the fields of a trade, in its own spelling.
_TRADE_FIELDS: Final = RESERVED | {"trade_id", "instrument_id", "timestamp_ns", "vwap_20m"}
_NAME_CHARS: Final = 64
_MAX_RULES: Final = 1_000

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Rule:
    """One declared rule with its function."""

    index: int
    """Place in declared order, from 1."""
    info: RuleInfo
    function: Callable[..., Any]
    columns: tuple[tuple[str, int], ...] = ()
    """Enrichments it gives: (field of the result, number of the enrichment); of ``enrich`` a single one."""

    @property
    def per_tick(self) -> bool:
        """Whether the function takes one tick rather than columns."""
        return self.info.kind in ("check_each", "adopt")


class RuleSet:
    """The rules that judge ticks, in the order of their declaration.

    Args:
        name: Shown in the tape and on the board.
        version: Shown beside it. None: a hash of the source files that the rules come from.

    Raises:
        RuleError: ``name`` is empty or longer than 64 characters.
    """

    def __init__(self, name: str, version: str | None = None) -> None:
        if not isinstance(name, str) or not 0 < len(name) <= _NAME_CHARS:
            raise RuleError(f"a rule set needs a name of 1 to {_NAME_CHARS} characters, was {name!r}")
        self.name: Final = name
        self._version = version
        self._rules: list[Rule] = []
        self._enrichments: list[Enrichment] = []
        self._modules = {sys._getframe(1).f_globals.get("__name__", "")}

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in declared order."""
        return tuple(self._rules)

    @property
    def enrichments(self) -> tuple[Enrichment, ...]:
        """The columns that the rules add to a trade, in declared order."""
        return tuple(self._enrichments)

    @property
    def version(self) -> str:
        """The version given, or the first 12 hex digits of a SHA-256 over the source files of the rules."""
        return self._version if self._version is not None else self._source_hash

    def declaration(self) -> Declaration:
        """Return what the set declares, without its code."""
        rules = tuple(rule.info for rule in self._rules)
        return Declaration(self.name, self.version, rules, self.enrichments)

    def check(
        self, *, reason: str, name: str | None = None, shadow: bool = False, lookback: str | None = None
    ) -> Callable[[F], F]:
        """Declare a check over columns: `Ticks` in, a bool mask of shape ``(n,)`` (or an `Outcome`) out, True = passes.

        Args:
            reason: What a rejected trade says.
            name: Defaults to the function's.
            shadow: Count what it would reject, and let it pass.
            lookback: How far back it remembers ticks, such as ``5m``: after a start they are shown to it again.

        Raises:
            RuleError: No reason, a name taken twice, a coroutine function.
        """
        if not isinstance(reason, str) or not reason:
            raise RuleError('check needs the reason of a reject: @rules.check(reason="…")')

        def declare(function: F) -> F:
            self._columns_only(function, "check")
            self._add("check", function, name, reason=reason, shadow=shadow, lookback=lookback)
            return function

        return declare

    @overload
    def check_each(
        self,
        function: F,
        /,
        *,
        name: str | None = None,
        asynchronous: bool | None = None,
        shadow: bool = False,
        lookback: str | None = None,
    ) -> F: ...
    @overload
    def check_each(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        asynchronous: bool | None = None,
        shadow: bool = False,
        lookback: str | None = None,
    ) -> Callable[[F], F]: ...
    def check_each(
        self,
        function: F | None = None,
        /,
        *,
        name: str | None = None,
        asynchronous: bool | None = None,
        shadow: bool = False,
        lookback: str | None = None,
    ) -> F | Callable[[F], F]:
        """Declare a check of single ticks: a `Tick` in, None or the reason of a reject out; may be ``async``.

        Args:
            function: The check, when used without parentheses.
            name: Defaults to the function's.
            asynchronous: Set it where a plain function returns an awaitable; None: seen from the function.
            shadow: Count what it would reject, and let it pass.
            lookback: How far back it remembers ticks, such as ``5m``: after a start they are shown to it again.

        Raises:
            RuleError: A name taken twice, something that can't be called.
        """

        def declare(function: F) -> F:
            self._add("check_each", function, name, asynchronous=asynchronous, shadow=shadow, lookback=lookback)
            return function

        return declare if function is None else declare(function)

    def enrich(self, name: str, unit: str = "", *, lookback: str | None = None) -> Callable[[F], F]:
        """Declare a further column of the trade: `Ticks` in, numbers of shape ``(n,)`` out.

        Args:
            name: The column's name, an identifier of at most 64 characters; none of the trade's own keys.
            unit: Unit of the values, as shown to people.
            lookback: How far back it remembers ticks, such as ``5m``: after a start they are shown to it again.

        Raises:
            RuleError: A name taken twice or reserved, a coroutine function.
        """
        if not isinstance(name, str):
            raise RuleError('enrich needs the name of its column: @rules.enrich("notional", unit="USD")')

        def declare(function: F) -> F:
            self._columns_only(function, "enrich")
            own_name = _name_of(function)
            rule_name = name if own_name == "<lambda>" else own_name
            self._add("enrich", function, rule_name, columns={name: (name, unit)}, lookback=lookback)
            return function

        return declare

    def adopt(
        self,
        function: F,
        *,
        name: str | None = None,
        enrich: Mapping[str, str] | Iterable[str] | None = None,
        vwap_as: str | None = None,
        asynchronous: bool | None = None,
        shadow: bool = False,
        lookback: str | None = None,
    ) -> F:
        """Take in an existing function of one tick, unchanged; it may be ``async``, or a method.

        It gets an object with ``instrument_id, price, volume, timestamp_ns`` and returns an object or mapping with
        ``status`` (VALID or INVALID, as name, number or enum member), optionally ``reason`` and further fields, or
        raises.

        Args:
            function: The function.
            name: Defaults to the function's.
            enrich: Fields of its result that become enrichments: names, or names with units. None: the numeric fields
                of the class that its return annotation names (dataclass, TypedDict, NamedTuple, msgspec), if any.
            vwap_as: Keep the result's own ``vwap_20m`` as an enrichment of this name. None: it is ignored.
            asynchronous: Set it where a plain function returns an awaitable; None: seen from the function.
            shadow: Count what it would reject, and let it pass; it gives no enrichments then.
            lookback: How far back it remembers ticks, such as ``5m``: after a start they are shown to it again.

        Raises:
            RuleError: A name taken twice or reserved, something that can't be called, enrichments of a rule in shadow.
        """
        if shadow and (enrich is not None or vwap_as is not None):
            raise RuleError(
                f"{_name_of(function)!r} is in shadow, so it can give no enrichments: leave out shadow or them"
            )
        if shadow:
            units = {}
        elif enrich is None:
            units = dict.fromkeys(_numeric_fields(function), "")
        elif isinstance(enrich, Mapping):
            units = dict(enrich)
        else:
            units = dict.fromkeys([enrich] if isinstance(enrich, str) else enrich, "")
        columns = {field: (field, unit) for field, unit in units.items()}
        if vwap_as is not None:
            columns["vwap_20m"] = (vwap_as, "")
        self._add("adopt", function, name, columns=columns, asynchronous=asynchronous, shadow=shadow, lookback=lookback)
        return function

    def _columns_only(self, function: Callable[..., Any], kind: str) -> None:
        if _is_async(function):
            name = _name_of(function)
            raise RuleError(f"{kind} {name!r} takes columns and can't be async: use check_each for one tick")

    def _add(
        self,
        kind: Kind,
        function: Callable[..., Any],
        name: str | None,
        *,
        reason: str | None = None,
        columns: Mapping[str, tuple[str, str]] | None = None,
        asynchronous: bool | None = None,
        shadow: bool = False,
        lookback: str | None = None,
    ) -> None:
        """Check everything, then add the rule; ``columns`` is field of the result -> (enrichment, unit)."""
        if not callable(function):
            raise RuleError(f"{kind} needs a function, was {function!r}")
        name = name or _name_of(function)
        if name == "<lambda>":
            raise RuleError(f"{kind} of a lambda needs a name: name=…")
        if not 0 < len(name) <= _NAME_CHARS:
            raise RuleError(f"the name of a rule has 1 to {_NAME_CHARS} characters, was {name!r}")
        if any(rule.info.name == name for rule in self._rules):
            raise RuleError(f"rule set {self.name!r} has a rule {name!r} already")
        if len(self._rules) >= _MAX_RULES:
            raise RuleError(f"rule set {self.name!r} has more than {_MAX_RULES} rules")
        if asynchronous is None:
            asynchronous = _is_async(function)
        lookback_ns = _lookback_ns(name, lookback)
        info = RuleInfo(name, kind, reason or f"Rejected by {name}", asynchronous, shadow, lookback_ns)
        fields = self._add_columns(columns or {})
        self._rules.append(Rule(len(self._rules) + 1, info, function, fields))
        self._modules.add(getattr(function, "__module__", None) or type(function).__module__)
        self.__dict__.pop("_source_hash", None)

    def _add_columns(self, columns: Mapping[str, tuple[str, str]]) -> tuple[tuple[str, int], ...]:
        taken = {enrichment.name for enrichment in self._enrichments}
        for name, unit in columns.values():
            if name in RESERVED:
                reserved = ", ".join(sorted(RESERVED))
                raise RuleError(f"enrichment {name!r} is a key of the trade itself; reserved: {reserved}")
            if not isinstance(name, str) or not name.isidentifier() or len(name) > _NAME_CHARS:
                raise RuleError(f"enrichment {name!r} must be an identifier of at most {_NAME_CHARS} characters")
            if not isinstance(unit, str):
                raise RuleError(f"the unit of enrichment {name!r} must be a string, was {unit!r}")
            if name in taken:
                raise RuleError(f"rule set {self.name!r} has an enrichment {name!r} already")
            taken.add(name)
        first = len(self._enrichments)
        self._enrichments += [Enrichment(name, unit) for name, unit in columns.values()]
        return tuple((field, first + place) for place, field in enumerate(columns))

    @cached_property
    def _source_hash(self) -> str:
        digest = hashlib.sha256()
        for module in sorted(self._modules):
            path = getattr(sys.modules.get(module), "__file__", None)
            if path and Path(path).is_file():  # an extension module counts by the bytes of its library
                digest.update(Path(path).read_bytes())
        for rule in self._rules:
            digest.update(f"{rule.info.kind} {rule.info.name}{' shadow' * rule.info.shadow}\n".encode())
            if not _has_file(rule.function):
                digest.update(getattr(getattr(rule.function, "__code__", None), "co_code", b""))
        return digest.hexdigest()[:12]


def _lookback_ns(name: str, lookback: str | None) -> int:
    if lookback is None:
        return 0
    try:
        return parse_duration_ns(lookback)
    except (TypeError, ValueError) as error:
        raise RuleError(f"lookback of rule {name!r} {error}") from None


def _has_file(function: Callable[..., Any]) -> bool:
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    return bool(getattr(module, "__file__", None))


def _name_of(function: object) -> str:
    function = getattr(function, "func", function)  # functools.partial
    return str(getattr(function, "__name__", type(function).__name__))


def _is_async(function: object) -> bool:
    call = getattr(type(function), "__call__", None)  # noqa: B004 - the method of an object that is called
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _numeric_fields(function: Callable[..., Any]) -> list[str]:
    """Return the numeric fields of the class in the return annotation, without those of a trade."""
    try:
        target = function if hasattr(function, "__annotations__") else type(function).__call__
        result = typing.get_type_hints(target).get("return")
        hints = typing.get_type_hints(result) if inspect.isclass(result) else {}
    except Exception:  # annotations are anybody's: one that can't be resolved just names no enrichments
        return []
    numbers = [field for field, hint in hints.items() if {float, int} & {hint, *typing.get_args(hint)}]
    return [field for field in numbers if field not in _TRADE_FIELDS and not field.startswith("_")]
