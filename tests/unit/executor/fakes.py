"""What the executor's domain stands on, in memory, failing when a test says so."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from libs.common.errors import NotFound, Unavailable
from services.executor.catalog import CatalogFunction, Runnable
from services.executor.execution import Execution, Status
from services.executor.repository import SWEPT
from services.executor.sandbox import Call, Limits, NotPrepared, Outcome

ECHO = UUID(int=1)
ENDED = (Status.COMPLETED, Status.FAILED)
AWAY = Unavailable("the database cannot be reached", reason="DATABASE_AWAY")


def function(name: str = "echo", identity: UUID = ECHO, version: int = 1, max_concurrency: int = 100) -> CatalogFunction:
    """A function that serves."""
    return CatalogFunction(identity, name, 1, Runnable(version, f"sha256:{version}", "assemblyscript"), Limits(), max_concurrency)


class FakeHistory:
    """The history, by the rules of its queries.

    Attributes:
        rows: What is in it.
        written: Every state that was written, in order, and of which run.
        deleted: Functions that are remembered as deleted.
        away: Writes by name of the method that raise `Unavailable`: how often they still do.
        writes_although_away: Whether such a write is done all the same, as when only its answer is lost.
        missed: Set when a method met a database that is away.
    """

    def __init__(self) -> None:
        self.rows: dict[UUID, Execution] = {}
        self.written: list[tuple[UUID, Status]] = []
        self.deleted: set[UUID] = set()
        self.away: dict[str, int] = {}
        self.writes_although_away = False
        self.missed = asyncio.Event()
        self._changed = asyncio.Condition()

    async def accept(self, execution: Execution) -> bool:
        return await self._write("accept", execution, lambda known: known is None)

    async def start(self, execution: Execution) -> bool:
        return await self._write("start", execution, lambda known: known is None or known.status is Status.PENDING)

    async def finish(self, execution: Execution) -> bool:
        return await self._write("finish", execution, lambda known: known is None or known.status not in ENDED)

    async def withdraw(self, identity: UUID) -> None:
        self._meet("withdraw")
        if identity in self.rows and self.rows[identity].status not in ENDED:
            del self.rows[identity]
        await self._tell()

    async def find(self, identity: UUID) -> Execution | None:
        self._meet("find")
        return self.rows.get(identity)

    async def remember_deletion(self, function_id: UUID) -> None:
        self._meet("remember_deletion")
        self.deleted.add(function_id)
        await self._tell()

    @property
    def states(self) -> list[Status]:
        """Every state that was written, in order."""
        return [status for _, status in self.written]

    def states_of(self, identity: UUID) -> list[Status]:
        """Those of one run."""
        return [status for one, status in self.written if one == identity]

    def sweep(self) -> None:
        """Ends what has not ended, as another executor does when this one seems dead."""
        for identity, row in self.rows.items():
            if row.status not in ENDED:
                self.rows[identity] = replace(row, status=Status.FAILED, error=SWEPT, completed_at=datetime.now(UTC))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns once something that is written makes a condition true."""
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(condition)

    async def _write(self, name: str, execution: Execution, may: Callable[[Execution | None], bool]) -> bool:
        missing = self.away.get(name, 0) > 0
        written = execution.function_id not in self.deleted and may(self.rows.get(execution.id))
        if written and (not missing or self.writes_although_away):
            self.rows[execution.id] = execution
            self.written.append((execution.id, execution.status))
            await self._tell()
        self._meet(name)
        return written

    def _meet(self, name: str) -> None:
        if self.away.get(name, 0) > 0:
            self.away[name] -= 1
            self.missed.set()
            raise AWAY

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class FakeSlot:
    """A worker that does what its sandbox says."""

    def __init__(self, sandbox: "FakeSandbox") -> None:
        self._sandbox = sandbox

    async def run(self, call: Call) -> Outcome:
        self._sandbox.calls.append(call)
        return await self._sandbox.work(call)


class FakeSandbox:
    """A sandbox of one worker, which answers with its input unless a test says otherwise.

    Attributes:
        calls: What was run.
        work: What running does.
        refusal: Raised by `reserve`.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.work: Callable[[Call], Awaitable[Outcome]] = self._echo
        self.refusal: Exception | None = None
        self._worker = asyncio.Lock()

    @property
    def has_idle_worker(self) -> bool:
        return not self._worker.locked() and self.refusal is None

    @asynccontextmanager
    async def reserve(self) -> AsyncIterator[FakeSlot]:
        if self.refusal:
            raise self.refusal
        async with self._worker:
            yield FakeSlot(self)

    async def _echo(self, call: Call) -> Outcome:
        return Outcome(call.input, None, duration_us=7)


class FakeModules:
    """Has every module ready at once.

    Attributes:
        ensured: What was asked for.
        failure: Raised.
        waits: Whether callers had to wait.
        asked: Set at the first call.
        may_prepare: Until it is set, callers wait.
    """

    def __init__(self) -> None:
        self.ensured: list[Runnable] = []
        self.failure: Exception | None = None
        self.waits = False
        self.asked = asyncio.Event()
        self.may_prepare = asyncio.Event()
        self.may_prepare.set()
        self.preparing = 0
        self.most_at_once = 0

    async def ensure(self, runnable: Runnable) -> bool:
        self.ensured.append(runnable)
        self.asked.set()
        self.preparing += 1
        self.most_at_once = max(self.most_at_once, self.preparing)
        try:
            await self.may_prepare.wait()
        finally:
            self.preparing -= 1
        if self.failure:
            raise self.failure
        return self.waits


class FakeRegistry:
    """Knows the versions of the functions that it was given.

    Attributes:
        asked: References and versions that it was asked for.
    """

    def __init__(self, *functions: CatalogFunction) -> None:
        self.functions = list(functions)
        self.asked: list[tuple[str, int | None]] = []

    async def resolve(self, reference: str, version: int | None) -> tuple[CatalogFunction, Runnable]:
        self.asked.append((reference, version))
        for one in self.functions:
            if one.live and reference in (one.name, str(one.id)):
                return one, replace(one.live, version=version or one.live.version)
        raise NotFound(f"there is no function {reference!r}", reason="FUNCTION_NOT_FOUND")

    async def find_id(self, reference: str) -> UUID:
        return (await self.resolve(reference, None))[0].id


def not_prepared(times: int) -> Callable[[Call], Awaitable[Outcome]]:
    """Work that needs its module again so often before it is done."""
    left = times

    async def work(call: Call) -> Outcome:
        nonlocal left
        left -= 1
        if left >= 0:
            raise NotPrepared(call.digest)
        return Outcome(call.input, None)

    return work
