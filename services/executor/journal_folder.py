"""The folder of journals: each running executor has its own below it, and takes over those of executors that died."""

import fcntl
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

from libs.common.ids import parse_uuid
from services.executor.journal import SEGMENT_HEAD, SUFFIX, Journal, frame

ASIDE: Final = "aside"
_LOCK: Final = "lock"


class Journals:
    """This executor's journal, and those of dead ones until nothing in them is needed.

    Attributes:
        own: What this executor appends to.
        inherited: The others.
    """

    def __init__(self, base: Path, own: Journal, inherited: Sequence[Journal]) -> None:
        self._base = base
        self.own = own
        self.inherited = list(inherited)

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        size = self.own.size
        for journal in self.inherited:
            size += journal.size
        return size

    def close_empty(self) -> None:
        """Lets go of inherited journals in which nothing is needed."""
        for journal in [one for one in self.inherited if one.is_empty]:
            self.inherited.remove(journal)
            journal.close()

    def close(self) -> None:
        """Gives all back; what is needed stays for the next start."""
        for journal in (self.own, *self.inherited):
            journal.close()

    def keep_aside(self, identity: UUID, payloads: Iterable[bytes]) -> Path:
        """Writes payloads to a segment of their own, for people to look at; put into a folder below this one, it is replayed.

        Raises:
            OSError: it cannot be written.
        """
        folder = self._base / ASIDE
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"{identity}{SUFFIX}"
        with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(SEGMENT_HEAD)
            for payload in payloads:
                file.write(frame(payload))
        return path


def open_journals(base: Path, executor_id: UUID) -> Journals:
    """Makes a journal for an executor, and takes over what the dead have left.

    Raises:
        OSError: the folder cannot be made or written.
    """
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    guard = os.open(base / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        # One at a time, for a moment: a folder that is being made is not one that somebody left.
        fcntl.flock(guard, fcntl.LOCK_EX)
        found = sorted(path for path in base.iterdir() if path.is_dir() and parse_uuid(path.name))
        inherited = [journal for path in found if (journal := _opened(path, base / ASIDE))]
        folder = base / str(executor_id)
        folder.mkdir(mode=0o700)
        return Journals(base, _locked(folder, base / ASIDE), inherited)
    finally:
        os.close(guard)


def _opened(folder: Path, aside: Path) -> Journal | None:
    """The journal in a folder; None when its executor lives, or another has just finished with it."""
    try:
        return _locked(folder, aside)
    except (BlockingIOError, FileNotFoundError):
        return None


def _locked(folder: Path, aside: Path) -> Journal:
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise
    return Journal(folder, lock, aside)
