"""The record of one run, as the executor holds it."""

from enum import StrEnum
from uuid import UUID

import msgspec

from services.executor.sandbox.outcome import GuestError, LogLine


class Status(StrEnum):
    """Where a run stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class Durability(StrEnum):
    """What has a run's record before its call is answered: the journal, which outlives processes, or PostgreSQL."""

    JOURNAL = "JOURNAL"
    COMMIT = "COMMIT"


class Execution(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One run. Times are microseconds since 1970; what is not known yet is None.

    Attributes:
        input: JSON text, exactly as given.
        output: JSON text, exactly as answered; None unless COMPLETED.
        error: None unless FAILED.
        queue_us: How long it waited for a worker.
        created_by: Id of the user who called; empty where that is older than users.
    """

    id: UUID
    function_id: UUID
    function_name: str
    function_version: int
    request_id: str
    created_at: int
    input: bytes
    created_by: str = ""
    status: Status = Status.PENDING
    queue_us: int = 0
    cold_start: bool = False
    started_at: int | None = None
    output: bytes | None = None
    error: GuestError | None = None
    logs: tuple[LogLine, ...] = ()
    logs_truncated: bool = False
    duration_us: int | None = None
    memory_peak_bytes: int | None = None
    completed_at: int | None = None
