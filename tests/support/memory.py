"""The registry's storage in memory: a twin of PostgreSQL, and held to it by one suite over both."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from libs.common.access.functions import can_access_function
from libs.common.access.principal import Principal
from services.registry.access import Access
from services.registry.code import Code
from services.registry.function_environments import NamedEnvironment
from services.registry.functions import Function, NewFunction, Version
from services.registry.languages import Language
from services.registry.limits import Limits
from services.registry.names import Reference
from services.registry.repository import Outcome


@dataclass(frozen=True, slots=True)
class Job:
    """A message in the queue; taken once a compiler has read it."""

    id: int
    body: Mapping[str, Any]
    taken: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    """A function without its latest version."""

    id: UUID
    name: str
    description: str
    latest_version: int
    limits: Limits
    revision: int
    created_at: datetime
    updated_at: datetime
    access: Access
    created_by: str
    live_version: int | None = None
    promote_above: int = 0
    edition: int = 1


@dataclass(slots=True)
class _State:
    """All rows and messages. Their values never change, so that a shallow copy is a snapshot."""

    functions: dict[UUID, _Row] = field(default_factory=dict)
    versions: dict[tuple[UUID, int], Version] = field(default_factory=dict)
    codes: dict[tuple[UUID, int], Code] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    job_of: dict[tuple[UUID, int], int] = field(default_factory=dict)
    announced: list[UUID] = field(default_factory=list)
    environments: dict[UUID, NamedEnvironment] = field(default_factory=dict)
    reads: dict[UUID, Sequence[UUID]] = field(default_factory=dict)
    languages: dict[str, tuple[int, Language]] = field(default_factory=dict)
    revision: int = 0
    sent: int = 0

    def copy(self) -> "_State":
        return _State(
            dict(self.functions),
            dict(self.versions),
            dict(self.codes),
            dict(self.jobs),
            dict(self.job_of),
            list(self.announced),
            dict(self.environments),
            dict(self.reads),
            dict(self.languages),
            self.revision,
            self.sent,
        )

    def find(self, reference: Reference) -> Function | None:
        for row in self.functions.values():
            if reference.id == row.id or reference.name == row.name:
                return self.function(row)
        return None

    def function(self, row: _Row) -> Function:
        latest = self.versions[row.id, row.latest_version]
        return Function(
            id=row.id,
            name=row.name,
            description=row.description,
            latest_version=row.latest_version,
            live_version=row.live_version,
            promote_above=row.promote_above,
            limits=row.limits,
            revision=row.revision,
            edition=row.edition,
            created_at=row.created_at,
            updated_at=row.updated_at,
            language=latest.language,
            source=latest.source,
            status=latest.status,
            compile_error=latest.compile_error,
            diagnostics=latest.diagnostics,
            access=row.access,
            created_by=row.created_by,
            environments=[self.environments[one] for one in self.reads.get(row.id, ())],
        )


class MemoryStore:
    """Changes inside one transaction."""

    def __init__(self, state: _State) -> None:
        self._state = state

    async def insert_function(self, identity: UUID, new: NewFunction, limits: Limits, access: Access, created_by: str) -> bool:
        if any(row.name == new.name for row in self._state.functions.values()):
            return False
        now = _now()
        self._state.functions[identity] = _Row(
            identity, new.name, new.description, 1, limits, self._next_revision(), now, now, access, created_by
        )
        return True

    async def lock_function(self, reference: Reference) -> Function | None:
        return self._state.find(reference)

    async def update_function(self, function: Function) -> None:
        row = self._state.functions[function.id]
        self._change(
            function.id,
            description=function.description,
            limits=function.limits,
            access=function.access,
            latest_version=function.latest_version,
            edition=row.edition + 1,
        )

    async def touch_function(self, identity: UUID) -> None:
        if identity in self._state.functions:
            self._change(identity)

    async def roll_back_function(self, identity: UUID, version: int) -> None:
        row = self._state.functions[identity]
        self._change(identity, live_version=version, promote_above=row.latest_version, edition=row.edition + 1)

    async def promote_version(self, identity: UUID, version: int) -> None:
        row = self._state.functions.get(identity)
        if row and version > max(row.live_version or 0, row.promote_above):
            self._state.functions[identity] = replace(row, live_version=version)

    async def delete_function(self, identity: UUID) -> int:
        del self._state.functions[identity]
        self._state.reads.pop(identity, None)
        return self._next_revision()

    async def find_version(self, identity: UUID, version: int) -> Version | None:
        return self._state.versions.get((identity, version))

    async def find_code(self, identity: UUID, version: int) -> Code:
        return self._state.codes[identity, version]

    async def insert_version(self, identity: UUID, version: int, code: Code, created_by: str) -> None:
        self._state.codes[identity, version] = code
        self._state.versions[identity, version] = Version(
            function_id=identity,
            version=version,
            language=code.language,
            source=code.source,
            status="PENDING",
            build=1,
            failure_reason=None,
            compile_error="",
            diagnostics=[],
            artifact_digest=None,
            artifact_bytes=None,
            abi=None,
            queue_ms=None,
            build_ms=None,
            created_at=_now(),
            started_at=None,
            completed_at=None,
            created_by=created_by,
        )

    async def reset_version(self, identity: UUID, version: int) -> int | None:
        found = self._state.versions.get((identity, version))
        if found is None or found.status != "FAILED":
            return None
        self._state.versions[identity, version] = replace(
            found,
            status="PENDING",
            build=found.build + 1,
            failure_reason=None,
            compile_error="",
            diagnostics=[],
            queue_ms=None,
            build_ms=None,
            started_at=None,
            completed_at=None,
        )
        return found.build + 1

    async def send_job(self, identity: UUID, version: int, build: int, code: Code) -> None:
        state = self._state
        state.sent += 1
        body = {"function_id": str(identity), "version": version, "build": build, **code.as_job()}
        state.jobs[state.sent] = Job(state.sent, body)
        state.job_of[identity, version] = state.sent

    async def find_language(self, identity: str) -> Language | None:
        _, language = self._state.languages.get(identity, (0, None))
        return language

    async def hear_language(self, language: Language, message_id: int) -> bool:
        known, _ = self._state.languages.get(language.id, (0, None))
        if known >= message_id:
            return False
        self._state.languages[language.id] = message_id, language
        return True

    async def cancel_waiting_builds(self, identity: UUID) -> Sequence[tuple[int, int]]:
        waiting = []
        for (owner, number), job_id in self._state.job_of.items():
            version, job = self._state.versions[owner, number], self._state.jobs.get(job_id)
            if owner == identity and version.status == "PENDING" and job and not job.taken:
                del self._state.jobs[job_id]
                waiting.append((number, version.build))
        return waiting

    async def start_version(self, identity: UUID, version: int, build: int, queue_ms: int) -> bool:
        found = self._awaited(identity, version, build, "PENDING")
        if found:
            self._state.versions[identity, version] = replace(found, status="COMPILING", started_at=_now(), queue_ms=queue_ms)
        return found is not None

    async def complete_version(self, identity: UUID, version: int, build: int, digest: str, size: int, abi: str, outcome: Outcome) -> bool:
        found = self._awaited(identity, version, build, "PENDING", "COMPILING")
        if found:
            self._state.versions[identity, version] = replace(
                found,
                status="READY",
                artifact_digest=digest,
                artifact_bytes=size,
                abi=abi,
                diagnostics=outcome.diagnostics,
                queue_ms=outcome.queue_ms,
                build_ms=outcome.build_ms,
                started_at=found.started_at or _now(),
                completed_at=_now(),
            )
        return found is not None

    async def fail_version(
        self, identity: UUID, version: int, build: int, reason: str, message: str, outcome: Outcome | None = None
    ) -> bool:
        found = self._awaited(identity, version, build, "PENDING", "COMPILING")
        if found:
            self._state.versions[identity, version] = replace(
                found,
                status="FAILED",
                failure_reason=reason,
                compile_error=message,
                diagnostics=outcome.diagnostics if outcome else [],
                queue_ms=outcome.queue_ms if outcome else found.queue_ms,
                build_ms=outcome.build_ms if outcome else None,
                completed_at=_now(),
            )
        return found is not None

    async def find_environments(self, references: Sequence[Reference]) -> Sequence[NamedEnvironment]:
        wanted = {one.id for one in references} | {one.name for one in references}
        return [one for one in self._state.environments.values() if {one.id, one.name} & wanted]

    async def read_environments(self, identity: UUID, environments: Sequence[UUID]) -> None:
        self._state.reads[identity] = tuple(environments)

    async def insert_named_environment(self, environment: NamedEnvironment) -> None:
        """One that functions can name."""
        self._state.environments[environment.id] = environment

    async def announce(self, identity: UUID) -> None:
        self._state.announced.append(identity)

    def _awaited(self, identity: UUID, version: int, build: int, *statuses: str) -> Version | None:
        found = self._state.versions.get((identity, version))
        return found if found and found.build == build and found.status in statuses else None

    def _change(self, identity: UUID, **values: Any) -> None:
        row = self._state.functions[identity]
        self._state.functions[identity] = replace(row, revision=self._next_revision(), updated_at=_now(), **values)

    def _next_revision(self) -> int:
        self._state.revision += 1
        return self._state.revision


class MemoryRepository:
    """All of it; one transaction at a time."""

    def __init__(self) -> None:
        self._state = _State()
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryStore]:
        async with self._lock:
            state = self._state.copy()
            yield MemoryStore(state)
            self._state = state

    async def find_function(self, reference: Reference) -> Function | None:
        return self._state.find(reference)

    async def list_functions(self, before: UUID | None, most: int, viewer: Principal) -> Sequence[Function]:
        rows = sorted(self._state.functions.values(), key=lambda row: row.id, reverse=True)
        seen = [row for row in rows if can_access_function(viewer, str(row.id), row.access)]
        found = [self._state.function(row) for row in seen if before is None or row.id < before]
        return [replace(one, source=None, diagnostics=[]) for one in found[:most]]

    async def find_version(self, identity: UUID, version: int) -> Version | None:
        return self._state.versions.get((identity, version))

    async def list_versions(self, identity: UUID, below: int | None, most: int) -> Sequence[Version]:
        own = [one for (owner, number), one in self._state.versions.items() if owner == identity and (below is None or number < below)]
        own.sort(key=lambda one: one.version, reverse=True)
        return [replace(one, source=None, diagnostics=[]) for one in own[:most]]

    def jobs(self) -> Sequence[Job]:
        """The queue."""
        return list(self._state.jobs.values())

    def take_job(self) -> Mapping[str, Any] | None:
        """The oldest job that no compiler has read; now one has."""
        for job in self._state.jobs.values():
            if not job.taken:
                self._state.jobs[job.id] = replace(job, taken=True)
                return job.body
        return None

    def announced(self) -> Sequence[UUID]:
        """The functions that watchers were told of."""
        return list(self._state.announced)


def _now() -> datetime:
    return datetime.now(UTC)
