"""Columns that rules see: read-only, uncopied, refused where they don't fit."""

import math

import numpy as np
import pytest

import tickcast as tc


def some_ticks(rows=4, **columns):
    given = {
        "price": np.arange(1.0, rows + 1),
        "volume": np.arange(10, rows + 10),
        "timestamp_ns": np.arange(100, rows + 100),
        "instrument": np.arange(rows, dtype=np.int32) % 2,
        "instruments": ["AAA", "BBB"],
    }
    return tc.Ticks(**(given | columns))


def test_columns_are_views_of_what_was_given():
    price = np.ones(4)
    ticks = some_ticks(price=price)
    assert np.shares_memory(ticks.price, price)
    assert price.flags.writeable
    assert np.shares_memory(ticks.span(1, 3).price, price)


@pytest.mark.parametrize("name", ["price", "volume", "timestamp_ns", "instrument", "vwap_20m", "now_ns"])
def test_no_column_can_be_written_to(name):
    for ticks in (some_ticks(), some_ticks().take(np.array([0, 2])), some_ticks().span(0, 2)):
        with pytest.raises(ValueError, match="read-only"):
            getattr(ticks, name)[0] = 1
        with pytest.raises(AttributeError, match="read-only"):
            setattr(ticks, name, np.ones(4))


def test_dtypes_are_those_of_the_contract():
    ticks = some_ticks(instrument=np.array([0, 1, 0, 1], np.uint32))
    dtypes = [ticks.price, ticks.volume, ticks.timestamp_ns, ticks.instrument, ticks.vwap_20m, ticks.now_ns]
    assert [column.dtype.name for column in dtypes] == ["float64", "int64", "int64", "int32", "float64", "int64"]


def test_what_is_left_out_has_a_meaning():
    ticks = some_ticks()
    assert np.isnan(ticks.vwap_20m).all()
    assert (ticks.now_ns == ticks.timestamp_ns).all()
    assert (some_ticks(now_ns=7).now_ns == [7, 7, 7, 7]).all()


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("volume", np.ones(3, np.int64), r"volume must have shape \(4,\), has \(3,\)"),
        ("price", np.ones((2, 2)), r"price must have shape \(n,\), has \(2, 2\)"),
        ("volume", np.ones(4), "volume must be int64, was float64"),
        ("instrument", ["AAA"] * 4, "instrument must be int32"),
    ],
)
def test_columns_that_do_not_fit_are_refused(column, values, message):
    with pytest.raises(ValueError, match=message):
        some_ticks(**{column: values})


def test_each_gives_one_object_per_row_with_the_types_of_python():
    tick = list(some_ticks(vwap_20m=[math.nan, 2.0, 3.0, 4.0]).each())[1]
    assert tick == tc.Tick("BBB", 2.0, 11, 101, 2.0, 101)
    assert [type(value) for value in (tick.price, tick.volume, tick.timestamp_ns)] == [float, int, int]


def test_of_finds_instruments_by_id():
    ticks = some_ticks()
    assert ticks.of("BBB").tolist() == [False, True, False, True]
    assert not ticks.of("CCC").any()
    assert ticks.of("AAA", "BBB").all()


def test_no_ticks_are_ticks():
    assert len(some_ticks(rows=0)) == 0
    assert list(some_ticks(rows=0).each()) == []
