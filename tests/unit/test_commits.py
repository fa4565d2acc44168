"""The note on a commit."""

import pytest

from tickcast.commits import CommitNote


@pytest.mark.parametrize("lowest", [None, 0, 12345])
@pytest.mark.parametrize("by", [None, "desk-tickcast-host-1f"])
@pytest.mark.parametrize("stream", [None, 0, 0xDEADBEEF])
def test_a_note_comes_back(lowest, by, stream):
    assert CommitNote.read(CommitNote(lowest, by, stream).text()) == CommitNote(lowest, by, stream)


@pytest.mark.parametrize("text", [None, "", "consumer-1", "tickcast lowest=x", "tickcast lowest=5 or so"])
def test_what_others_wrote_says_nothing(text):
    assert CommitNote.read(text) == CommitNote()
