"""The workers: which has room, who waits, which is started, replaced and let go."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from libs.common import logs
from services.executor.sandbox.child import Child, StartFailed
from services.executor.sandbox.errors import Exhausted
from services.executor.sandbox.native import HeldCode
from services.executor.sandbox.worker_handle import WorkerHandle

# A worker that dies younger than this without having run anything did not really start.
_INFANCY_SECONDS: Final = 2.0
# A call that has run long for so many seconds more may do so for good.
_LASTING_SECONDS: Final = 0.05
_FIRST_BACKOFF_SECONDS: Final = 0.1
_LAST_BACKOFF_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How many workers there are and how many calls wait for one.

    Attributes:
        standing: Workers that are always there.
        most: Workers that there are when calls in others run long.
        places: Calls that a worker has at once: the one it runs, and those it will run next.
        waiting: Calls that may wait.
        spare_seconds: How long a worker above `standing` stays without a call.
    """

    standing: int
    most: int
    places: int
    waiting: int
    spare_seconds: float


@dataclass(frozen=True, slots=True)
class _Waiter:
    """A call that waits for a place; for a worker without other calls, if it must be alone in it. `again` if it has had one."""

    place: asyncio.Future[WorkerHandle]
    alone: bool
    again: bool


class Pool:
    """Workers, and the places in them.

    Args:
        size: How many.
        start: Starts a worker's process.
        prepared: The native code that a new standing worker gets from the start.
    """

    def __init__(self, size: PoolSize, start: Callable[[], Awaitable[Child]], prepared: Callable[[], Iterable[HeldCode]]) -> None:
        self._size = size
        self._start = start
        self._prepared = prepared
        self._workers: list[WorkerHandle] = []
        self._waiters: deque[_Waiter] = deque()
        self._starts: set[asyncio.Task[None]] = set()
        self._buried: set[asyncio.Task[int]] = set()
        self._retirement: asyncio.TimerHandle | None = None
        self._failures = 0
        self._is_open = False

    @property
    def has_room(self) -> bool:
        """Whether a call would get a place without waiting."""
        return not self._waiters and self._best(alone=False) is not None

    async def open(self) -> None:
        """Starts the standing workers.

        Raises:
            StartFailed: One of them did not come up.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(self._size.standing):
                group.create_task(self._add())
        self._is_open = True
        self._start_missing()

    async def close(self) -> None:
        """Kills all workers and waits until they are gone. Whoever waits for a place is cancelled."""
        self._is_open = False
        if self._retirement is not None:
            self._retirement.cancel()
        for waiter in self._waiters:
            waiter.place.cancel()
        for task in self._starts:
            task.cancel()
        await asyncio.gather(*self._starts, return_exceptions=True)
        await asyncio.gather(*(worker.child.close() for worker in self._workers), *self._buried)

    async def take(self) -> WorkerHandle:
        """A worker with a place for a call, which is the call's until it is given back.

        Raises:
            Exhausted: Too many wait.
            StartFailed: There is no worker and none can be started.
        """
        if not self._waiters and (worker := self._best(alone=False)):
            return _place(worker, alone=False)
        if len(self._waiters) >= self._size.waiting:
            raise Exhausted(f"{len(self._waiters)} calls wait for a worker already")
        waiter = _Waiter(asyncio.get_running_loop().create_future(), alone=False, again=False)
        self._waiters.append(waiter)
        return await self._placed(waiter)

    async def take_again(self, *, alone: bool) -> WorkerHandle:
        """The same for a call that has had its turn, and was not run in the worker that it had: before all that have not, however many.

        Args:
            alone: In a worker that has no other call.

        Raises:
            StartFailed: There is no worker and none can be started.
        """
        waiter = _Waiter(asyncio.get_running_loop().create_future(), alone, again=True)
        before = sum(1 for _ in takewhile(lambda other: other.again, self._waiters))
        self._waiters.insert(before, waiter)
        return await self._placed(waiter)

    def give_back(self, worker: WorkerHandle) -> None:
        """Ends a `take`."""
        worker.calls -= 1
        worker.is_alone = False
        if worker.calls == 0:
            worker.idle_since = asyncio.get_running_loop().time()
        if self._waiters:
            self._serve()

    async def load(self, native: HeldCode) -> None:
        """Has the workers load a module; returns when those have that have no call."""
        loads = [(worker.calls, worker.load(native)) for worker in self._workers]
        if awaited := [load for calls, load in loads if load and not calls]:
            await asyncio.wait(awaited)

    def _best(self, *, alone: bool) -> WorkerHandle | None:
        """The worker that has the fewest calls, if there is room in it."""
        best: WorkerHandle | None = None
        most = 1 if alone else self._size.places
        for worker in self._workers:
            if worker.calls < most and worker.is_usable and not worker.is_alone:
                best, most = worker, worker.calls
        return best

    def _serve(self) -> None:
        """Gives places to those who wait, in their order, and sees to it that there are workers for the others."""
        while self._waiters:
            waiter = self._waiters[0]
            if not waiter.place.done():
                worker = self._best(alone=waiter.alone)
                if worker is None:
                    break
                waiter.place.set_result(_place(worker, alone=waiter.alone))
            self._waiters.popleft()
        self._start_missing()

    async def _placed(self, waiter: _Waiter) -> WorkerHandle:
        if not self._is_open:
            self._waiters.remove(waiter)
            raise StartFailed("the sandbox is closed")
        self._serve()
        try:
            return await waiter.place
        except asyncio.CancelledError:
            # It may have been given a place in the same moment.
            if waiter.place.done() and not waiter.place.cancelled() and waiter.place.exception() is None:
                self.give_back(waiter.place.result())
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            raise

    def _stalled(self) -> None:
        self._serve()
        # Most that run long have ended by then, and a start costs more than they do.
        asyncio.get_running_loop().call_later(_LASTING_SECONDS, self._start_missing, self._size.standing)

    def _start_missing(self, swift_wanted: int = 1) -> None:
        """Starts workers: up to the standing number, and others for those in which a call runs long.

        Args:
            swift_wanted: How many in which none does are to be there though nobody waits for them.
        """
        if not self._is_open:
            return
        there = len(self._workers) + len(self._starts)
        swift = there - sum(worker.is_stalled for worker in self._workers)
        wanted = self._size.standing if self._waiters else swift_wanted
        missing = max(self._size.standing - there, min(wanted - swift, self._size.most - there))
        for _ in range(missing):
            task = asyncio.get_running_loop().create_task(self._add_after_backoff())
            self._starts.add(task)
            task.add_done_callback(self._started)

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starts.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._start_failed(error)
        self._start_missing()

    async def _add_after_backoff(self) -> None:
        if self._failures:
            await asyncio.sleep(min(_LAST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2 ** (self._failures - 1)))
        await self._add()

    async def _add(self) -> None:
        worker = WorkerHandle(await self._start())
        born = asyncio.get_running_loop().time()
        worker.child.on_death = lambda: self._died(worker, born)
        worker.on_usable = self._serve
        worker.on_stall = self._stalled
        self._workers.append(worker)
        asyncio.get_running_loop().call_later(_INFANCY_SECONDS, self._grew_up, worker)
        if len(self._workers) <= self._size.standing:
            for native in self._prepared():
                worker.load(native)
        else:
            self._retire_later()
        self._serve()

    def _retire_later(self) -> None:
        if self._retirement is None:
            self._retirement = asyncio.get_running_loop().call_later(self._size.spare_seconds / 2, self._retire)

    def _retire(self) -> None:
        """Lets the workers go that have had nothing to do, as far as they are above the standing number: the newest first."""
        self._retirement = None
        idle_before = asyncio.get_running_loop().time() - self._size.spare_seconds
        for worker in reversed(self._workers.copy()):
            if len(self._workers) > self._size.standing and worker.calls == 0 and worker.idle_since < idle_before and worker.is_usable:
                self._bury(worker)
        if len(self._workers) > self._size.standing:
            self._retire_later()

    def _start_failed(self, error: BaseException) -> None:
        self._failures += 1
        logs.logger().error("worker_start_failed", error=str(error), failures=self._failures)
        if not self._workers and not self._starts:
            # Nobody will ever come for those who wait, as far as one can know; let them be told.
            for waiter in self._waiters:
                if not waiter.place.done():
                    waiter.place.set_exception(StartFailed(str(error)))
            self._waiters.clear()

    def _grew_up(self, worker: WorkerHandle) -> None:
        """Starts work again: the next need not be put off."""
        if worker in self._workers:
            self._failures = 0

    def _died(self, worker: WorkerHandle, born: float) -> None:
        self._workers.remove(worker)
        if not self._is_open:
            return
        was_infant = not worker.has_served and asyncio.get_running_loop().time() - born < _INFANCY_SECONDS
        self._failures = self._failures + 1 if was_infant else 0
        logs.logger().warning("worker_died", pid=worker.child.pid, last_words=worker.child.last_words)
        self._close(worker)
        self._start_missing()

    def _bury(self, worker: WorkerHandle) -> None:
        self._workers.remove(worker)
        worker.child.on_death = lambda: None
        self._close(worker)

    def _close(self, worker: WorkerHandle) -> None:
        task = asyncio.get_running_loop().create_task(worker.child.close())
        self._buried.add(task)
        task.add_done_callback(self._buried.discard)


def _place(worker: WorkerHandle, *, alone: bool) -> WorkerHandle:
    worker.calls += 1
    worker.is_alone = alone
    return worker
