"""Running one guest call in a fresh sandbox. It knows of no service, no database and no network."""

from services.executor.sandbox.child import StartFailed
from services.executor.sandbox.errors import Exhausted, NotPrepared, Quarantined, Unloadable
from services.executor.sandbox.outcome import Call, ErrorType, Frame, GuestError, Level, Limits, LogLine, Outcome
from services.executor.sandbox.sandbox import Sandbox, Slot

__all__ = [
    "Call",
    "ErrorType",
    "Exhausted",
    "Frame",
    "GuestError",
    "Level",
    "Limits",
    "LogLine",
    "NotPrepared",
    "Outcome",
    "Quarantined",
    "Sandbox",
    "Slot",
    "StartFailed",
    "Unloadable",
]
