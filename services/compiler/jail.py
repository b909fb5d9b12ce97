"""The jail: where compilers meet hostile source. Nothing of the machine is in reach there but the toolchain and the system's own programs.

With bubblewrap a compiler sees a file system of its own (`/usr` and its toolchain, read-only, and a small `/tmp`), no network, no process
but its own, and no environment. Where the system gives no namespaces, Landlock takes the host's files, sockets and processes from it
instead; they are still there, so more system calls are refused then, and its user must not be root. Either way nothing of the service's
rights, environment and descriptors comes along, and what a compiler writes goes to an empty folder, its working one, that goes with it.
"""

import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

from libs.common.unprivileged import COMPILER_UID, launcher, user_for
from services.compiler import landlock, seccomp

Kind = Literal["bubblewrap", "landlock", "none"]

TMP_BYTES: Final = 128 << 20
_TMP: Final = "/tmp"  # noqa: S108  (the jail's own)
# Where programs and their libraries lie. On most systems all but the first are links into it.
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")


class JailUnavailable(Exception):
    """No jail can be had here; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Cell:
    """How to start one process in a jail.

    Attributes:
        command: The whole command line.
        descriptors: What the process must inherit.
        folder: Where to start it.
    """

    command: list[str]
    descriptors: tuple[int, ...]
    folder: Path


@dataclass(frozen=True, slots=True)
class Jail:
    """How compilers are confined here.

    Attributes:
        kind: By what.
        uid: Whom compilers become outside of the jail when this process is root's; None keeps the user.
        bwrap: Bubblewrap's program; None where it is not used.
    """

    kind: Kind
    uid: int | None = COMPILER_UID
    bwrap: Path | None = None

    @contextmanager
    def around(self, limiter: Sequence[str], command: Sequence[str], shown: Sequence[Path]) -> Iterator[Cell]:
        """A cell for one process, which must be gone when the block ends.

        Args:
            limiter: A program that sets its own limits, closes all descriptors but the one whose number comes next, and becomes the rest.
            command: The compiler, by absolute path, and its arguments.
            shown: Folders that it reads, beside the system's.

        Raises:
            JailUnavailable: this jail cannot hold a compiler with the rights that it would have.
        """
        needs = [Path(__file__).parent, Path(sys.executable), Path(sys.prefix), *shown]
        start = [*launcher(self.uid, needs=needs), *limiter]
        if self.kind == "bubblewrap":
            with _filter(among_others=False) as descriptor:
                yield Cell([*start, str(descriptor), *self._bubblewrap(descriptor, shown), *command], (descriptor,), Path("/"))
            return
        user = user_for(self.uid, needs) if self.uid else os.geteuid()
        if self.kind == "landlock" and user == 0:
            raise JailUnavailable("as root, Landlock needs a user of its own, which cannot reach below a folder that is closed to others")
        with _folder_of(user) as folder:
            if self.kind == "none":
                yield Cell([*start, "-1", *command], (), folder)
                return
            with _filter(among_others=True) as descriptor:
                yield Cell([*start, str(descriptor), *self._landlock(descriptor, shown), *command], (descriptor,), folder)

    def _landlock(self, descriptor: int, shown: Sequence[Path]) -> list[str]:
        return [sys.executable, "-I", "-S", landlock.__file__, str(descriptor), *map(str, (*_SYSTEM, *shown)), "--"]

    def _bubblewrap(self, descriptor: int, shown: Sequence[Path]) -> list[str]:
        words = [str(self.bwrap), "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
        words += ["--cap-drop", "ALL", "--hostname", "kiln", "--uid", "65534", "--gid", "65534"]
        words += ["--proc", "/proc", "--tmpfs", "/dev"]
        for device in ("/dev/null", "/dev/urandom"):
            words += ["--dev-bind", device, device]
        words += ["--remount-ro", "/dev", "--size", str(TMP_BYTES), "--tmpfs", _TMP, "--chdir", _TMP]
        for folder in map(Path, _SYSTEM):
            if folder.is_symlink():
                words += ["--symlink", os.readlink(folder), str(folder)]
            elif folder.is_dir():
                words += ["--ro-bind", str(folder), str(folder)]
        for folder in shown:
            words += ["--ro-bind", str(folder), str(folder)]
        words += ["--remount-ro", "/"]
        return [*words, "--seccomp", str(descriptor), "--"]


@contextmanager
def _folder_of(user: int) -> Iterator[Path]:
    """An empty folder of a user, gone with all that is in it when the block ends."""
    with TemporaryDirectory(prefix="kiln-build-", ignore_cleanup_errors=True) as folder:
        if user != os.geteuid():
            os.chown(folder, user, user)
        yield Path(folder)


@contextmanager
def _filter(*, among_others: bool) -> Iterator[int]:
    """A descriptor of the filter of system calls. One for each process, because whoever reads it moves its position."""
    descriptor = _sealed(seccomp.program(among_others=among_others))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sealed(contents: bytes) -> int:
    """A descriptor of a file in memory that nobody can change."""
    descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, contents)
    os.lseek(descriptor, 0, os.SEEK_SET)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return descriptor
