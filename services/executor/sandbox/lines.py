"""What a guest prints as bytes, as lines of its log."""

from collections.abc import Callable
from typing import Final

from services.executor.sandbox.host import Host
from services.executor.sandbox.outcome import Level

# How much of a line is held at least, though the log may have no room for it: for those who look at it otherwise.
_MIN_HELD_BYTES: Final = 2_000


def _nobody(_line: str) -> None:
    pass


class Lines:
    """Cuts bytes into lines and logs each; bytes that are no UTF-8 become replacement characters.

    Args:
        host: Keeps the log and its bounds.
        level: Of all lines.
        see: Is shown every line as well, or its beginning, also when the log is full.
    """

    def __init__(self, host: Host, level: Level, see: Callable[[str], None] = _nobody) -> None:
        self._host = host
        self._level = level
        self._see = see
        self._max_bytes = max(host.limits.max_log_bytes, _MIN_HELD_BYTES)
        self._held = bytearray()
        self._cut = False

    def write(self, data: bytes) -> None:
        """Takes the next bytes."""
        *ended, rest = data.split(b"\n")
        for line in ended:
            self._hold(line)
            self._end()
        self._hold(rest)

    def close(self) -> None:
        """Logs the last line, if it has not ended."""
        if self._held:
            self._end()

    def _hold(self, data: bytes) -> None:
        room = self._max_bytes - len(self._held)
        self._held += data[:room]
        self._cut = self._cut or len(data) > room

    def _end(self) -> None:
        line = self._held.decode(errors="replace")
        self._host.log(self._level, line, cut=self._cut)
        self._see(line)
        self._held.clear()
        self._cut = False
