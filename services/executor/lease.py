"""Says that this executor lives, and ends what the silent ones left."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from libs.common.errors import Unavailable
from services.executor.repository import ExecutionRepository

# So many heartbeats are in a lease.
HEARTBEATS = 5


class Lease:
    """One executor's heartbeat, and its right to judge others by theirs.

    Args:
        history: Where the heartbeats are.
        seconds: How long an executor may be silent.
        clock: Monotonic seconds.
    """

    def __init__(self, history: ExecutionRepository, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._history = history
        self._seconds = seconds
        self._clock = clock
        self._last: float | None = None
        self._unbroken_since = 0.0

    async def heartbeat(self) -> None:
        """Says that this executor lives; a failure is left to the next time."""
        # The driver has told why, and the pace must stay: others judge by it.
        with suppress(Unavailable):
            await self._history.heartbeat()
            now = self._clock()
            if self._last is None or now - self._last > self._seconds / 2:
                self._unbroken_since = now
            self._last = now

    async def sweep(self) -> int:
        """Ends the runs of silent executors; returns how many.

        Only one who has reached the database for a whole lease without a gap may do so: when it was away, all executors seem silent.
        """
        if self._last is None or self._last - self._unbroken_since < self._seconds:
            return 0
        return await self._history.sweep(self._seconds)


@asynccontextmanager
async def open_lease(history: ExecutionRepository, seconds: float) -> AsyncIterator[Lease]:
    """A lease while the block runs; given up at its end, or where the database is away, at its own."""
    lease = Lease(history, seconds)
    await lease.heartbeat()
    yield lease
    with suppress(Unavailable):
        await history.retire()
