"""Turns of tests that run beside each other in several processes: some must have the machine to themselves."""

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class Turns:
    """Turns that all processes of one run share.

    Whoever comes passes the gate first, one after the other. So one who waits to be alone, and keeps the gate, is not passed by others.

    Args:
        run: The same for all of them, and for no other run.
    """

    def __init__(self, run: str) -> None:
        self._files = [Path(tempfile.gettempdir()) / f"kiln-test-{run}-{name}" for name in ("gate", "room")]
        self._gate, self._room = (file.open("w") for file in self._files)

    def close(self) -> None:
        """Takes no more turns. Others have their files open already."""
        for opened, file in zip((self._gate, self._room), self._files, strict=True):
            opened.close()
            file.unlink(missing_ok=True)

    @contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Lets others have theirs meanwhile, or nobody."""
        with _held(self._gate, fcntl.LOCK_EX):
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)


@contextmanager
def _held(file: IO[str], how: int) -> Iterator[None]:
    fcntl.flock(file, how)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
