"""What waits of a partition is handed out in order, and never both kinds at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("confluent_kafka")

from tickcast._core import Inbox
from tickcast.sources.shelf import Shelf

INBOXES = st.lists(st.lists(st.tuples(st.integers(1, 3), st.binary(max_size=9)), min_size=1, max_size=6), max_size=6)
"""Gap to the offset before, and payload, of each message of each inbox."""


@given(INBOXES, st.integers(0, 40), st.integers(1, 8), st.integers(1, 40))
def test_all_is_handed_out_once_in_order_and_by_kind(
    inboxes: list[list[tuple[int, bytes]]], resume: int, most: int, size: int
) -> None:
    shelf, offset, waiting = Shelf(resume, 0, goes_on=False), -1, []
    for inbox in inboxes:
        messages = []
        for gap, payload in inbox:
            offset += gap
            messages.append((offset, 0, payload, None, []))
        shelf.inboxes.append(Inbox(messages))
        waiting += [(at, len(payload)) for at, _, payload, _, _ in messages]
    while waiting:
        silent = waiting[0][0] < resume
        assert shelf.is_silent is silent
        taken = shelf.take(most, size)
        count = sum(map(len, taken))
        mine, waiting = waiting[:count], waiting[count:]
        assert 1 <= count <= most
        assert [taken[0].first_offset, taken[-1].last_offset] == [mine[0][0], mine[-1][0]]
        assert sum(inbox.size for inbox in taken) == sum(length for _, length in mine)
        assert {at < resume for at, _ in mine} == {silent}
        bytes_taken = sum(length for _, length in mine)
        assert bytes_taken - mine[-1][1] <= size, "only the last one may be too much"
        ended = not waiting or (waiting[0][0] < resume) is not silent
        assert ended or count == most or bytes_taken >= size, "there was room for more"
        if not silent:
            assert shelf.taken == mine[-1][0]
    assert shelf.take(most, size) == []


@given(INBOXES)
def test_what_is_thrown_away_is_told(inboxes: list[list[tuple[int, bytes]]]) -> None:
    shelf, offset = Shelf(0, 0, goes_on=False), -1
    for inbox in inboxes:
        shelf.inboxes.append(Inbox([((offset := offset + gap), 0, payload, None, []) for gap, payload in inbox]))
    payloads = [payload for inbox in inboxes for _, payload in inbox]
    assert shelf.clear() == (len(payloads), sum(map(len, payloads)))
    assert shelf.clear() == (0, 0)
