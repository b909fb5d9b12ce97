"""The registry's domain over either storage, with the compiler played by the test."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol
from uuid import UUID

import asyncpg

from libs.common.postgres import open_database
from libs.common.queue import COMPILATION_JOBS, Queue
from services.registry.access import AccessPatch
from services.registry.code import CodePatch, CodePolicy
from services.registry.functions import Function, FunctionPatch, Functions, NewFunction
from services.registry.limits import Limits, LimitsPatch, LimitsPolicy
from services.registry.repository import CHANGES_CHANNEL, FunctionRepository
from services.registry.results import apply
from tests.support.callers import ADMIN
from tests.support.memory import MemoryRepository

POLICY: Final = LimitsPolicy(
    defaults=Limits(timeout_ms=5_000, memory_mb=64, max_output_bytes=1 << 20, max_log_bytes=64 << 10, max_concurrency=256),
    ceilings=Limits(timeout_ms=60_000, memory_mb=512, max_output_bytes=4 << 20, max_log_bytes=1 << 20, max_concurrency=1000),
)
MAX_SOURCE_BYTES: Final = 1000
MAX_WASM_BYTES: Final = 2000
DIAGNOSTIC: Final = {
    "severity": "ERROR",
    "line": 1,
    "column": 2,
    "end_line": None,
    "end_column": None,
    "code": "TS2322",
    "message": "no",
    "excerpt": "x",
}

Body = Mapping[str, Any]


class Broker(Protocol):
    """The queue of jobs and the announcements to watchers, as a test looks at them."""

    async def take_job(self) -> Body | None:
        """Reads the oldest job that waits, as a compiler does."""

    async def jobs(self) -> Sequence[Body]:
        """Every job that is not finished, oldest first."""

    def announced(self) -> Sequence[UUID]:
        """The functions that watchers were told of so far."""


class MemoryBroker:
    """The twin's."""

    def __init__(self, repository: MemoryRepository) -> None:
        self._repository = repository

    async def take_job(self) -> Body | None:
        """Reads the oldest job that waits."""
        return self._repository.take_job()

    async def jobs(self) -> Sequence[Body]:
        """Every job."""
        return [job.body for job in self._repository.jobs()]

    def announced(self) -> Sequence[UUID]:
        """So far."""
        return self._repository.announced()


class PostgresBroker:
    """PGMQ's."""

    def __init__(self, repository: FunctionRepository, heard: Sequence[UUID]) -> None:
        self._database = repository.database
        self._heard = heard

    async def take_job(self) -> Body | None:
        """Reads the oldest job that waits."""
        messages = await Queue(COMPILATION_JOBS).read(self._database, visibility_seconds=600, most=1)
        return messages[0].body if messages else None

    async def jobs(self) -> Sequence[Body]:
        """Every job."""
        return [row["message"] for row in await self._database.fetch("SELECT message FROM pgmq.q_compilation_jobs ORDER BY msg_id")]

    def announced(self) -> Sequence[UUID]:
        """So far as their notifications have arrived."""
        return self._heard


