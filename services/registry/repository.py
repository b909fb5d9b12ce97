"""Functions and versions in PostgreSQL: one method a named query."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from libs.common.access.principal import Principal, Role
from libs.common.postgres import Database, Row, Transaction
from libs.common.queries import Queries
from libs.common.queue import COMPILATION_JOBS, Queue
from services.registry.access import Access
from services.registry.code import Code
from services.registry.function_environments import NamedEnvironment
from services.registry.functions import Function, NewFunction, Version
from services.registry.languages import Language
from services.registry.limits import Limits
from services.registry.names import Reference

QUERIES: Final = Queries(Path(__file__).with_name("queries.sql"))
# Notifications carry the id of the function or environment that changed.
CHANGES_CHANNEL: Final = "kiln_registry"


@dataclass(frozen=True, slots=True)
class WatchedFunction:
    """What executors know of a function."""

    id: UUID
    name: str
    revision: int
    deleted: bool
    limits: Limits
    live_version: int | None
    artifact_digest: str | None
    abi: str | None
    access: Access
    environments: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a build ended, as its result tells."""

    diagnostics: Sequence[Mapping[str, Any]]
    queue_ms: int
    build_ms: int


class FunctionStore:
    """Queries inside one transaction."""

    def __init__(self, transaction: Transaction, jobs: Queue) -> None:
        self.transaction = transaction
        self._jobs = jobs

    async def insert_function(self, identity: UUID, new: NewFunction, limits: Limits, access: Access, created_by: str) -> bool:
        row = await self.transaction.fetchrow(
            QUERIES.insert_function,
            identity,
            new.name,
            new.description,
            *_columns(limits),
            access.allowed_users,
            access.allowed_groups,
            created_by,
        )
        return row is not None

    async def lock_function(self, reference: Reference) -> Function | None:
        identity = await self.transaction.fetchval(QUERIES.lock_function, reference.id, reference.name)
        if identity is None:
            return None
        row = await self.transaction.fetchrow(QUERIES.find_function, identity, None)
        return _function(row) if row else None

    async def update_function(self, function: Function) -> None:
        await self.transaction.execute(
            QUERIES.update_function,
            function.id,
            function.description,
            *_columns(function.limits),
            function.latest_version,
            function.access.allowed_users,
            function.access.allowed_groups,
        )

    async def touch_function(self, identity: UUID) -> None:
        await self.transaction.execute(QUERIES.touch_function, identity)

    async def roll_back_function(self, identity: UUID, version: int) -> None:
        await self.transaction.execute(QUERIES.roll_back_function, identity, version)

    async def promote_version(self, identity: UUID, version: int) -> None:
        await self.transaction.execute(QUERIES.promote_version, identity, version)

    async def delete_function(self, identity: UUID) -> int:
        await self.transaction.execute(QUERIES.read_nothing, identity)
        revision: int = await self.transaction.fetchval(QUERIES.delete_function, identity)
        return revision

    async def find_version(self, identity: UUID, version: int) -> Version | None:
        row = await self.transaction.fetchrow(QUERIES.find_version, identity, version)
        return _version(row) if row else None

    async def find_code(self, identity: UUID, version: int) -> Code:
        (row,) = await self.transaction.fetch(QUERIES.find_code, identity, version)
        return Code(row["language"], row["source"], row["wasm"])

    async def insert_version(self, identity: UUID, version: int, code: Code, created_by: str) -> None:
        await self.transaction.execute(QUERIES.insert_version, identity, version, code.language, code.source, code.wasm, created_by)

    async def reset_version(self, identity: UUID, version: int) -> int | None:
        build: int | None = await self.transaction.fetchval(QUERIES.reset_version, identity, version)
        return build

    async def send_job(self, identity: UUID, version: int, build: int, code: Code) -> None:
        job = {"function_id": str(identity), "version": version, "build": build, **code.as_job()}
        await self.transaction.execute(QUERIES.set_job, identity, version, await self._jobs.send(self.transaction, job))

    async def find_language(self, identity: str) -> Language | None:
        row = await self.transaction.fetchrow(QUERIES.find_language, identity)
        return Language(**row) if row else None

    async def hear_language(self, language: Language, message_id: int) -> bool:
        changed = await self.transaction.execute(
            QUERIES.hear_language, language.id, language.name, language.available, language.install_hint, message_id
        )
        return changed == 1

    async def cancel_waiting_builds(self, identity: UUID) -> Sequence[tuple[int, int]]:
        rows = await self.transaction.fetch(QUERIES.list_waiting_builds, identity)
        for row in rows:
            await self.transaction.fetchval(QUERIES.archive_job, row["job_id"])
        return [(row["version"], row["build"]) for row in rows]

    async def start_version(self, identity: UUID, version: int, build: int, queue_ms: int) -> bool:
        return await self.transaction.execute(QUERIES.start_version, identity, version, build, queue_ms) == 1

    async def complete_version(self, identity: UUID, version: int, build: int, digest: str, size: int, abi: str, outcome: Outcome) -> bool:
        changed = await self.transaction.execute(
            QUERIES.complete_version,
            identity,
            version,
            build,
            digest,
            size,
            abi,
            outcome.diagnostics,
            outcome.queue_ms,
            outcome.build_ms,
        )
        return changed == 1

    async def fail_version(
        self, identity: UUID, version: int, build: int, reason: str, message: str, outcome: Outcome | None = None
    ) -> bool:
        changed = await self.transaction.execute(
            QUERIES.fail_version,
            identity,
            version,
            build,
            reason,
            message,
            outcome.diagnostics if outcome else [],
            outcome.queue_ms if outcome else None,
            outcome.build_ms if outcome else None,
        )
        return changed == 1

    async def list_lost_builds(self, lost_after_seconds: float) -> Sequence[Row]:
        return await self.transaction.fetch(QUERIES.list_lost_builds, lost_after_seconds)

    async def find_environments(self, references: Sequence[Reference]) -> Sequence[NamedEnvironment]:
        ids, names = [one.id for one in references if one.id], [one.name for one in references]
        rows = await self.transaction.fetch(QUERIES.find_environments, ids, names)
        return [NamedEnvironment(row["id"], row["name"], access_of(row)) for row in rows]

    async def read_environments(self, identity: UUID, environments: Sequence[UUID]) -> None:
        await self.transaction.execute(QUERIES.read_nothing, identity)
        await self.transaction.execute(QUERIES.read_environments, identity, environments)

    async def announce(self, identity: UUID) -> None:
        await announce(self.transaction, identity)


