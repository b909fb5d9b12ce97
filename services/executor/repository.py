"""Executions in PostgreSQL: one method a named query."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import orjson

from libs.common.ids import milliseconds_of
from libs.common.postgres import Database, MissingPartition, Row
from libs.common.queries import Queries
from services.executor.execution import Execution, Status
from services.executor.sandbox.outcome import ErrorType, Frame, GuestError, Level, LogLine

QUERIES: Final = Queries(Path(__file__).with_name("queries.sql"))
PARTITIONS_AHEAD_DAYS: Final = 7
SWEPT: Final = GuestError(ErrorType.PLATFORM, "the executor that ran this call died; call again if it may run twice")
# The times that ids carry. Those beyond have no id, and the last that Python knows is infinity to PostgreSQL.
FIRST_MOMENT: Final = datetime(1970, 1, 2, tzinfo=UTC)
LAST_MOMENT: Final = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs of a function a list holds; None does not filter."""

    status: str | None = None
    error_type: str | None = None
    version: int | None = None
    started_after: datetime | None = None
    started_before: datetime | None = None


class ExecutionRepository:
    """The history. `executor_id` is written with every run, to find those of executors that died."""

    def __init__(self, database: Database, executor_id: UUID) -> None:
        self._database = database
        self._executor_id = executor_id

    async def accept(self, execution: Execution) -> bool:
        """Records a call that waits for a worker. False when its id is taken or its function deleted."""
        return await self._write(QUERIES.accept_execution, execution.id, *self._beginning(execution))

    async def start(self, execution: Execution) -> bool:
        """Records that a call runs. False when its id is taken, its function deleted, or it was swept meanwhile."""
        return await self._write(
            QUERIES.start_execution, execution.id, *self._beginning(execution), execution.queue_us, execution.started_at
        )

    async def finish(self, execution: Execution) -> bool:
        """Records how a call ended. False when it had ended already, or its function is deleted."""
        return await self._write(
            QUERIES.finish_execution,
            execution.id,
            *self._beginning(execution),
            execution.queue_us,
            execution.started_at,
            execution.status,
            execution.output,
            execution.error.type if execution.error else None,
            _error_text(execution.error) if execution.error else None,
            orjson.dumps([asdict(line) for line in execution.logs]),
            execution.logs_truncated,
            execution.duration_us,
            execution.cold_start,
            execution.memory_peak_bytes,
            execution.completed_at,
        )

    async def withdraw(self, identity: UUID) -> None:
        """Removes a call that waited and was refused."""
        await self._database.execute(QUERIES.withdraw_execution, identity)

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
        """Ends what dead executors left; returns how many runs."""
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

    def _beginning(self, execution: Execution) -> tuple[object, ...]:
        return (
            execution.function_id,
            execution.function_name,
            execution.function_version,
            execution.input,
            execution.request_id,
            self._executor_id,
            execution.created_at,
        )

    async def _write(self, query: str, identity: UUID, *values: object) -> bool:
        try:
            return await self._database.fetchval(query, identity, *values) is not None
        except MissingPartition:
            await self._database.fetch(QUERIES.create_partition_of, milliseconds_of(identity))
            return await self._database.fetchval(query, identity, *values) is not None


def _within_ids(moment: datetime | None) -> datetime | None:
    return moment and min(max(moment, FIRST_MOMENT), LAST_MOMENT)


def _error_text(error: GuestError) -> bytes:
    return orjson.dumps({"message": error.message, "stack": [asdict(frame) for frame in error.stack]})


def _execution(row: Row) -> Execution:
    values: dict[str, Any] = dict(row.items())
    kind, error = values.pop("error_type"), values["error"]
    if error is not None:
        told = orjson.loads(error)
        values["error"] = GuestError(ErrorType(kind), told["message"], tuple(Frame(**frame) for frame in told["stack"]))
    values["logs"] = tuple(LogLine(Level(line["level"]), line["message"]) for line in orjson.loads(values["logs"]))
    return Execution(**{**values, "status": Status(values["status"])})
