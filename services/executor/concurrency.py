"""How many runs there are: of each function, so that none takes what belongs to all, and of those that come many at once, for the same."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from libs.common.errors import ResourceExhausted
from services.executor.catalog import CatalogFunction


class Concurrency:
    """The runs that go on in one executor.

    Args:
        most_of_many: Runs that come many at once (batches, streams) and go on at the same time, all together.
    """

    def __init__(self, most_of_many: int) -> None:
        self._runs: dict[UUID, int] = {}
        self._waiting: dict[UUID, deque[asyncio.Future[None]]] = {}
        self._share = asyncio.Semaphore(most_of_many)
        self.most_of_many = most_of_many

    def place(self, function: CatalogFunction) -> "_Place":
        """Counts one run of a function while a block lasts.

        Raises:
            ResourceExhausted: there are as many as its limit lets there be.
        """
        return _Place(self, function)

    @asynccontextmanager
    async def turn(self, function: CatalogFunction) -> AsyncIterator[None]:
        """Counts one run of many while the block lasts, which begins once there is room for it: for one more of its function first."""
        while self._is_full(function):
            await self._one_leaves(function.id)
        with self.place(function):
            async with self._share:
                yield

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


def _full(function: CatalogFunction) -> ResourceExhausted:
    limit = function.max_concurrency
    return ResourceExhausted(
        f"{function.name} has {limit} run{'s' if limit > 1 else ''} at once already, and its limits.maxConcurrency lets it have no more: "
        "try again soon, or raise that limit with UpdateFunction (PUT /functions/{id})",
        reason="TOO_MANY_CONCURRENT_CALLS",
        metadata={"limit": "maxConcurrency", "value": str(limit)},
        retry_after=1,
    )
