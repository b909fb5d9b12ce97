"""The workers: who is free, who waits, who is started, replaced and let go."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from libs.common import logs
from services.executor.sandbox.child import Child, StartFailed
from services.executor.sandbox.errors import Exhausted
from services.executor.sandbox.worker_handle import NativeCode, WorkerHandle

# A worker that dies younger than this without having run anything did not really start.
_INFANCY_SECONDS: Final = 2.0
_FIRST_BACKOFF_SECONDS: Final = 0.1
_LAST_BACKOFF_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How many workers there are and how many calls wait for one.

    Attributes:
        standing: Workers that are always there.
        most: Workers that there are when all are busy.
        waiting: Calls that may wait.
        spare_seconds: How long a worker above `standing` stays without a call.
    """

    standing: int
    most: int
    waiting: int
    spare_seconds: float


class Pool:
    """Hands out workers, first come, first served.

    Args:
        size: How many.
        start: Starts a worker's process.
        prepared: The native code that a new standing worker gets from the start.
    """

    def __init__(self, size: PoolSize, start: Callable[[], Awaitable[Child]], prepared: Callable[[], Iterable[NativeCode]]) -> None:
        self._size = size
        self._start = start
        self._prepared = prepared
        # The one used last is used next: its caches are warm, and those behind it grow old and can go.
        self._idle: list[WorkerHandle] = []
        self._all: set[WorkerHandle] = set()
        self._waiters: deque[asyncio.Future[WorkerHandle]] = deque()
        self._starts: set[asyncio.Task[None]] = set()
        self._buried: set[asyncio.Task[int]] = set()
        self._failures = 0
        self._closing = False

    @property
    def has_idle(self) -> bool:
        """Whether a call would get a worker without waiting."""
        return bool(self._idle)

    async def open(self) -> None:
        """Starts the standing workers.

        Raises:
            StartFailed: One of them did not come up.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(self._size.standing):
                group.create_task(self._add())

    async def close(self) -> None:
        """Kills all workers and waits until they are gone. Whoever waits for one is cancelled."""
        self._closing = True
        for waiter in self._waiters:
            waiter.cancel()
        for task in self._starts:
            task.cancel()
        await asyncio.gather(*self._starts, return_exceptions=True)
        await asyncio.gather(*(worker.child.close() for worker in self._all), *self._buried)

    async def take(self) -> WorkerHandle:
        """A worker that nobody else has, until it is given back.

        Raises:
            Exhausted: Too many wait.
            StartFailed: There is no worker and none can be started.
        """
        if self._idle:
            return self._unretired(self._idle.pop())
        if len(self._waiters) >= self._size.waiting:
            raise Exhausted(f"{len(self._waiters)} calls wait for a worker already")
        waiter: asyncio.Future[WorkerHandle] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._start_missing()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._forget(waiter)
            raise

    def give_back(self, worker: WorkerHandle) -> None:
        """Ends a `take`. A worker that still has to stop its guest is handed on once it has."""
        if worker.child.alive:
            worker.when_free(lambda: self._offer(worker))

    async def load(self, native: NativeCode) -> None:
        """Has the idle workers load a module and returns when they have; the busy ones will, before they are idle."""
        loads = [worker.load(native) for worker in self._idle]
        for worker in self._all.difference(self._idle):
            worker.owed.append(native)
        if loads:
            await asyncio.wait(loads)

    def _offer(self, worker: WorkerHandle) -> None:
        for native in worker.owed:
            worker.load(native)
        worker.owed.clear()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(worker)
                return
        self._idle.append(worker)
        if len(self._all) > self._size.standing:
            loop = asyncio.get_running_loop()
            worker.retirement = loop.call_later(self._size.spare_seconds, self._retire, worker)

    def _unretired(self, worker: WorkerHandle) -> WorkerHandle:
        if worker.retirement is not None:
            worker.retirement.cancel()
            worker.retirement = None
        return worker

    def _retire(self, worker: WorkerHandle) -> None:
        worker.retirement = None
        if len(self._all) > self._size.standing:
            self._idle.remove(worker)
            self._bury(worker)

    def _forget(self, waiter: asyncio.Future[WorkerHandle]) -> None:
        """A waiter was cancelled; it may have been given a worker in the same moment."""
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self.give_back(waiter.result())
        elif waiter in self._waiters:
            self._waiters.remove(waiter)

    def _start_missing(self) -> None:
        """Starts as many workers as are missing: up to the standing number, and one for each call that waits."""
        wanted = max(self._size.standing, len(self._all) - len(self._idle) + len(self._waiters))
        while not self._closing and len(self._all) + len(self._starts) < min(wanted, self._size.most):
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
        self._all.add(worker)
        if len(self._all) <= self._size.standing:
            for native in self._prepared():
                worker.load(native)
        self._offer(worker)

    def _start_failed(self, error: BaseException) -> None:
        self._failures += 1
        logs.logger().error("worker_start_failed", error=str(error), failures=self._failures)
        if not self._all:
            # Nobody will ever come for those who wait, as far as one can know; let them be told.
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_exception(StartFailed(str(error)))
            self._waiters.clear()

    def _died(self, worker: WorkerHandle, born: float) -> None:
        self._all.discard(worker)
        self._unretired(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if self._closing:
            return
        was_infant = not worker.has_served and asyncio.get_running_loop().time() - born < _INFANCY_SECONDS
        self._failures = self._failures + 1 if was_infant else 0
        logs.logger().warning("worker_died", pid=worker.child.pid, last_words=worker.child.last_words)
        self._bury(worker)
        self._start_missing()

    def _bury(self, worker: WorkerHandle) -> None:
        self._all.discard(worker)
        worker.child.on_death = lambda: None
        task = asyncio.get_running_loop().create_task(worker.child.close())
        self._buried.add(task)
        task.add_done_callback(self._buried.discard)
