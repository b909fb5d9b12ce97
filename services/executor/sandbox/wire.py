"""Calls and outcomes as heads and bodies of messages."""

from collections.abc import Mapping
from typing import Any

from services.executor.sandbox.framing import BadFrame, Message
from services.executor.sandbox.outcome import Call, ErrorType, Frame, GuestError, Level, Limits, LogLine, Outcome


def run_head(call: Call) -> Mapping[str, Any]:
    """The head of the message that asks a worker to run; the input is its body."""
    return {
        "kind": "run",
        "digest": call.digest,
        "abi": call.abi,
        "limits": call.limits,
        "environment": dict(call.environment),
    }


def call_of(message: Message) -> Call:
    """The call that a `run` message asks for."""
    head = message.head
    return Call(
        digest=head["digest"],
        abi=head["abi"],
        input=message.body,
        limits=Limits(**head["limits"]),
        environment=head["environment"],
    )


def ran_head(outcome: Outcome) -> Mapping[str, Any]:
    """The head of the message that answers with an outcome; the output is its body."""
    return {
        "kind": "ran",
        "completed": outcome.output is not None,
        "error": outcome.error,
        "logs": [(line.level, line.message) for line in outcome.logs],
        "logs_truncated": outcome.logs_truncated,
        "duration_us": outcome.duration_us,
        "memory_peak_bytes": outcome.memory_peak_bytes,
    }


def outcome_of(message: Message, *, cold_start: bool) -> Outcome:
    """The outcome that a worker answered with.

    Raises:
        BadFrame: The message is no outcome: whoever sent it is not to be trusted any more.
    """
    head = message.head
    try:
        return Outcome(
            output=message.body if head["completed"] else None,
            error=_error_of(head["error"]),
            logs=tuple(LogLine(Level(level), str(text)) for level, text in head["logs"]),
            logs_truncated=bool(head["logs_truncated"]),
            duration_us=int(head["duration_us"]),
            cold_start=cold_start,
            memory_peak_bytes=int(head["memory_peak_bytes"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadFrame(f"an outcome that is none: {type(error).__name__}") from None


def _error_of(head: Mapping[str, Any] | None) -> GuestError | None:
    if head is None:
        return None
    stack = tuple(Frame(**frame) for frame in head["stack"])
    return GuestError(ErrorType(head["type"]), str(head["message"]), stack)
