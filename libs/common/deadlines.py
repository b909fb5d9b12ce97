"""Many deadlines on one timer: a timer for each call would cost more than much of what the call does, and hardly any call needs its own."""

import asyncio
import math
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """Things that must end in time, each under a key of its own. What ends before is taken out.

    Args:
        expire: Called with the key of each that has not ended in time, which is out then.
    """

    def __init__(self, expire: Callable[[K], None]) -> None:
        self._expire = expire
        self._due: dict[K, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        # When the timer goes off: at the first deadline, or before where what had that one has ended.
        self._at = math.inf

    def add(self, key: K, seconds: float) -> None:
        """Gives something so many seconds from now."""
        loop = asyncio.get_running_loop()
        due = self._due[key] = loop.time() + seconds
        if due < self._at:
            self._set(loop, due)

    def discard(self, key: K) -> None:
        """It has ended. Harmless where it is not there."""
        self._due.pop(key, None)

    def _set(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer, self._at = loop.call_at(at, self._look, loop), at

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._at = None, math.inf
        now = loop.time()
        late = [key for key, due in self._due.items() if due <= now]
        for key in late:
            if self._due.pop(key, None) is not None:
                self._expire(key)
        if self._due and self._timer is None:
            self._set(loop, min(self._due.values()))
