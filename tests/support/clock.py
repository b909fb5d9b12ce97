"""A wall clock that a test puts forward and back, for processes that it starts."""

import os
import struct
import subprocess
import sys
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")
_NANOSECONDS = 1_000_000_000


class Clock:
    """The wall clock of processes with these variables in their environment, however long they run already.

    What they start without those has the true one.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._library = folder / "clock.so"
        folder.mkdir()
        self.put_forward(0)
        _compile(self._library)

    @property
    def variables(self) -> dict[str, str]:
        """What to start a process with."""
        return {"LD_PRELOAD": str(self._library), "CLOCK_FILE": str(self._file)}

    def put_forward(self, seconds: float) -> None:
        """From now on the clock is so far ahead of the true one; behind it where that is negative."""
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(descriptor, struct.pack("=q", round(seconds * _NANOSECONDS)), 0)
        finally:
            os.close(descriptor)


def _compile(library: Path) -> None:
    """By the compiler that Kiln has for C functions, since there may be no other."""
    cache = str(library.with_suffix(".cache"))
    caches = {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
    command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(_SOURCE)]
    subprocess.run(command, check=True, env={**os.environ, **caches})
