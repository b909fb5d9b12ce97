"""What commands leave behind instead of a module, however hostile, is refused within the bounds, and nothing of them stays."""

import os
import sys
from typing import Final

import psutil
import pytest

from libs.common.abi import KILN
from services.compiler.build import Rejected, build
from services.compiler.hot import HotProcesses
from services.compiler.languages import Bounds, Compiled, Failed, Language
from services.compiler.languages.fresh import FreshCompiler, Recipe
from tests.integration.executor.guests import ECHO
from tests.support.waiting import until

BOUNDS: Final = Bounds(wall_seconds=5, cpu_seconds=4, memory_bytes=256 << 20, output_bytes=65_536, artifact_bytes=1 << 20)
INTERPRETER: Final = os.path.realpath(sys.executable)
EMPTY: Final = b"\0asm\1\0\0\0"
# What is left → how, in Python, and how the build ends.
LEFT: Final[dict[str, tuple[str, str]]] = {
    "nothing": ("", "MALFORMED"),
    "an empty file": ("open('m', 'w')", "MALFORMED"),
    "a link to a file": ("os.symlink('/proc/self/environ', 'm')", "MALFORMED"),
    "a link to a module": (f"open('n', 'wb').write({EMPTY!r}); os.symlink('n', 'm')", "MALFORMED"),
    "a link to a device": ("os.symlink('/dev/urandom', 'm')", "MALFORMED"),
    "a link to itself": ("os.symlink('m', 'm')", "MALFORMED"),
    "a folder": ("os.mkdir('m')", "MALFORMED"),
    "a pipe": ("os.mkfifo('m')", "MALFORMED"),
    "a pipe that somebody holds": (
        "os.mkfifo('m'); os.fork() or (os.open('m', os.O_RDWR), os.setsid(), time.sleep(60))",
        "COMPILE_TIMEOUT",
    ),
    "a pipe that a silent process holds": (
        "os.mkfifo('m')\nif os.fork() == 0:\n  os.open('m', os.O_RDWR); os.setsid(); os.closerange(0, 3); time.sleep(60)\ntime.sleep(0.3)",
        "MALFORMED",
    ),
    "a socket": ("import socket; socket.socket(socket.AF_UNIX).bind('m')", "MALFORMED"),
    "a file that nobody may read": ("open('m', 'w').write('x'); os.chmod('m', 0)", "MALFORMED"),
    "holes of a gigabyte": ("open('m', 'w').truncate(1 << 30)", "COMPILE_OUTPUT COMPILER_CRASHED"),
    "holes of as much as there may be": ("open('m', 'w').truncate(40 << 20)", "COMPILE_OUTPUT"),
    "a byte too much": ("open('m', 'wb').write(bytes((1 << 20) + 1))", "COMPILE_OUTPUT"),
    "bytes behind the module": (f"open('m', 'wb').write({ECHO.wasm!r} + b'more')", "MALFORMED"),
    "bytes before the module": (f"open('m', 'wb').write(b'#!' + {ECHO.wasm!r})", "MALFORMED"),
    "half of a module": (f"open('m', 'wb').write({ECHO.wasm[: len(ECHO.wasm) // 2]!r})", "MALFORMED"),
    "a module without exports": (f"open('m', 'wb').write({EMPTY!r})", "INVALID_ABI"),
    "a long section of its own": (f"open('m', 'wb').write({EMPTY!r} + bytes([0, 0x80, 0x80, 0x80, 0x80, 0x7f]) + b'x')", "MALFORMED"),
    "a full disk": (
        "n = 0\nwhile True:\n  try: open(str(n), 'wb').write(bytes(40 << 20)); n += 1\n  except OSError: break\nopen('m', 'w')",
        "MALFORMED",
    ),
    "many files": ("for n in range(20_000): open(str(n), 'w')", "MALFORMED"),
    "other files in place of the source": ("os.remove('source'); os.symlink('/etc/passwd', 'source')", "MALFORMED"),
}


class Leaving:
    """A language whose compiler does what the source says, in Python.

    Args:
        hot: Where its processes wait.
    """

    id = name = "leaving"
    starter = ""

    def __init__(self, hot: HotProcesses) -> None:
        self._compiler = FreshCompiler(hot, self.name, [], {})

    async def compile(self, source: bytes, bounds: Bounds) -> Compiled | Failed:
        command = [INTERPRETER, "-I", "-S", "-c", "import os, time\n" + source.decode()]
        ran = await self._compiler.run(Recipe({"source": ""}, [command], "m"), source.decode(), bounds)
        if isinstance(ran, Failed):
            return ran
        return Compiled(ran.artifact, KILN, ()) if ran.status == 0 else Failed("COMPILER_CRASHED", ())


@pytest.mark.parametrize("name", LEFT)
async def test_what_is_no_module_is_refused_and_nothing_stays(compilers: HotProcesses, name: str) -> None:
    code, outcomes = LEFT[name]
    language: Language = Leaving(compilers)  # type: ignore[assignment]
    before = set(psutil.Process().children(recursive=True))

    outcome = await build(language, code.encode(), BOUNDS, key=None)

    assert isinstance(outcome, Rejected)
    assert {outcome.reason, *(one.code for one in outcome.diagnostics)} & set(outcomes.split()), outcome
    await until(lambda: not set(psutil.Process().children(recursive=True)) - before)


@pytest.mark.parametrize("session", ["", "os.setsid(); "])
async def test_daemons_of_a_build_do_not_outlive_it(compilers: HotProcesses, session: str) -> None:
    code = f"""
if os.fork() == 0:
  {session}os.closerange(0, 3)
  if os.fork() == 0: time.sleep(600)
  os._exit(0)
open('m', 'wb').write({EMPTY!r})
time.sleep(0.2)
"""
    language: Language = Leaving(compilers)  # type: ignore[assignment]
    before = set(psutil.pids())

    outcome = await build(language, code.encode(), BOUNDS, key=None)

    assert isinstance(outcome, Rejected)
    assert outcome.diagnostics[0].code == "INVALID_ABI"
    await until(lambda: not any(_is_of_this_test(one) for one in set(psutil.pids()) - before))


def _is_of_this_test(pid: int) -> bool:
    try:
        return psutil.Process(pid).cmdline()[:1] == [INTERPRETER] and psutil.Process(pid).cmdline()[1:2] == ["-I"]
    except psutil.Error:
        return False
