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
        self.most_of_many = most_of_many
        self.most_of_brief = max(most_of_many, most_of_brief)
        self._shares = asyncio.Semaphore(most_of_many)
        self._more = 0

    def place(self, function: CatalogFunction) -> "_Place":
        """Counts one run of a function while a block lasts.

        Raises:
            ResourceExhausted: there are as many as its limit lets there be.
        """
        return _Place(self, function)

    def many(self) -> "Many":
        """For calls that come many at once."""
        return Many(self)

    def take_more(self) -> bool:
        """Takes one more run of brief ones, beyond the shares; whether there was room for that."""
        if self._more >= self.most_of_brief - self.most_of_many:
            return False
        self._more += 1
        return True

    def give_more_back(self) -> None:
        """Ends such a run."""
        self._more -= 1

    async def take_share(self) -> None:
        """Waits for one of the shares that all runs of many have together."""
        await self._shares.acquire()

    def give_share_back(self) -> None:
        """Gives it to the next."""
        self._shares.release()

    async def room(self, function: CatalogFunction) -> None:
        """Returns once there is room for one more run of a function."""
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
        """For those who count it: a run begins."""
        if self._is_full(function):
            raise _full(function)
        self._runs[function.id] = self._runs.get(function.id, 0) + 1

    def leave(self, identity: UUID) -> None:
        """And ends."""
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


class Many:
    """Calls that come many at once, and share what there is for such. While their runs are brief, more of them go on at the same time."""

    def __init__(self, concurrency: Concurrency) -> None:
        self._concurrency = concurrency
        # How many more of these may go on than have their share, and do.
        self._allowed = self._more = 0

    def turn(self, function: CatalogFunction) -> "_Turn":
        """Counts one run while a block lasts, which begins once there is room for it: for one more of its function first."""
        return _Turn(self, self._concurrency, function)

    async def take(self) -> bool:
        """Waits for a share, or takes one more. Whether it is that."""
        if self._more < self._allowed and self._concurrency.take_more():
            self._more += 1
            return True
        await self._concurrency.take_share()
        return False

    def give_back(self, seconds: float, *, is_more: bool) -> None:
        """A run has ended, which took so long."""
        if is_more:
            self._more -= 1
            self._concurrency.give_more_back()
        else:
            self._concurrency.give_share_back()
        self._allowed = self._allowed + 1 if seconds < _BRIEF_SECONDS else 0


class _Turn:
    """One run of many."""

    __slots__ = ("_began", "_concurrency", "_function", "_is_more", "_many")

    def __init__(self, many: Many, concurrency: Concurrency, function: CatalogFunction) -> None:
        self._many = many
        self._concurrency = concurrency
        self._function = function

    async def __aenter__(self) -> None:
        await self._concurrency.room(self._function)
        self._concurrency.enter(self._function)
        try:
            self._is_more = await self._many.take()
        except BaseException:
            self._concurrency.leave(self._function.id)
            raise
        self._began = time.monotonic()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # One that was refused, or cancelled, was not brief.
        self._many.give_back(time.monotonic() - self._began if kind is None else math.inf, is_more=self._is_more)
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
