"""What the journal says of a run: one entry a step. Laid one over the other in their order they make the run as it is known."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final
from uuid import UUID

import orjson
from msgspec.structs import replace

from services.executor.execution import Execution, Status
from services.executor.sandbox.outcome import ErrorType, Frame, GuestError, Level, LogLine

# Kind, id, and how long the JSON behind them is; what is left is input or output.
_HEAD: Final = struct.Struct("<B16sI")


class Kind(IntEnum):
    """Steps of a run."""

    # It waits for a worker, or it begins without a wait: all that is known so far, and the input.
    BEGUN = 1
    # It waited and runs now.
    STARTED = 2
    # How it ended, and the output.
    ENDED = 3
    # It was refused after all, and never ran.
    WITHDRAWN = 4


class Unreadable(Exception):
    """An entry is none that this release knows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of one run.

    Attributes:
        beginning: The run as it began; only of `BEGUN`.
        changes: The fields of the run that the step sets.
    """

    kind: Kind
    id: UUID
    beginning: Execution | None
    changes: dict[str, Any]

    def laid_over(self, known: Execution | None) -> Execution | None:
        """The run after this step; None when its beginning is not known."""
        if self.beginning is not None:
            return self.beginning
        return replace(known, **self.changes) if known is not None else None


def begun(execution: Execution) -> bytes:
    """The beginning of a run."""
    head = (
        execution.function_id,
        execution.function_name,
        execution.function_version,
        execution.request_id,
        execution.created_at,
        execution.cold_start,
        execution.queue_us,
        execution.started_at,
        execution.created_by,
    )
    return _payload(Kind.BEGUN, execution.id, head, execution.input)


def started(execution: Execution) -> bytes:
    """That a run which waited begins."""
    return _payload(Kind.STARTED, execution.id, (execution.queue_us, execution.started_at))


def ended(execution: Execution) -> bytes:
    """How a run ended."""
    head = (
        execution.status,
        execution.error,
        execution.logs,
        execution.logs_truncated,
        execution.duration_us,
        execution.cold_start,
        execution.memory_peak_bytes,
        execution.completed_at,
    )
    return _payload(Kind.ENDED, execution.id, head, execution.output or b"")


def withdrawn(identity: UUID) -> bytes:
    """That a call was refused."""
    return _payload(Kind.WITHDRAWN, identity, ())


def read(payload: bytes) -> Entry:
    """The entry that a payload holds.

    Raises:
        Unreadable: it is of no known kind.
    """
    try:
        number, identity, length = _HEAD.unpack_from(payload)
        head = orjson.loads(payload[_HEAD.size : _HEAD.size + length])
        return _entry(Kind(number), UUID(bytes=identity), head, payload[_HEAD.size + length :])
    except (struct.error, ValueError, TypeError, KeyError) as error:
        raise Unreadable(str(error)) from error


def _payload(kind: Kind, identity: UUID, head: Sequence[object], body: bytes = b"") -> bytes:
    text = orjson.dumps(head)
    return _HEAD.pack(kind, identity.bytes, len(text)) + text + body


def _entry(kind: Kind, identity: UUID, head: Sequence[Any], body: bytes) -> Entry:
    if kind is Kind.BEGUN:
        return Entry(kind, identity, _beginning(identity, head, body), {})
    changes: dict[str, Any] = {}
    if kind is Kind.STARTED:
        queue_us, started_at = head
        changes = {"status": Status.RUNNING, "queue_us": queue_us, "started_at": started_at}
    elif kind is Kind.ENDED:
        changes = _end(head, body)
    return Entry(kind, identity, None, changes)


def _beginning(identity: UUID, head: Sequence[Any], body: bytes) -> Execution:
    # Entries that are older than users end before the one who called.
    function_id, name, version, request_id, created_at, cold_start, queue_us, started_at, created_by = [*head, ""][:9]
    if not isinstance(created_at, int):
        raise ValueError("a run has no time of its making")
    return Execution(
        id=identity,
        function_id=UUID(function_id),
        function_name=name,
        function_version=version,
        request_id=request_id,
        created_at=created_at,
        input=body,
        cold_start=cold_start,
        queue_us=queue_us,
        status=Status.PENDING if started_at is None else Status.RUNNING,
        started_at=started_at,
        created_by=created_by,
    )


def _end(head: Sequence[Any], body: bytes) -> dict[str, Any]:
    status, error, logs, logs_truncated, duration_us, cold_start, memory_peak_bytes, completed_at = head
    return {
        "status": Status(status),
        "output": body if status == Status.COMPLETED else None,
        "error": error and GuestError(ErrorType(error["type"]), error["message"], tuple(Frame(**one) for one in error["stack"])),
        "logs": tuple(LogLine(Level(line["level"]), line["message"]) for line in logs),
        "logs_truncated": logs_truncated,
        "duration_us": duration_us,
        "cold_start": cold_start,
        "memory_peak_bytes": memory_peak_bytes,
        "completed_at": completed_at,
    }