class FunctionRepository:
    """Queries that are a transaction of their own, and transactions of several."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.jobs = Queue(COMPILATION_JOBS)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[FunctionStore]:
        """All or nothing."""
        async with self.database.transaction() as transaction:
            yield FunctionStore(transaction, self.jobs)

    async def find_function(self, reference: Reference) -> Function | None:
        row = await self.database.fetchrow(QUERIES.find_function, reference.id, reference.name)
        return _function(row) if row else None

    async def list_functions(self, before: UUID | None, most: int, viewer: Principal) -> Sequence[Function]:
        sees_all, groups, only = viewer.role is not Role.DEV, list(viewer.groups), list(viewer.functions)
        rows = await self.database.fetch(QUERIES.list_functions, before, most, sees_all, viewer.id, groups, only)
        return [_function(row) for row in rows]

    async def find_version(self, identity: UUID, version: int) -> Version | None:
        row = await self.database.fetchrow(QUERIES.find_version, identity, version)
        return _version(row) if row else None

    async def list_versions(self, identity: UUID, below: int | None, most: int) -> Sequence[Version]:
        return [_version(row) for row in await self.database.fetch(QUERIES.list_versions, identity, below, most)]

    async def watched_functions(self, identity: UUID | None = None) -> Sequence[WatchedFunction]:
        rows = await self.database.fetch(QUERIES.watched_functions, identity)
        return [_row_as(WatchedFunction, row, limits=_limits(row), access=access_of(row)) for row in rows]

    async def purge_versions(self) -> int:
        return await self.database.execute(QUERIES.purge_versions)

    async def purge_functions(self, older_than_seconds: float) -> int:
        return await self.database.execute(QUERIES.purge_functions, older_than_seconds)


async def announce(transaction: Transaction, identity: UUID) -> None:
    """Tells watchers, once the transaction is committed, that a function or environment has changed."""
    await transaction.fetchval("SELECT pg_notify($1, $2)", CHANGES_CHANNEL, str(identity))


def _columns(limits: Limits) -> tuple[int, int, int, int, int]:
    return limits.timeout_ms, limits.memory_mb, limits.max_output_bytes, limits.max_log_bytes, limits.max_concurrency


def _limits(row: Row) -> Limits:
    return Limits(**{field.name: row[field.name] for field in fields(Limits)})


def access_of(row: Row | Mapping[str, Any]) -> Access:
    """The lists of a row."""
    return Access(row["allowed_users"], row["allowed_groups"])


def _row_as(kind: Any, row: Row, **more: Any) -> Any:
    return kind(**{field.name: row[field.name] for field in fields(kind) if field.name not in more}, **more)


def _function(row: Row) -> Function:
    environments = [NamedEnvironment(UUID(one["id"]), one["name"], access_of(one)) for one in row["environments"]]
    function: Function = _row_as(Function, row, limits=_limits(row), access=access_of(row), environments=environments)
    return function


def _version(row: Row) -> Version:
    version: Version = _row_as(Version, row)
    return version
