"""What a guest finds outside of its memory: a clock, randomness, a place to print to, all bounded, and a way to be stopped.

Nothing of one call is in reach of another: there is one `Host` for each.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from services.executor.sandbox.outcome import ErrorType, Frame, GuestError, Level, Limits, LogLine
from services.executor.sandbox.streams import Streams
from services.executor.sandbox.watch import Reason

MAX_LOG_LINES: Final = 256
_MAX_TIMERS: Final = 64
# A sleeping guest is stopped about this late, in seconds: nobody can interrupt the host's own code.
_NAP: Final = 0.004
# How a call ends that nested its own calls too deep.
STACK_OVERFLOW: Final = (ErrorType.STACK_OVERFLOW, "the function called itself too deep")


class GuestStopped(Exception):
    """Ends the guest from inside a host function.

    It says nothing and never reaches Wasmtime, which knows no exceptions of Python's: the reason is in the call's `Host.error`.
    """


@dataclass(frozen=True, slots=True)
class Sources:
    """Where time and chance come from, so that a run can be repeated exactly.

    Attributes:
        now: Seconds since the Unix epoch.
        elapsed: Seconds since any moment; never goes back.
        random: So many random bytes.
        sleep: Lets so many seconds pass.
    """

    now: Callable[[], float] = time.time
    elapsed: Callable[[], float] = time.monotonic
    random: Callable[[int], bytes] = os.urandom
    sleep: Callable[[float], None] = time.sleep


class Host:
    """The outside world of one call.

    Args:
        limits: The call's limits.
        must_stop: Why the guest is to stop; None while it may run.
        sources: Time and chance.
        environment: Values by name, for the guest to ask for.

    Attributes:
        error: Why the guest ended, once it did.
        exit_code: With what it ended itself, once it did.
        logs: What was printed and kept.
        logs_truncated: Whether more was printed.
        streams: What the guest reads and prints as bytes.
    """

    def __init__(
        self, limits: Limits, must_stop: Callable[[], Reason | None], sources: Sources, environment: Mapping[str, str] | None = None
    ) -> None:
        self.limits = limits
        self.environment: Mapping[str, str] = environment or {}
        self.streams = Streams()
        self.error: GuestError | None = None
        self.exit_code: int | None = None
        self.logs: list[LogLine] = []
        self.logs_truncated = False
        self._log_bytes_left = limits.max_log_bytes
        self._must_stop = must_stop
        self._sources = sources
        self._started = sources.elapsed()
        self._timers: dict[str, float] = {}

    def stop(self, kind: ErrorType, message: str, stack: tuple[Frame, ...] = ()) -> GuestStopped:
        """Notes why the guest ends, for `raise host.stop(...)`."""
        self.error = GuestError(kind, message, stack)
        return GuestStopped()

    def exit(self, code: int) -> GuestStopped:
        """Notes that the guest ended itself, for `raise host.exit(...)`."""
        self.exit_code = code
        return self.stop(ErrorType.EXIT, f"the function ended with exit code {code}")

    def check_time(self) -> None:
        """Ends a guest whose time is up.

        Raises:
            GuestStopped: It is.
        """
        if reason := self._must_stop():
            raise self.stop(*stopped_because(reason, self.limits))

    @property
    def log_room(self) -> int:
        """How many bytes of the next line would be kept at most; 0 when nothing more is."""
        return self._log_bytes_left if len(self.logs) < MAX_LOG_LINES else 0

    def log(self, level: Level, message: str, *, cut: bool = False) -> None:
        """Keeps a line, or as much of it as there is room for.

        Args:
            level: How much it matters.
            message: The text, or its beginning.
            cut: Whether the text went on.
        """
        room = self.log_room
        encoded = message.encode()
        if cut or len(encoded) > room or len(self.logs) >= MAX_LOG_LINES:
            self.logs_truncated = True
        if len(self.logs) >= MAX_LOG_LINES or (not room and (encoded or cut)):
            return
        self._log_bytes_left -= min(len(encoded), room)
        self.logs.append(LogLine(level, encoded[:room].decode(errors="ignore")))

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch. Coarse, so that the guest cannot time its neighbours."""
        return int(self._sources.now() * 1000)

    def elapsed_ms(self) -> int:
        """Milliseconds since the call began, as coarse."""
        return int((self._sources.elapsed() - self._started) * 1000)

    def sleep(self, seconds: float) -> None:
        """Lets time pass for the guest, but not past its deadline.

        Raises:
            GuestStopped: Its time was up, or its caller gone, before.
        """
        end = self._sources.elapsed() + seconds
        while (left := end - self._sources.elapsed()) > 0:
            self.check_time()
            self._sources.sleep(min(left, _NAP))

    def random(self, size: int) -> bytes:
        """So many random bytes."""
        return self._sources.random(size)

    def start_timer(self, label: str) -> None:
        """Starts a timer, again if it runs. There are so many timers and no more."""
        if label in self._timers or len(self._timers) < _MAX_TIMERS:
            self._timers[label] = self.elapsed_ms()

    def read_timer(self, label: str, *, stop: bool) -> float | None:
        """Milliseconds since a timer was started; None when it was not."""
        started = self._timers.pop(label, None) if stop else self._timers.get(label)
        return None if started is None else self.elapsed_ms() - started


def stopped_because(reason: Reason, limits: Limits) -> tuple[ErrorType, str]:
    """How a call ends that was stopped from outside."""
    if reason == "TIMEOUT":
        return ErrorType.TIMEOUT, f"the function ran longer than its limit of {limits.timeout_ms} ms"
    return ErrorType.CANCELLED, "the caller went away"


def out_of_memory(limits: Limits) -> tuple[ErrorType, str]:
    """How a call ends that wanted more memory than it may have."""
    return ErrorType.OUT_OF_MEMORY, f"out of memory: the function's limit is {limits.memory_mb} MiB"
