"""Executions in PostgreSQL: one method a named query."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import orjson

from libs.common.ids import milliseconds_of
from libs.common.postgres import Database, MissingPartition, Row
from libs.common.queries import Queries
from libs.common.times import micros_of
from services.executor.execution import Execution, Status
from services.executor.sandbox.outcome import ErrorType, Frame, GuestError, Level, LogLine

QUERIES: Final = Queries(Path(__file__).with_name("queries.sql"))
PARTITIONS_AHEAD_DAYS: Final = 7
SWEPT: Final = GuestError(ErrorType.PLATFORM, "the executor that ran this call died; call again if it may run twice")
# The times that ids carry. Those beyond have no id, and the last that Python knows is infinity to PostgreSQL.
FIRST_MOMENT: Final = datetime(1970, 1, 2, tzinfo=UTC)
LAST_MOMENT: Final = datetime(9999, 1, 1, tzinfo=UTC)


_NO_LOGS: Final = b"[]"
# The executor that ran it, and a run.
Written = tuple[UUID, Execution]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs of a function a list holds; None does not filter."""

    status: str | None = None
    error_type: str | None = None
    version: int | None = None
    started_after: datetime | None = None
    started_before: datetime | None = None


class ExecutionRepository:
    """The history. `executor_id` is whose heartbeat it writes."""

    def __init__(self, database: Database, executor_id: UUID) -> None:
        self._database = database
        self._executor_id = executor_id

    async def write(self, runs: Sequence[Written]) -> Set[UUID]:
        """Records where runs stand, each of them once. Returns the ids of those for which that is no news.

        It is none for a run that has ended already except by a sweep, nor for the beginning of one that is there, nor for one of a deleted
        function.

        Raises:
            Refused: PostgreSQL will never take one of them; none is recorded.
        """
        rows = [_row(executor_id, run) for executor_id, run in runs]
        try:
            known = await self._database.fetch(QUERIES.write_executions, rows)
        except MissingPartition:
            await self._database.fetch(QUERIES.create_partitions_of, [milliseconds_of(run.id) for _, run in runs])
            known = await self._database.fetch(QUERIES.write_executions, rows)
        return {row["id"] for row in known}

    async def withdraw(self, calls: Sequence[tuple[UUID, UUID]]) -> None:
        """Removes calls that waited and were refused, each given by the executor's id and its own."""
        executors, identities = zip(*calls, strict=True)
        await self._database.execute(QUERIES.withdraw_executions, identities, executors)

    async def find(self, identity: UUID) -> Execution | None:
        """One run."""
        row = await self._database.fetchrow(QUERIES.find_execution, identity)
        return _execution(row) if row else None

    async def list(self, function_id: UUID, before: UUID | None, most: int, bytes_: int, wanted: Filter) -> Sequence[Execution]:
        """Runs of a function older than an id, newest first: at most so many, and of so many bytes together, but one at least."""
        rows = await self._database.fetch(
            QUERIES.list_executions,
            function_id,
            before,
            wanted.status,
            wanted.error_type,
            wanted.version,
            _within_ids(wanted.started_after),
            _within_ids(wanted.started_before),
            most,
            bytes_,
        )
        return [_execution(row) for row in rows]

    async def create_partitions(self) -> None:
        """Makes the partitions of today and the days ahead."""
        await self._database.fetch(QUERIES.create_partitions, PARTITIONS_AHEAD_DAYS)

    async def heartbeat(self) -> None:
        """Says that this executor lives."""
        await self._database.execute(QUERIES.heartbeat, self._executor_id)

    async def retire(self) -> None:
        """Says that this executor ends; what it left unfinished is swept at once."""
        await self._database.execute(QUERIES.retire, self._executor_id)

    async def sweep(self, lease_seconds: float) -> int:
        """Ends what silent executors left, until one of them tells otherwise; returns how many runs."""
        swept = await self._database.execute(QUERIES.sweep_executions, lease_seconds, _error_text(SWEPT))
        await self._database.execute(QUERIES.forget_executors, lease_seconds * 10)
        return swept

    async def remember_deletion(self, function_id: UUID) -> None:
        """From now on no record of this function is written."""
        await self._database.execute(QUERIES.remember_deletion, function_id)

    async def purge_deleted(self) -> None:
        """Removes the history of deleted functions, and what came late."""
        for row in await self._database.fetch(QUERIES.list_unpurged_functions):
            while await self._database.execute(QUERIES.purge_executions, row["function_id"]):
                pass
            await self._database.execute(QUERIES.mark_purged, row["function_id"])


def _within_ids(moment: datetime | None) -> datetime | None:
    return moment and min(max(moment, FIRST_MOMENT), LAST_MOMENT)


def _row(executor_id: UUID, run: Execution) -> tuple[object, ...]:
    """An `executor.run`."""
    return (
        run.id,
        executor_id,
        run.function_id,
        run.function_name,
        run.function_version,
        run.input,
        run.request_id,
        run.created_at,
        run.queue_us,
        run.started_at,
        run.status,
        run.output,
        run.error.type if run.error else None,
        _error_text(run.error) if run.error else None,
        orjson.dumps(run.logs) if run.logs else _NO_LOGS,
        run.logs_truncated,
        run.duration_us,
        run.cold_start,
        run.memory_peak_bytes,
        run.completed_at,
        run.created_by,
    )


def _error_text(error: GuestError) -> bytes:
    return orjson.dumps({"message": error.message, "stack": error.stack})


def _execution(row: Row) -> Execution:
    values: dict[str, Any] = dict(row.items())
    kind, error = values.pop("error_type"), values["error"]
    if error is not None:
        told = orjson.loads(error)
        values["error"] = GuestError(ErrorType(kind), told["message"], tuple(Frame(**frame) for frame in told["stack"]))
    values["logs"] = tuple(LogLine(Level(line["level"]), line["message"]) for line in orjson.loads(values["logs"]))
    for name in ("created_at", "started_at", "completed_at"):
        moment = values[name]
        values[name] = None if moment is None else micros_of(moment)
    return Execution(**{**values, "status": Status(values["status"])})
