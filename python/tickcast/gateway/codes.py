"""Close codes of ``/ws/marketdata``; the same table as in ``docs/protocol.md`` and ``web/src/protocol/codes.ts``."""

from enum import IntEnum

__all__ = ["GOING_AWAY", "LOST", "CloseCode", "comes_back"]

GOING_AWAY = 1001
"""What clients of the plain form get when the gateway goes down: a standard code, they know none of ours."""

LOST = 1006
"""What the pump calls the end of a connection that can't be written to any more; it never goes over the wire."""


class CloseCode(IntEnum):
    """Why a connection was closed: 4000 to 4499 come back, 4500 to 4999 don't."""

    DRAINING = 4000
    """The gateway is going down or was replaced; another takes over."""
    TOO_SLOW = 4001
    """The client read too slowly."""
    HEARTBEAT_LOST = 4002
    """Nothing was heard from the other side for too long; either side may close with it."""
    BAD_REQUEST = 4500
    """Messages that the other side could not read, or far too many of them."""
    UNAUTHORIZED = 4501
    """Credentials are missing or not accepted."""
    UNSUPPORTED = 4502
    """A subprotocol that this gateway does not have."""


def comes_back(code: int) -> bool:
    """Tell whether a client that was closed with this code should connect again."""
    return not 4500 <= code <= 4999
