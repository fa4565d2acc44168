"""A file of lines: what a crash has torn, and what the disk refuses."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickcast.lines import TAIL_BYTES, LineFile
from tickcast.processor.deadletters import DeadLetters, read_letters

TEXT = st.binary(max_size=30).map(lambda text: text.replace(b"\n", b"-"))


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@given(st.lists(TEXT), TEXT, st.lists(TEXT, max_size=3), st.sampled_from([0, TAIL_BYTES, 3 * TAIL_BYTES]))
def test_a_torn_line_is_cut_off_and_whole_ones_stay(whole, torn, more, long) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "lines"
        before = b"".join(text + b"\n" for text in [b"x" * long, *whole] if text)
        path.write_bytes(before + torn * (1 + long // 10))
        file = LineFile(path)
        assert file.last == before.removesuffix(b"\n").split(b"\n")[-1]
        file.append(b"".join(text + b"\n" for text in more))
        file.close()
        assert path.read_bytes() == before + b"".join(text + b"\n" for text in more)


def test_what_the_disk_refuses_leaves_no_trace_and_is_not_written_later(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    file = LineFile(path)
    file.append(b"first\n" * 10)
    with full_after(100), pytest.raises(OSError, match="too large"):
        file.append(b"second\n" * 10_000)
    assert path.read_bytes() == b"first\n" * 10
    file.append(b"third\n", to_disk=True)
    file.close()
    assert path.read_bytes() == b"first\n" * 10 + b"third\n"


class Undecodable:
    """A batch of one message that is none."""

    letters: tuple = ()

    def __init__(self, number: int) -> None:
        self.undecodable = [((0x0BADCAFE, 0, number, 0), b"?", "no tick")]


def test_a_torn_dead_letter_harms_neither_those_before_nor_those_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    with DeadLetters(path) as letters:
        letters.write(Undecodable(1))
    with path.open("ab") as file:
        file.write(b'{"stream":"0bad')
    with DeadLetters(path) as letters:
        letters.write(Undecodable(2))
    assert [letter.offset for letter in read_letters(path)] == [1, 2]


def test_a_line_that_is_no_dead_letter_is_left_out_and_named(tmp_path: Path, caplog) -> None:
    path = tmp_path / "letters"
    with DeadLetters(path) as letters:
        letters.write(Undecodable(1))
    path.write_bytes(path.read_bytes() + b'{"stream":"0bad{"stream"\n' + path.read_bytes())
    assert [letter.offset for letter in read_letters(path)] == [1, 1]
    assert f"{path}, line 2 is no dead letter" in caplog.text
