"""Hostile sources of every language get nowhere: they see nothing of the machine, end within their bounds, and leave nothing behind.

Each table of `abuses` has, by name, a source, an outcome (several when it may be any of them) and words of a message:

    COMPILES           There is a module, which passes Kiln's check.
    COMPILE_ERROR ...  There is none for this reason.
    UNKNOWN_IMPORT ... The compiler made one, and Kiln's check refuses it with this code.
    ENDS               There is none for any reason. What matters is that it ends.

In a source, %HOST% stands for a file that every user of this machine may read, %TMP% for one in its folder for temporary files, and
%REPOSITORY% for where Kiln lies.
"""

import asyncio
import hashlib
import json
import sys
import tempfile
import unicodedata
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Final

import psutil
import pytest

from services.compiler.build import Built, Rejected, build, readable
from services.compiler.hot import HotProcesses
from services.compiler.jails import Jails
from services.compiler.languages import Bounds, Diagnostic, Language, languages
from services.compiler.languages.gnu import MAX_DIAGNOSTICS
from services.compiler.process import Limits, run
from tests.integration.compiler import abuses
from tests.support.waiting import until

# The service's own, but for shorter times and less memory. A machine that is busy with other things takes longer, but no more of its time.
BOUNDS: Final = Bounds(wall_seconds=10, cpu_seconds=3, memory_bytes=512 << 20, output_bytes=65_536, artifact_bytes=8 << 20)
# An innocent source may have been compiled by less than a machine has to offer.
INNOCENT: Final = Bounds(wall_seconds=60, cpu_seconds=60, memory_bytes=1 << 30, output_bytes=65_536, artifact_bytes=8 << 20)
CANARY: Final = "canary-7c41e0b95d"
REPOSITORY: Final = Path(__file__).parents[3]
# What nobody who sends a source has seen.
MACHINE: Final = tuple({str(REPOSITORY), sys.prefix, sys.base_prefix, str(Path.home()), "site-packages", "kiln-build-", "/tmp/"} - {"/usr"})
MAX_MESSAGE: Final = 20_000
MAX_TOLD: Final = 256 << 10
TABLES: Final[Mapping[str, Mapping[str, tuple[str, tuple[str, str]]]]] = {
    file.stem: import_module(f"{abuses.__name__}.{file.stem}").ABUSES
    for file in sorted(Path(str(abuses.__file__)).parent.glob("*.py"))
    if file.stem != "__init__"
}
ALL: Final = [pytest.param(language, name, id=f"{language}: {name}") for language, table in TABLES.items() for name in table]


@dataclass(frozen=True)
class Machine:
    """Where the canary is, apart from the environment and a job that runs meanwhile."""

    host: Path
    tmp: Path
    builds: Path

    def placed(self, source: str) -> str:
        """A source with the paths of this machine."""
        names = {"%HOST%": str(self.host), "%TMP%": str(self.tmp), "%REPOSITORY%": str(REPOSITORY)}
        for name, path in names.items():
            source = source.replace(name, path)
        return source


@pytest.fixture(scope="module", autouse=True)
async def machine(home: Path) -> AsyncIterator[Machine]:
    """This machine with a canary in every place that a compiler must not see, a neighbour's job among them."""
    builds = home / "builds"
    builds.mkdir()
    builds.chmod(0o755)
    host = home / "secret.txt"
    host.write_text(CANARY)
    host.chmod(0o644)
    with pytest.MonkeyPatch.context() as patch, tempfile.NamedTemporaryFile(prefix="kiln-secret-", suffix=".h") as tmp:
        Path(tmp.name).write_text(CANARY)
        Path(tmp.name).chmod(0o644)
        for variable in ("CANARY", "KILN_DATABASE_URL"):
            patch.setenv(variable, CANARY)
        patch.setattr(tempfile, "tempdir", str(builds))
        neighbour = asyncio.create_task(_neighbour())
        try:
            await until(lambda: any(_is_neighbour(one) for one in below()))
            yield Machine(host, Path(tmp.name), builds)
        finally:
            neighbour.cancel()
            with suppress(asyncio.CancelledError):
                await neighbour


async def _neighbour() -> None:
    """Another's job in a jail like theirs: the canary is its argument, the name of its file, and what is in it."""
    code = f"import time; open('{CANARY}', 'w').write('{CANARY}'); time.sleep(3600)"
    limits = Limits(wall_seconds=3600, cpu_seconds=60, memory_bytes=64 << 20, stdout_bytes=1000, file_bytes=1000)
    shown = [Path(sys.prefix), Path(sys.base_prefix)]
    await run([sys.executable, "-I", "-S", "-c", code, CANARY], limits, jail=await Jails("auto").find(), shown=shown)


def _is_neighbour(process: psutil.Process) -> bool:
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return command[:4] == [sys.executable, "-I", "-S", "-c"] and command[-1] == CANARY


@pytest.fixture(scope="module")
async def innocent(compilers: HotProcesses) -> "Innocent":
    """What innocent sources are compiled to."""
    return Innocent(compilers)