class World:
    """The domain, its storage, and the words of the compiler. What is done is done by `caller`."""

    def __init__(self, repository: MemoryRepository | FunctionRepository, broker: Broker) -> None:
        self.caller = ADMIN
        self.repository = repository
        self.broker = broker
        self.functions = Functions(repository, POLICY, CodePolicy(MAX_SOURCE_BYTES, MAX_WASM_BYTES), lambda: self.caller)

    async def create(self, name: str = "greet", source: str | None = "one", **more: Any) -> Function:
        """A new function."""
        return await self.functions.create(new_function(name, source, **more))

    async def update(self, function: Function, **fields: Any) -> Function:
        """A changed function."""
        return await self.functions.update(str(function.id), patch(**fields))

    async def created_ready(self, name: str = "greet", source: str = "one") -> Function:
        """A new function whose version 1 serves."""
        function = await self.create(name, source)
        assert await self.ready(function, 1)
        return await self.functions.get(name)

    async def updated_ready(self, function: Function, source: str) -> Function:
        """A function with one version more, that is READY."""
        changed = await self.update(function, source=source)
        assert await self.ready(changed, changed.latest_version)
        return await self.functions.get(str(function.id))

    async def deliver(self, result: Body, message_id: int = 1) -> bool:
        """Applies a message as the registry does that has read it."""
        async with self.repository.transaction() as store:
            return await apply(store, result, message_id)

    async def started(self, function: Function, version: int, build: int = 1) -> bool:
        """The compiler has begun."""
        return await self.deliver(started(function.id, version, build))

    async def ready(self, function: Function, version: int, build: int = 1) -> bool:
        """The compiler has built."""
        return await self.deliver(ready(function.id, version, build))

    async def failed(self, function: Function, version: int, build: int = 1) -> bool:
        """The compiler has refused."""
        return await self.deliver(failed(function.id, version, build))


def new_function(
    name: str = "greet", source: str | None = "one", *, language: str = "assemblyscript", wasm: bytes | None = None, **more: Any
) -> NewFunction:
    """What a caller wants to create."""
    fields: dict[str, Any] = {"description": "", "limits": LimitsPatch(), "access": AccessPatch(), **more}
    return NewFunction(name=name, code=CodePatch(language, source, wasm), **fields)


def patch(*, language: str | None = None, source: str | None = None, wasm: bytes | None = None, **fields: Any) -> FunctionPatch:
    """What a caller wants to change."""
    code = CodePatch(language, source, wasm)
    return FunctionPatch(**{"description": None, "code": code, "limits": LimitsPatch(), "access": AccessPatch(), "etag": "", **fields})


def started(identity: UUID, version: int, build: int = 1) -> dict[str, Any]:
    """The result that tells of a build's beginning."""
    return {"type": "STARTED", "function_id": str(identity), "version": version, "build": build, "queue_ms": 3}


def ready(identity: UUID, version: int, build: int = 1) -> dict[str, Any]:
    """The result of a build that worked."""
    return {
        **started(identity, version, build),
        "type": "FINISHED",
        "status": "READY",
        "artifact_digest": digest(version),
        "artifact_bytes": 8,
        "abi": "assemblyscript",
        "diagnostics": [],
        "build_ms": 5,
    }


def failed(identity: UUID, version: int, build: int = 1) -> dict[str, Any]:
    """The result of a build that did not."""
    return {
        **started(identity, version, build),
        "type": "FINISHED",
        "status": "FAILED",
        "failure_reason": "COMPILE_ERROR",
        "compile_error": "1:2: error TS2322: no",
        "diagnostics": [DIAGNOSTIC],
        "build_ms": 5,
    }


def languages(**available: bool) -> dict[str, Any]:
    """The announcement of languages that are installed or not."""
    hints = {True: "", False: "run `make toolchains`"}
    found = [{"id": one, "name": one.title(), "available": there, "install_hint": hints[there]} for one, there in available.items()]
    return {"type": "LANGUAGES", "languages": found}


def digest(version: int) -> str:
    """The digest of a version's artifact."""
    return f"sha256:{version:064x}"


def memory_world() -> World:
    """The domain over the twin."""
    repository = MemoryRepository()
    return World(repository, MemoryBroker(repository))


@asynccontextmanager
async def postgres_world(url: str) -> AsyncIterator[World]:
    """The domain over PostgreSQL."""
    heard: list[UUID] = []
    async with open_database(url, name="test") as database:
        listening = await asyncpg.connect(url)
        try:
            await listening.add_listener(CHANGES_CHANNEL, lambda *event: heard.append(UUID(str(event[3]))))
            repository = FunctionRepository(database)
            yield World(repository, PostgresBroker(repository, heard))
        finally:
            await listening.close()
