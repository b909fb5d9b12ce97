"""The ids of calls that were taken, so that none is taken twice."""

import time
from collections import deque
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
        # By number, since an id's own hash is computed in Python.
        self._remembered: set[int] = set()
        self._in_order: deque[UUID] = deque()
        self._forgotten_ms = _now_ms()

    def add(self, identity: UUID) -> None:
        """An id was taken."""
        self._remembered.add(identity.int)
        self._in_order.append(identity)
        if len(self._in_order) > self._most:
            self._forget(self._in_order.popleft())

    def discard(self, identity: UUID) -> None:
        """An id is free again: its call was refused."""
        self._remembered.discard(identity.int)

    def __contains__(self, identity: UUID) -> bool:
        return identity.int in self._remembered

    def may_have_forgotten(self, identity: UUID) -> bool:
        """Whether the id may have been taken though it is not remembered."""
        return milliseconds_of(identity) <= self._forgotten_ms and identity.int not in self._remembered

    def _forget(self, identity: UUID) -> None:
        # One that was free again in between, and was taken once more, is forgotten early: the history can tell of it, too.
        self._remembered.discard(identity.int)
        milliseconds = milliseconds_of(identity)
        if milliseconds > self._forgotten_ms:
            # One that claims to be of the future must not make all others seem old.
            self._forgotten_ms = min(milliseconds, _now_ms())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