class Innocent:
    """Builds of each language's starter.

    Args:
        compilers: What the abuses use, too.
    """

    def __init__(self, compilers: HotProcesses) -> None:
        self._languages = languages(compilers)
        self._first: dict[str, str] = {}

    async def expect_as_before(self, language: str) -> None:
        """Asserts that it is compiled to the same bytes as ever."""
        outcome = await build(self._languages[language], self._languages[language].starter.encode(), INNOCENT, key=None)
        assert isinstance(outcome, Built), outcome
        digest = hashlib.sha256(outcome.wasm).hexdigest()
        assert self._first.setdefault(language, digest) == digest


def there(language: str, compilers: HotProcesses) -> Language:
    """A language, in tests that are skipped where it is not installed."""
    found = languages(compilers)[language]
    if hint := found.toolchain().install_hint:
        pytest.skip(hint)
    return found


def below() -> set[psutil.Process]:
    """The processes that this one and its descendants started and that live."""
    return {one for one in psutil.Process().children(recursive=True) if _lives(one)}


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _bounds(outcomes: str, words: str) -> Bounds:
    """Bounds for a build with one of these outcomes. One that it is not to pass must not be passed on a busy machine either."""
    may = set(outcomes.split())
    time = BOUNDS if may & {"ENDS", "COMPILE_TIMEOUT"} else INNOCENT
    memory = BOUNDS if may & {"ENDS", "COMPILE_MEMORY"} else INNOCENT
    wall = INNOCENT if words == f"{BOUNDS.cpu_seconds} seconds" else time
    return replace(time, memory_bytes=memory.memory_bytes, wall_seconds=wall.wall_seconds)


@pytest.mark.parametrize(("id_", "name"), ALL)
async def test_a_hostile_source_gets_nowhere(
    id_: str, name: str, compilers: HotProcesses, machine: Machine, innocent: Innocent, capfd: pytest.CaptureFixture[str]
) -> None:
    language = there(id_, compilers)
    source, (outcomes, words) = TABLES[id_][name]
    source = machine.placed(source)
    assert CANARY not in source
    before = below()

    outcome = await build(language, source.encode(), _bounds(outcomes, words), key=None)

    told = outcome.diagnostics
    got = _outcomes(outcome)
    assert got & set(outcomes.split()), (got, [one.message[:300] for one in told[:3]])
    assert words in "\n".join(one.message for one in told), [one.message[:300] for one in told[:3]]
    expect_presentable(told, source)
    out, err = capfd.readouterr()
    for text in (out, err, _shown(outcome)):
        assert CANARY not in text
    if isinstance(outcome, Built):
        for form in (CANARY.encode(), CANARY.encode("utf-16-le"), str(REPOSITORY).encode(), str(REPOSITORY).encode("utf-16-le")):
            assert form not in outcome.wasm
    assert list(machine.builds.iterdir()) == []
    await until(lambda: below() - before <= kept(compilers))
    if id_ == "assemblyscript":
        await innocent.expect_as_before(id_)


def kept(compilers: HotProcesses) -> set[psutil.Process]:
    """The compilers that wait for the next source, and what keeps them."""
    found = set()
    for process in compilers.waiting():
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(process)
            found |= {root, *root.children(recursive=True)}
    return found


@pytest.mark.parametrize("id_", TABLES)
async def test_an_innocent_source_is_compiled_as_before_all_of_this(id_: str, compilers: HotProcesses, innocent: Innocent) -> None:
    there(id_, compilers)

    await innocent.expect_as_before(id_)
    await innocent.expect_as_before(id_)


def test_every_language_whose_sources_are_compiled_has_a_table(compilers: HotProcesses) -> None:
    assert set(languages(compilers)) - {"wasm"} <= set(TABLES)


def _outcomes(outcome: Built | Rejected) -> set[str]:
    if isinstance(outcome, Built):
        return {"COMPILES"}
    return {"ENDS", outcome.reason} | {one.code for one in outcome.diagnostics[:1] if one.code and outcome.reason == "INVALID_MODULE"}


def _shown(outcome: Built | Rejected) -> str:
    """All that anybody is told of a build."""
    return json.dumps([[one.message, one.excerpt, one.code] for one in outcome.diagnostics]) + readable(outcome.diagnostics)


def expect_presentable(told: Sequence[Diagnostic], source: str) -> None:
    """Asserts that diagnostics can be shown to anybody anywhere: few, short, plain, without the machine, and about the source."""
    lines = source.split("\n")
    assert len(told) <= MAX_DIAGNOSTICS + 1
    assert sum(len(one.message) + len(one.excerpt) for one in told) <= MAX_TOLD
    for one in told:
        assert 1 <= one.line <= len(lines)
        assert 1 <= one.column <= len(lines[one.line - 1]) + 1
        assert one.end_line is None or one.line <= one.end_line <= len(lines)
        assert len(one.message) <= MAX_MESSAGE
        for text in (one.message, one.excerpt, one.code or ""):
            assert [hex(ord(sign)) for sign in text if is_control(sign)] == [], text[:1000]
            assert [path for path in MACHINE if path in text and path not in source] == [], text[:1000]


def is_control(sign: str) -> bool:
    """Whether a character does something to the terminal or the page that shows it."""
    return unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and sign not in "\t\n"
