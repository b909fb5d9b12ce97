"""Compilers that run once: each source has a process and a jail of its own, which stood by for it."""

import marshal
import signal
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from services.compiler import driver
from services.compiler.hot import TRIES, HotProcesses, Program, StartFailed
from services.compiler.jail import JailUnavailable
from services.compiler.languages import Bounds, Failed, ToolchainUnavailable
from services.compiler.languages.verdicts import crashed, exceeded, storable, too_large
from services.compiler.process import Limits

_DRIVER: Final = Path(driver.__file__).read_text(encoding="utf-8")
# Of a whole build, below what the jail's folder for temporary files holds.
FILE_BYTES: Final = 48 << 20
# As rustc says it.
_KILLED_LINKER: Final = "failed: signal: 9"
# Of the driver's answer: exit code and size.
_HEAD: Final = struct.Struct(">iQ")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one source becomes a module.

    Attributes:
        files: Texts by the names that the commands know them by, below the build's own folder.
        commands: What is run there, each by absolute path, until one fails; `{folder}` stands for the path of the build's folder.
        artifact: The name of the file that holds the module afterwards.
    """

    files: Mapping[str, str]
    commands: Sequence[Sequence[str]]
    artifact: str


@dataclass(frozen=True, slots=True)
class Ran:
    """How the commands ended.

    Attributes:
        status: 0, or the exit code of the one that failed, or minus its signal.
        said: The beginning of all they said.
        artifact: What they left behind; empty unless `status` is 0.
    """

    status: int
    said: str
    artifact: bytes


class FreshCompiler:
    """The compiler of one language.

    Args:
        hot: Where its processes wait.
        name: For people.
        shown: Folders that it reads, beside the system's.
        environment: Its whole environment.
        copied: Folders that it may write to, by the names of the copies that each build has of them.
        fingerprint: Of the folders, where they may be made anew while the service runs.
    """

    def __init__(
        self,
        hot: HotProcesses,
        name: str,
        shown: Sequence[Path],
        environment: Mapping[str, str],
        copied: Mapping[str, Path] = MappingProxyType({}),
        fingerprint: str = "",
    ) -> None:
        self._hot = hot
        self._name = name
        python = Path(sys.executable).resolve()
        copies = [f"{name}={folder}" for name, folder in copied.items()]
        command = (str(python), "-I", "-S", "-c", _DRIVER, *copies)
        folders = tuple(dict.fromkeys([*shown, Path(sys.base_prefix).resolve()]))
        kept = tuple(environment.items())
        self._program = Program(command, folders, kept, fingerprint, name=self._name, max_builds=1, file_bytes=FILE_BYTES)

    def prepare(self) -> None:
        """Has processes wait for the first sources."""
        self._hot.prepare(self._program)

    async def run(self, recipe: Recipe, source: str, bounds: Bounds) -> Ran | Failed:
        """Runs the commands of a recipe.

        Raises:
            ToolchainUnavailable: The compiler does not start.
        """
        try:
            for _ in range(TRIES):
                answer = await self._hot.ask(self._program, _request(recipe, bounds), _limits(bounds), keep=lambda _: False)
                if answer.exceeded is not None:
                    return exceeded(answer.exceeded, bounds, source)
                ran = self._read(answer.text, answer.module, source, bounds)
                if isinstance(ran, Failed) or not _was_killed(ran):
                    break
        except (StartFailed, JailUnavailable) as error:
            raise ToolchainUnavailable(f"the {self._name} compiler does not start: {error}") from error
        return ran

    def _read(self, text: bytes | None, module: bytes, source: str, bounds: Bounds) -> Ran | Failed:
        """Reads the driver's answer. It has met hostile input, so every part of it is checked."""
        if text is None or len(text) < _HEAD.size:
            return crashed(self._name, source)
        status, size = _HEAD.unpack_from(text)
        said = storable(text[_HEAD.size :].decode(errors="replace"))
        if len(module) > bounds.artifact_bytes:
            return too_large(max(size, len(module)), bounds, source)
        return Ran(status, said, module)


def _was_killed(ran: Ran) -> bool:
    """Whether somebody else ended one of the commands, or what it had started; see `services.compiler.hot.TRIES`."""
    return ran.status == -signal.SIGKILL or (ran.status != 0 and _KILLED_LINKER in ran.said)


def _request(recipe: Recipe, bounds: Bounds) -> bytes:
    return marshal.dumps(
        {
            "files": dict(recipe.files),
            "commands": [list(command) for command in recipe.commands],
            "artifact": recipe.artifact,
            "artifact_bytes": bounds.artifact_bytes,
            "said_bytes": bounds.output_bytes,
        }
    )


def _limits(bounds: Bounds) -> Limits:
    return Limits(
        wall_seconds=bounds.wall_seconds,
        cpu_seconds=bounds.cpu_seconds,
        memory_bytes=bounds.memory_bytes,
        stdout_bytes=bounds.artifact_bytes + bounds.output_bytes + 1024,
    )
