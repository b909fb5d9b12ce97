"""Deadlines that are moved on with every request."""

import asyncio
from collections.abc import Callable


class Deadline:
    """A deadline that is mostly moved on before it is missed. A timer of the loop is set when the last has run out, not with every move.

    Args:
        loop: Tells the time.
        missed: Called when it is.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, missed: Callable[[], None]) -> None:
        self._loop = loop
        self._missed = missed
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0

    @property
    def runs(self) -> bool:
        """Whether there is one."""
        return self._due is not None

    def set(self, seconds: float) -> None:
        """So long from now, in place of what it was."""
        self._due = due = self._loop.time() + seconds
        if self._timer is None:
            self._arm(due)
        elif due < self._rings:
            self._timer.cancel()
            self._arm(due)

    def clear(self) -> None:
        """None for now."""
        self._due = None

    def end(self) -> None:
        """None ever again."""
        self._due = None
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        self._rings = at
        self._timer = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._loop.time() < self._due:
            self._arm(self._due)
            return
        self._due = None
        self._missed()
