"""Columns of the extension as NumPy sees them: views, not copies, that nobody can write to."""

import gc

import numpy as np
import pytest

from fixtures.recorded import made_rows, write_csv
from tickcast._core import Judge, Replay


@pytest.fixture
def pending(tmp_path):
    path = write_csv(tmp_path / "ticks.csv", made_rows(500, seed=1))
    return Judge().begin(Replay(path, stream=1).take(None, 1000), False)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("price", "f8"),
        ("volume", "i8"),
        ("timestamp_ns", "i8"),
        ("instrument", "i4"),
        ("vwap_20m", "f8"),
        ("event_clock_ns", "i8"),
    ],
)
def test_a_column_is_viewed_without_copying_and_read_only(pending, name, dtype):
    column = getattr(pending, name)
    array = np.asarray(column)
    assert array.dtype == np.dtype(dtype)
    assert array.shape == (len(pending),)
    assert array.ctypes.data == np.asarray(getattr(pending, name)).ctypes.data
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


def test_an_array_outlives_its_batch(pending, tmp_path):
    array = np.asarray(pending.price)
    expected = array.copy()
    del pending
    gc.collect()
    assert (array == expected).all()


def test_a_batch_is_begun_once(tmp_path):
    batch = Replay(write_csv(tmp_path / "t.csv", made_rows(3, seed=1)), stream=1).take(None, 10)
    judge = Judge()
    judge.begin(batch, False)
    with pytest.raises(ValueError, match="already"):
        judge.begin(batch, False)
