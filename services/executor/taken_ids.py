"""The ids of calls that were taken, so that none is taken twice."""

import time
from typing import Final
from uuid import UUID

from libs.common.ids import milliseconds_of

REMEMBERED: Final = 50_000


class TakenIds:
    """Remembers the newest ids; knows of the others that it does not know.

    That is when one was made before this process started, or before another that was forgotten for want of room: of those only the history
    can tell.
    """

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._remembered: dict[UUID, None] = {}
        self._forgotten_ms = _now_ms()

    def add(self, identity: UUID) -> None:
        """An id was taken."""
        self._remembered[identity] = None
        if len(self._remembered) > self._most:
            oldest = next(iter(self._remembered))
            del self._remembered[oldest]
            # One that claims to be of the future must not make all others seem old.
            self._forgotten_ms = max(self._forgotten_ms, min(milliseconds_of(oldest), _now_ms()))

    def discard(self, identity: UUID) -> None:
        """An id is free again: its call was refused."""
        self._remembered.pop(identity, None)

    def __contains__(self, identity: UUID) -> bool:
        return identity in self._remembered

    def may_have_forgotten(self, identity: UUID) -> bool:
        """Whether the id may have been taken though it is not remembered."""
        return identity not in self._remembered and milliseconds_of(identity) <= self._forgotten_ms


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
