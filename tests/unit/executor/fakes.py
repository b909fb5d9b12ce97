"""What the executor's domain stands on, in memory, failing when a test says so."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID

import asyncpg
from msgspec import structs

from libs.common.access.functions import can_access_function
from libs.common.access.principal import Principal
from libs.common.errors import NotFound, Unavailable
from libs.common.times import now_micros
from services.executor.catalog import CatalogFunction, Runnable
from services.executor.execution import Execution, Status
from services.executor.repository import SWEPT, Filter
from services.executor.sandbox import Call, Limits, NotPrepared, Outcome

ECHO = UUID(int=1)
AWAY = Unavailable("the database cannot be reached", reason="DATABASE_AWAY")


def function(name: str = "echo", identity: UUID = ECHO, version: int = 1, max_concurrency: int = 100) -> CatalogFunction:
    """A function that serves."""
    return CatalogFunction(identity, name, 1, Runnable(version, f"sha256:{version}", "assemblyscript"), Limits(), max_concurrency)


class FakeHistory:
    """The history, by the rules of its queries.

    Attributes:
        rows: What is in it.
        executors: Whose those are.
        swept: Which of them have an end that is only concluded.
        batches: How many runs were written at once, in order.
        deleted: Functions that are remembered as deleted.
        refused: Runs that it never takes.
        away: Methods by name that raise `Unavailable`: how often they still do.
        writes_although_away: Whether such a write is done all the same, as when only its answer is lost.
        missed: Set when a method met a database that is away.
    """

    def __init__(self) -> None:
        self.rows: dict[UUID, Execution] = {}
        self.executors: dict[UUID, UUID] = {}
        self.swept: set[UUID] = set()
        self.batches: list[int] = []
        self.deleted: set[UUID] = set()
        self.refused: set[UUID] = set()
        self.away: dict[str, int] = {}
        self.writes_although_away = False
        self.missed = asyncio.Event()
        self._changed = asyncio.Condition()

    async def write(self, runs: Sequence[tuple[UUID, Execution]]) -> set[UUID]:
        missing = self.away.get("write", 0) > 0
        if any(run.id in self.refused for _, run in runs):
            raise asyncpg.DataError("value out of range")
        known: set[UUID] = set()
        if not missing or self.writes_although_away:
            self.batches.append(len(runs))
            known = {run.id for executor_id, run in runs if not self._take(executor_id, run)}
            await self._tell()
        self._meet("write")
        return known

    async def withdraw(self, calls: Sequence[tuple[UUID, UUID]]) -> None:
        self._meet("withdraw")
        for executor_id, identity in calls:
            if self.executors.get(identity) == executor_id and not self._ended(identity):
                del self.rows[identity], self.executors[identity]
        await self._tell()

    async def find(self, identity: UUID) -> Execution | None:
        self._meet("find")
        return self.rows.get(identity)

    async def list(self, function_id: UUID, before: UUID | None, most: int, bytes_: int, wanted: Filter) -> Sequence[Execution]:
        self._meet("list")
        newest = sorted(self.rows.values(), key=lambda run: run.id, reverse=True)
        return [run for run in newest if run.function_id == function_id and (before is None or run.id < before)][:most]

    async def remember_deletion(self, function_id: UUID) -> None:
        self._meet("remember_deletion")
        self.deleted.add(function_id)
        await self._tell()

    def sweep(self) -> None:
        """Ends what has not ended, as another executor does when this one seems dead."""
        for identity, row in self.rows.items():
            if row.completed_at is None:
                self.rows[identity] = structs.replace(row, status=Status.FAILED, error=SWEPT, completed_at=now_micros())
                self.swept.add(identity)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns once something that is written makes a condition true."""
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(condition)

    def _take(self, executor_id: UUID, run: Execution) -> bool:
        if run.function_id in self.deleted:
            return False
        known = self.rows.get(run.id)
        own = self.executors.setdefault(run.id, executor_id) == executor_id
        begins = known is not None and own and (known.status, run.status) == (Status.PENDING, Status.RUNNING)
        if known is None or begins or (run.completed_at is not None and not self._ended(run.id)):
            self.rows[run.id] = run
            self.swept.discard(run.id)
            return True
        return False

    def _ended(self, identity: UUID) -> bool:
        """Whether a run has an end that stays."""
        return self.rows[identity].completed_at is not None and identity not in self.swept

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
        kept_out: Digests in quarantine, and for how many seconds.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.work: Callable[[Call], Awaitable[Outcome]] = self._echo
        self.refusal: Exception | None = None
        self.kept_out: dict[str, float] = {}
        self._worker = asyncio.Lock()

    @property
    def has_room(self) -> bool:
        return not self._worker.locked() and self.refusal is None

    def quarantined_seconds(self, digest: str) -> float:
        return self.kept_out.get(digest, 0.0)

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
        room: How many are ensured before it is full.
    """

    def __init__(self) -> None:
        self.room = 1000
        self.ensured: list[Runnable] = []
        self.failure: Exception | None = None
        self.waits = False
        self.asked = asyncio.Event()
        self.may_prepare = asyncio.Event()
        self.may_prepare.set()
        self.preparing = 0
        self.most_at_once = 0

    @property
    def is_full(self) -> bool:
        return len(self.ensured) >= self.room

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

    async def resolve(self, reference: str, version: int | None, viewer: Principal) -> tuple[CatalogFunction, Runnable]:
        self.asked.append((reference, version))
        for one in self.functions:
            if one.live and reference in (one.name, str(one.id)) and can_access_function(viewer, str(one.id), one):
                return one, replace(one.live, version=version or one.live.version)
        raise NotFound(f"there is no function {reference!r}", reason="FUNCTION_NOT_FOUND")

    async def find_id(self, reference: str, viewer: Principal) -> UUID:
        return (await self.resolve(reference, None, viewer))[0].id


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
