"""The status board: JSON that a processor or follower keeps on its tape, as readers see it."""

from typing import Any

import msgspec

__all__ = ["board_of"]


def board_of(raw: bytes) -> dict[str, Any]:
    """Return a board, empty if there is none that can be read."""
    try:
        board = msgspec.json.decode(raw) if raw else {}
    except msgspec.MsgspecError:
        return {}
    return board if isinstance(board, dict) else {}
