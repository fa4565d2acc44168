"""Databento's DBN files as chunks of CSV text for `tickcast.recordings`: schema trades, any version, zstd or not."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import databento_dbn as dbn

from tickcast.errors import SourceError

__all__ = ["trades"]

CHUNK_BYTES = 1 << 18
PRICE_UNITS = 10**9


def trades(path: Path, *, zstd: bool, instrument: str | None) -> Iterator[bytes]:
    """Read the trades of a file; what has no price gets none, and becomes a dead letter.

    Times are `ts_event`, the exchange's, ns. Instruments are the symbols that the file maps its numbers to.

    Raises:
        SourceError: It is no DBN file, or of another schema.
    """
    records = _records(path, dbn.Compression.ZSTD if zstd else dbn.Compression.NONE)
    try:
        first = next(records, [])
    except OSError as error:
        raise SourceError(str(error)) from None
    if not first or not isinstance(first[0], dbn.Metadata):
        raise SourceError(f"{path}: is no DBN file")
    schema = first[0].schema
    if schema is not None and str(schema) != "trades":
        raise SourceError(f"{path}: has schema {schema}; replay reads trades")
    symbols = _Symbols(first[0].mappings, instrument)
    return _texts(first[1:], records, symbols)


def _texts(first: list[Any], records: Iterator[list[Any]], symbols: "_Symbols") -> Iterator[bytes]:
    yield symbols.lines(first)
    for some in records:
        yield symbols.lines(some)


def _records(path: Path, compression: Any) -> Iterator[list[Any]]:  # noqa: ANN401 (an enumeration of theirs)
    decoder = dbn.DBNDecoder(compression=compression)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            try:
                found = decoder.write_and_decode(chunk)
            except dbn.DBNError as error:
                raise OSError(f"{path}: {error}") from None
            if found:
                yield found
    if decoder.buffer():
        raise OSError(f"{path}: is cut off")


class _Symbols:
    """What the numbers of instruments mean, and when."""

    def __init__(self, mappings: Mapping[str, Sequence[Mapping[str, Any]]], instrument: str | None) -> None:
        self._all = None if instrument is None else _field(instrument)
        self._spans: dict[int, list[tuple[datetime.date, datetime.date, str]]] = {}
        self._said: dict[int, str] = {}
        self._known: dict[tuple[int, int], str] = {}
        for name, intervals in mappings.items():
            for interval in intervals:
                other = str(interval["symbol"])
                number, symbol = (other, name) if other.isdigit() else (name, other)
                if number.isdigit():
                    span = (interval["start_date"], interval["end_date"], symbol)
                    self._spans.setdefault(int(number), []).append(span)

    def lines(self, records: list[Any]) -> bytes:
        """Return the trades among the records, one a line."""
        lines = []
        for record in records:
            if isinstance(record, dbn.TradeMsg):
                symbol = self._all or self._of(record.instrument_id, record.ts_event)
                lines.append(f"{symbol},{_price(record.price)},{record.size},{record.ts_event}\n")
            elif isinstance(record, dbn.SymbolMappingMsg):
                self._said[record.instrument_id] = _field(record.stype_out_symbol)
        return "".join(lines).encode()

    def _of(self, number: int, time_ns: int) -> str:
        if number in self._said:
            return self._said[number]
        day = time_ns // (86_400 * 10**9)
        symbol = self._known.get((number, day))
        if symbol is None:
            symbol = self._known[number, day] = _field(self._mapped(number, day))
        return symbol

    def _mapped(self, number: int, day: int) -> str:
        spans = self._spans.get(number, [])
        date = datetime.date(1970, 1, 1) + datetime.timedelta(days=min(day, 2_000_000))
        held = [symbol for start, end, symbol in spans if start <= date < end]
        return held[0] if held else str(number)


def _price(units: int) -> str:
    """Return a price of 10^-9 as a decimal text; empty: there is none."""
    if units == dbn.UNDEF_PRICE:
        return ""
    whole, rest = divmod(abs(units), PRICE_UNITS)
    return f"{'-' if units < 0 else ''}{whole}.{rest:09}"


def _field(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"') else text
