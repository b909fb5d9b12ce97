"""What a guest is asked to do and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may use.

    Attributes:
        timeout_ms: How long it may run, instantiation and start function included.
        memory_mb: How large its linear memory may become, in MiB.
        max_output_bytes: How long its output may be, as UTF-8.
        max_log_bytes: How much of what it prints is kept, as UTF-8; besides, at most 256 lines are.
    """

    timeout_ms: int = 5_000
    memory_mb: int = 64
    max_output_bytes: int = 1 << 20
    max_log_bytes: int = 64 << 10


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One run of one module.

    Attributes:
        digest: Names the module; the same that it was prepared by.
        abi: How to talk to it; a key of `libs.common.abi.ABIS`.
        input: Valid JSON text.
        limits: What it may use.
        environment: Values by name that its code can ask for; neither holds a NUL, and names no `=`.
    """

    digest: str
    abi: str
    input: bytes
    limits: Limits = Limits()
    environment: Mapping[str, str] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        """Without what nobody is to read: its input, and its environment."""
        return f"Call({self.digest!r}, {self.abi!r}, {self.limits!r})"


class ErrorType(StrEnum):
    """Kinds of faults, as callers see them. All but `PLATFORM` are the guest's or its caller's."""

    TRAP = "TRAP"
    ABORT = "ABORT"
    TIMEOUT = "TIMEOUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    STACK_OVERFLOW = "STACK_OVERFLOW"
    INVALID_OUTPUT = "INVALID_OUTPUT"
    OUTPUT_TOO_LARGE = "OUTPUT_TOO_LARGE"
    EXIT = "EXIT"
    CANCELLED = "CANCELLED"
    PLATFORM = "PLATFORM"


class Level(StrEnum):
    """How much a log line matters."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Frame:
    """A place in the guest's code. Empty texts and zeros are what is not known; lines and columns count from 1."""

    function: str = ""
    file: str = ""
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class GuestError:
    """Why there is no output. `stack` has the innermost frame first."""

    type: ErrorType
    message: str
    stack: tuple[Frame, ...] = ()


@dataclass(frozen=True, slots=True)
class LogLine:
    """What the guest printed at once. Control characters are kept: whoever writes it somewhere escapes it."""

    level: Level
    message: str


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What came of one call: an output or an error, never both.

    Attributes:
        output: Valid JSON text, byte for byte the guest's; None when it failed.
        error: Why it failed; None when it did not.
        logs: What it printed, in order, as far as its limits let it.
        logs_truncated: Whether it printed more.
        duration_us: How long it ran, measured by the host, instantiation included.
        cold_start: Whether it waited for its code to be loaded into the worker.
        memory_peak_bytes: Its linear memory at the end, which is its highest; 0 when it was never instantiated.
    """

    output: bytes | None
    error: GuestError | None
    logs: tuple[LogLine, ...] = ()
    logs_truncated: bool = False
    duration_us: int = 0
    cold_start: bool = False
    memory_peak_bytes: int = 0
