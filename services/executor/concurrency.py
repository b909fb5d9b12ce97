"""How many runs there are: of each function, so that none takes what belongs to all, and of those that come many at once, for the same."""

import asyncio
import math
import time
from collections import deque
from typing import Final
from uuid import UUID

from libs.common.errors import ResourceExhausted
from services.executor.catalog import CatalogFunction

# What many may keep a single call waiting that comes behind them in a worker: half of what it takes until a guest there is one that lasts.
_BRIEF_SECONDS: Final = 0.004


class Concurrency:
    """The runs that go on in one executor.

    Args:
        most_of_many: Runs that come many at once (batches, streams) and go on at the same time, all together.
        most_of_brief: The same while they are brief; as many by default.
    """

    def __init__(self, most_of_many: int, most_of_brief: int = 0) -> None:
        self._runs: dict[UUID, int] = {}
        self._waiting: dict[UUID, deque[asyncio.Future[None]]] = {}
        self._share = _Share(most_of_many, most_of_brief)
        self.most_of_many = most_of_many
        self.most_of_brief = max(most_of_many, most_of_brief)

    def place(self, function: CatalogFunction) -> "_Place":
        """Counts one run of a function while a block lasts.

        Raises:
            ResourceExhausted: there are as many as its limit lets there be.
        """
        return _Place(self, function)

    def turn(self, function: CatalogFunction) -> "_Turn":
        """Counts one run of many while a block lasts, which begins once there is room for it: for one more of its function first."""
        return _Turn(self, function, self._share)

    async def room(self, function: CatalogFunction) -> None:
        """For `_Turn`: returns once there is room for one more of a function."""
        while self._is_full(function):
            await self._one_leaves(function.id)

    def _is_full(self, function: CatalogFunction) -> bool:
        return self._runs.get(function.id, 0) >= function.max_concurrency

    async def _one_leaves(self, identity: UUID) -> None:
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(identity, deque())
        waiting.append(told)
        try:
            await told
        except asyncio.CancelledError:
            if not told.cancelled():
                # It was its turn: the next one's, then.
                self._tell(identity)
            elif told in waiting:
                waiting.remove(told)
            raise
        finally:
            if not waiting and self._waiting.get(identity) is waiting:
                del self._waiting[identity]

    def enter(self, function: CatalogFunction) -> None:
        """For `_Place`."""
        if self._is_full(function):
            raise _full(function)
        self._runs[function.id] = self._runs.get(function.id, 0) + 1

    def leave(self, identity: UUID) -> None:
        """For `_Place`."""
        self._runs[identity] -= 1
        if not self._runs[identity]:
            del self._runs[identity]
        if self._waiting:
            self._tell(identity)

    def _tell(self, identity: UUID) -> None:
        """Tells whoever waits longest that there is room."""
        waiting = self._waiting.get(identity)
        while waiting:
            told = waiting.popleft()
            if not told.done():
                told.set_result(None)
                return


class _Place:
    """One run that counts. A class, since a generator would cost every call a microsecond more."""

    __slots__ = ("_concurrency", "_function")

    def __init__(self, concurrency: Concurrency, function: CatalogFunction) -> None:
        self._concurrency = concurrency
        self._function = function

    def __enter__(self) -> None:
        self._concurrency.enter(self._function)

    def __exit__(self, *_: object) -> None:
        self._concurrency.leave(self._function.id)


class _Share:
    """How many runs of many go on at once: few where they last, and one more for each that was brief, its wait in a worker included.

    Args:
        least: So many in any case.
        most: No more than these.
    """

    def __init__(self, least: int, most: int) -> None:
        self._free = asyncio.Semaphore(least)
        self._more = 0
        self._most_more = max(0, most - least)

    async def take(self) -> None:
        """Waits for one."""
        await self._free.acquire()

    def give_back(self, seconds: float) -> None:
        """A run has ended, which took so long."""
        is_brief = seconds < _BRIEF_SECONDS
        if self._more and not is_brief:
            self._more -= 1
            return
        self._free.release()
        if is_brief and self._more < self._most_more:
            self._more += 1
            self._free.release()


class _Turn:
    """One run of many."""

    __slots__ = ("_began", "_concurrency", "_function", "_share")

    def __init__(self, concurrency: Concurrency, function: CatalogFunction, share: _Share) -> None:
        self._concurrency = concurrency
        self._function = function
        self._share = share

    async def __aenter__(self) -> None:
        await self._concurrency.room(self._function)
        self._concurrency.enter(self._function)
        try:
            await self._share.take()
        except BaseException:
            self._concurrency.leave(self._function.id)
            raise
        self._began = time.monotonic()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # One that was refused, or cancelled, says nothing of those that run.
        self._share.give_back(time.monotonic() - self._began if kind is None else math.inf)
        self._concurrency.leave(self._function.id)


def _full(function: CatalogFunction) -> ResourceExhausted:
    limit = function.max_concurrency
    return ResourceExhausted(
        f"{function.name} has {limit} run{'s' if limit > 1 else ''} at once already, and its limits.maxConcurrency lets it have no more: "
        "try again soon, or raise that limit with UpdateFunction (PUT /functions/{id})",
        reason="TOO_MANY_CONCURRENT_CALLS",
        metadata={"limit": "maxConcurrency", "value": str(limit)},
        retry_after=1,
    )
