"""The worker on a real queue: each job has one result, whoever dies, is late or is away meanwhile."""

import asyncio
import base64
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import pytest
from kiln.compiler.v1 import compiler_pb2 as pb
from kiln.compiler.v1 import compiler_pb2_grpc

from libs.common.abi import ASSEMBLYSCRIPT
from libs.common.access.guard import OpenGuard
from libs.common.channel import open_channel
from libs.common.errors import InvalidArgument, NotFound
from libs.common.ids import uuid7
from libs.common.interceptors import ServerInterceptor
from libs.common.postgres import Database, open_database
from libs.common.queue import COMPILATION_JOBS, COMPILATION_RESULTS, Queue, wakeups
from libs.common.server import start_server
from libs.local.ports import free_ports
from services.compiler import seccomp
from services.compiler import worker as tested
from services.compiler.hot import HotProcesses
from services.compiler.jails import Jails
from services.compiler.languages import Bounds, Compiled, Diagnostic, Failed, Language, Toolchain, ToolchainUnavailable
from services.compiler.languages.assemblyscript import AssemblyScript
from services.compiler.languages.c import C
from services.compiler.languages.prepared import Prepared
from services.compiler.languages.wasm import Wasm
from services.compiler.repository import ArtifactRepository
from services.compiler.servicer import CHUNK_BYTES, CompilerInternalServicer
from services.compiler.worker import Worker, WorkerLimits
from tests.integration.executor.guests import ECHO, answering, guest
from tests.support.processes import descendants, running_process, running_service
from tests.support.proxy import proxied

BOUNDS: Final = Bounds(wall_seconds=60, cpu_seconds=60, memory_bytes=1 << 30, output_bytes=1 << 18, artifact_bytes=8 << 20)
JOBS, RESULTS = Queue(COMPILATION_JOBS), Queue(COMPILATION_RESULTS)
# What results of two jobs differ in, though they come of the same source.
OF_EACH: Final = ("function_id", "queue_ms", "build_ms")
# Far longer than a test.
PATIENT: Final = 60


class FakeLanguage:
    """A language that compiles when a test lets it, to what a test says.

    Attributes:
        fingerprint: Of its toolchain; empty as long as a test wants each source compiled.
        begun, cancelled: How many compilations have.
        outcome: What they end with.
        may_end: Until it is set, they do not end.
    """

    id = "assemblyscript"
    name = "Fake"
    starter = ""

    def __init__(self, outcome: Compiled | Failed | Exception | None = None) -> None:
        self.outcome: Compiled | Failed | Exception = outcome or Compiled(ECHO.wasm, ASSEMBLYSCRIPT, ())
        self.fingerprint = ""
        self.may_end = asyncio.Event()
        self.begun = self.cancelled = self.compiling = self.most_at_once = 0
        self._changed = asyncio.Condition()

    def toolchain(self) -> Toolchain:
        return Toolchain(available=True, version="1", install_hint="", fingerprint=self.fingerprint)

    def set_up(self) -> Sequence[Prepared]:
        return ()

    def prepare(self, bounds: Bounds) -> None:
        """Nothing to do."""

    async def compile(self, source: bytes, bounds: Bounds) -> Compiled | Failed:
        self.begun += 1
        self.compiling += 1
        self.most_at_once = max(self.most_at_once, self.compiling)
        await self._tell()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            await self._tell()
            raise
        finally:
            self.compiling -= 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(condition)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@dataclass(frozen=True)
class Line:
    """The compiler's database, as registries and workers use it."""

    url: str
    database: Database

    async def send(self, source: str = "source", *, version: int = 1, language: str = "assemblyscript") -> int:
        """A job with a source, as the registry sends it."""
        return await self._send({"version": version, "language": language, "source": source})

    async def send_module(self, wasm: bytes) -> int:
        """A job with a prebuilt module, as the registry sends it."""
        return await self._send({"version": 1, "language": "wasm", "wasm": base64.b64encode(wasm).decode()})

    async def _send(self, code: Mapping[str, Any]) -> int:
        job = {"function_id": str(uuid7()), "build": 1, **code}
        async with self.database.transaction() as transaction:
            return await JOBS.send(transaction, job)

    async def results(self) -> list[Mapping[str, Any]]:
        """All that was sent to the registry about builds, in order."""
        rows = await self.database.fetch("SELECT message FROM pgmq.q_compilation_results ORDER BY msg_id")
        return [row["message"] for row in rows if row["message"]["type"] != "LANGUAGES"]

    async def finished(self, count: int = 1) -> list[Mapping[str, Any]]:
        """The results that end jobs, once there are so many."""
        found: list[Mapping[str, Any]] = []

        async def enough() -> bool:
            found[:] = [one for one in await self.results() if one["type"] == "FINISHED"]
            return len(found) >= count

        await self.until(enough)
        return found

    async def job(self, identity: int) -> Any:
        """The state of a job in the queue: how often it was read, and in how many seconds it can be again."""
        return await self.database.fetchrow(
            "SELECT read_ct, extract(epoch FROM vt - clock_timestamp())::float8 AS seconds FROM pgmq.q_compilation_jobs WHERE msg_id = $1",
            identity,
        )

    async def archived(self) -> list[int]:
        """The jobs that are done."""
        return [row["msg_id"] for row in await self.database.fetch("SELECT msg_id FROM pgmq.a_compilation_jobs ORDER BY msg_id")]

    async def digests(self) -> list[str]:
        """The artifacts."""
        return [row["digest"] for row in await self.database.fetch("SELECT digest FROM compiler.artifacts ORDER BY digest")]

    async def lose(self, identity: int) -> None:
        """A job's visibility timeout passes, though its worker lives."""
        await self.database.execute("UPDATE pgmq.q_compilation_jobs SET vt = clock_timestamp() WHERE msg_id = $1", identity)

    async def until(self, condition: Callable[[], Any], seconds: float = 30) -> None:
        """Other connections set no event: looks until it is so."""
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest.fixture
async def line(database_url: str, database: Database) -> Line:
    return Line(database_url, database)


@asynccontextmanager
async def working(
    line: Line,
    language: Language,
    *,
    url: str = "",
    concurrency: int = 2,
    attempts: int = 5,
    visibility: int = PATIENT,
    poll: float = PATIENT,
    lasting: int = 0,
) -> AsyncIterator["asyncio.Task[None]"]:
    """A worker of its own while the block runs."""
    limits = WorkerLimits(concurrency, attempts, visibility, lasting, short_seconds=0.2)
    async with open_database(url or line.url, name="worker") as database, wakeups(url or line.url, JOBS, poll_seconds=poll) as wakeup:
        worker = Worker(ArtifactRepository(database), {language.id: language}, BOUNDS, limits)
        task = asyncio.create_task(worker.run(wakeup))
        try:
            yield task
        finally:
            task.cancel()
            async with asyncio.timeout(20):
                await asyncio.gather(task, return_exceptions=True)


# From a job to its result


async def test_a_job_is_announced_and_then_finished_with_its_artifact(compilers: HotProcesses, line: Line) -> None:
    async with working(line, AssemblyScript(compilers)):
        identity = await line.send("export function handle(input: string): string { return input; }", version=3)
        (result,) = await line.finished()

    digest = result["artifact_digest"]
    wasm = await ArtifactRepository(line.database).find(digest)
    assert wasm is not None
    assert digest == f"sha256:{hashlib.sha256(wasm).hexdigest()}"
    assert (result["status"], result["version"], result["build"], result["abi"]) == ("READY", 3, 1, "assemblyscript")
    assert (result["artifact_bytes"], result["diagnostics"]) == (len(wasm), [])
    assert result["build_ms"] > 0
    assert [one["type"] for one in await line.results()] == ["STARTED", "FINISHED"]
    assert await line.archived() == [identity]


async def test_a_source_that_does_not_compile_has_a_result_and_no_artifact(compilers: HotProcesses, line: Line) -> None:
    async with working(line, AssemblyScript(compilers)):
        await line.send("export function handle(input: string): string {\n  return nope;\n}")
        (result,) = await line.finished()

    assert (result["status"], result["failure_reason"]) == ("FAILED", "COMPILE_ERROR")
    assert result["compile_error"].startswith("2:10: error TS2304: ")
    assert [(one["line"], one["column"], one["code"]) for one in result["diagnostics"]] == [(2, 10, "TS2304")]
    assert await line.digests() == []


async def test_a_prebuilt_module_becomes_the_artifact_as_it_is(line: Line) -> None:
    async with working(line, Wasm()):
        await line.send_module(ECHO.wasm)
        (result,) = await line.finished()

    assert (result["status"], result["abi"], result["artifact_bytes"]) == ("READY", "assemblyscript", len(ECHO.wasm))
    assert await ArtifactRepository(line.database).find(result["artifact_digest"]) == ECHO.wasm


@pytest.mark.parametrize(
    ("wasm", "reason", "code"),
    [
        (b"\xff\0no module", "COMPILE_ERROR", "MALFORMED"),
        (b"\0asm\1\0\0\0", "COMPILE_ERROR", "INVALID_ABI"),
        (guest("(local.get 0)", '(func (export "wide") (param v128))').wasm, "INVALID_MODULE", "INVALID_ABI"),
    ],
)
async def test_a_prebuilt_module_that_cannot_be_run_fails_and_shows_no_bytes(line: Line, wasm: bytes, reason: str, code: str) -> None:
    async with working(line, Wasm()):
        await line.send_module(wasm)
        (result,) = await line.finished()

    assert (result["status"], result["failure_reason"]) == ("FAILED", reason)
    assert [(one["line"], one["column"], one["code"], one["excerpt"]) for one in result["diagnostics"]] == [(1, 1, code, "")]
    assert await line.digests() == []


async def test_a_prebuilt_module_is_looked_at_once(line: Line) -> None:
    async with working(line, Wasm(), concurrency=1):
        await line.send_module(ECHO.wasm)
        await line.send_module(ECHO.wasm)
        first, second = await line.finished(2)

    assert first["artifact_digest"] == second["artifact_digest"]
    assert await line.database.fetchval("SELECT count(*) FROM compiler.builds") == 1


async def test_the_same_bytes_are_kept_once(line: Line) -> None:
    language = FakeLanguage()
    language.may_end.set()

    async with working(line, language):
        for version in (1, 2, 3):
            await line.send(version=version)
        results = await line.finished(3)

    assert {one["artifact_digest"] for one in results} == set(await line.digests())
    assert len(await line.digests()) == 1


async def test_a_module_that_does_not_fit_its_abi_is_refused_whatever_the_compiler_says(line: Line) -> None:
    language = FakeLanguage(Compiled(b"\0asm\1\0\0\0", ASSEMBLYSCRIPT, (Diagnostic("WARNING", 1, 1, None, None, None, "careful", ""),)))
    language.may_end.set()

    async with working(line, language):
        await line.send()
        (result,) = await line.finished()

    assert (result["status"], result["failure_reason"]) == ("FAILED", "INVALID_MODULE")
    assert [one["severity"] for one in result["diagnostics"]] == ["ERROR", "WARNING"]
    assert await line.digests() == []


async def test_so_many_builds_run_at_once_and_no_more(line: Line) -> None:
    language = FakeLanguage()

    async with working(line, language, concurrency=2):
        for _ in range(6):
            await line.send()
        await language.until(lambda: language.begun == 2)
        await asyncio.sleep(0.5)
        language.may_end.set()
        await line.finished(6)

    assert language.most_at_once == 2


async def test_builds_that_last_keep_nobody_waiting(line: Line) -> None:
    language = FakeLanguage()

    async with working(line, language, concurrency=2, lasting=3):
        for _ in range(9):
            await line.send()
        await language.until(lambda: language.begun == 5)
        await asyncio.sleep(0.5)
        begun = language.begun
        language.may_end.set()
        await line.finished(9)

    assert begun == language.most_at_once == 5


async def test_a_worker_is_woken_and_does_not_wait_for_its_next_look(line: Line) -> None:
    language = FakeLanguage()
    language.may_end.set()

    async with working(line, language, poll=PATIENT):
        await line.send()
        await line.finished(1)
        await line.send()

        async with asyncio.timeout(PATIENT / 4):
            await line.finished(2)


async def test_a_job_that_nobody_told_of_is_found_at_the_next_look(line: Line) -> None:
    language = FakeLanguage()
    language.may_end.set()

    async with working(line, language, poll=0.1):
        await asyncio.sleep(0.3)
        job = {"function_id": str(uuid7()), "version": 1, "build": 1, "language": "assemblyscript", "source": ""}
        await line.database.fetchval("SELECT pgmq.send($1, $2::jsonb)", JOBS.name, job)

        await line.finished()


async def test_what_was_told_while_the_connection_was_lost_is_found_when_it_is_back(line: Line) -> None:
    language = FakeLanguage()
    language.may_end.set()

    async with proxied(line.url) as (url, proxy), working(line, language, url=url, poll=PATIENT):
        await line.send()
        await line.finished(1)
        await proxy.cut()
        await line.send()
        await proxy.mend()

        async with asyncio.timeout(PATIENT / 4):
            await line.finished(2)


# A job that is lost, late or given back


async def test_a_build_that_outlasts_its_visibility_keeps_its_job(line: Line) -> None:
    language, other = FakeLanguage(), FakeLanguage()

    async with working(line, language, visibility=1):
        await line.send()
        await language.until(lambda: language.begun == 1)
        async with working(line, other, visibility=1, poll=0.05):
            await asyncio.sleep(2.5)
            language.may_end.set()
            await line.finished()

    assert (language.begun, other.begun) == (1, 0)
    assert [one["type"] for one in await line.results()] == ["STARTED", "FINISHED"]


async def test_a_worker_that_lost_its_job_stops_the_build_and_the_other_finishes_it(line: Line) -> None:
    late, quick = FakeLanguage(), FakeLanguage()

    async with working(line, late, concurrency=1, visibility=2):
        identity = await line.send()
        await late.until(lambda: late.begun == 1)
        async with working(line, quick, poll=0.05):
            await line.lose(identity)
            await quick.until(lambda: quick.begun == 1)
            await late.until(lambda: late.cancelled == 1)
            quick.may_end.set()
            await line.finished()

    assert [one["type"] for one in await line.results()] == ["STARTED", "STARTED", "FINISHED"]
    assert await line.archived() == [identity]


@pytest.mark.parametrize("late_comes", ["before", "after"])
async def test_a_worker_that_is_late_writes_nothing_whether_it_ends_before_or_after_the_other(line: Line, late_comes: str) -> None:
    late, quick = (
        FakeLanguage(Compiled(answering("1").wasm, ASSEMBLYSCRIPT, ())),
        FakeLanguage(Compiled(answering("2").wasm, ASSEMBLYSCRIPT, ())),
    )

    async with working(line, late, concurrency=1):
        identity = await line.send()
        await late.until(lambda: late.begun == 1)
        async with working(line, quick, poll=0.05):
            await line.lose(identity)
            await quick.until(lambda: quick.begun == 1)
            for language in (late, quick) if late_comes == "before" else (quick, late):
                language.may_end.set()
                await line.until(partial(_ended, language))
            (result,) = await line.finished()

    assert result["artifact_digest"] == f"sha256:{hashlib.sha256(answering('2').wasm).hexdigest()}"
    assert await line.digests() == [result["artifact_digest"]]
    assert [one["type"] for one in await line.results()] == ["STARTED", "STARTED", "FINISHED"]
    assert await line.archived() == [identity]


async def _told(line: Line, type_: str) -> bool:
    return type_ in [one["type"] for one in await line.results()]


async def _ended(language: FakeLanguage) -> bool:
    return language.compiling == 0


async def test_a_job_that_is_read_more_often_than_it_may_has_failed_and_is_not_built(line: Line) -> None:
    language = FakeLanguage()
    identity = await line.send()
    for _ in range(2):
        await JOBS.read(line.database, visibility_seconds=0, most=1)

    async with working(line, language, attempts=2):
        (result,) = await line.finished()

    assert (result["status"], result["failure_reason"]) == ("FAILED", "ATTEMPTS_EXHAUSTED")
    assert "died 2 times" in result["compile_error"]
    assert (language.begun, await line.archived(), await JOBS.length(line.database)) == (0, [identity], 0)
    assert len(await line.results()) == 1


async def test_a_job_that_is_read_as_often_as_it_may_is_still_built(line: Line) -> None:
    language = FakeLanguage()
    language.may_end.set()
    await line.send()
    await JOBS.read(line.database, visibility_seconds=0, most=1)

    async with working(line, language, attempts=2):
        (result,) = await line.finished()

    assert result["status"] == "READY"


@pytest.mark.parametrize("deaths", [0, 1, 3])
async def test_a_job_waits_the_longer_the_more_compilers_have_died_with_it(line: Line, deaths: int) -> None:
    language = FakeLanguage()
    identity = await line.send()
    for _ in range(deaths):
        await JOBS.read(line.database, visibility_seconds=0, most=1)

    async with working(line, language):
        await language.until(lambda: language.begun == 1)

        async def is_held() -> bool:
            return bool(PATIENT * deaths < (await line.job(identity))["seconds"] <= PATIENT * (deaths + 1))

        await line.until(is_held)


@pytest.mark.parametrize("language_of_job", ["assemblyscript", "cobol"])
async def test_a_job_that_cannot_be_built_here_is_given_back_uncounted_and_has_not_failed(line: Line, language_of_job: str) -> None:
    language = FakeLanguage(ToolchainUnavailable("no Node"))
    language.may_end.set()

    async with working(line, language):
        identity = await line.send(language=language_of_job)

        async def given_back() -> bool:
            job = await line.job(identity)
            return bool(await line.results()) and job["read_ct"] == 0

        await line.until(given_back)

    assert 0 < (await line.job(identity))["seconds"] <= tested.RETRY_SECONDS
    assert [one["type"] for one in await line.results()] == ["STARTED"]


async def test_a_job_that_was_given_back_is_built_once_the_toolchain_is_there(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "RETRY_SECONDS", 0.2)
    language = FakeLanguage(ToolchainUnavailable("no Node"))
    language.may_end.set()

    async with working(line, language, attempts=1, poll=0.1):
        await line.send()
        await language.until(lambda: language.begun == 3)
        language.outcome = Compiled(ECHO.wasm, ASSEMBLYSCRIPT, ())
        (result,) = await line.finished()

    assert result["status"] == "READY"


async def test_a_fault_of_the_worker_lets_the_job_come_back_and_counts(line: Line) -> None:
    language = FakeLanguage(RuntimeError("a bug"))
    language.may_end.set()

    async with working(line, language, attempts=2, visibility=1, poll=0.1):
        await line.send()
        (result,) = await line.finished()

    assert result["failure_reason"] == "ATTEMPTS_EXHAUSTED"
    assert language.begun == 2


async def test_a_worker_that_is_stopped_gives_its_jobs_back_at_once_and_stops_their_builds(line: Line) -> None:
    language, next_one = FakeLanguage(), FakeLanguage()
    next_one.may_end.set()
    async with working(line, language) as worker:
        identities = [await line.send(), await line.send()]
        await language.until(lambda: language.begun == 2)

        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

        jobs = [await line.job(identity) for identity in identities]
    assert [job["read_ct"] for job in jobs] == [0, 0]
    assert all(job["seconds"] <= 0 for job in jobs)
    assert language.cancelled == 2
    async with working(line, next_one, attempts=1):
        assert [one["status"] for one in await line.finished(2)] == ["READY", "READY"]


# A database that is away


async def test_a_build_that_ends_while_the_database_is_away_is_told_when_it_is_back(line: Line) -> None:
    language = FakeLanguage()

    async with proxied(line.url) as (url, proxy), working(line, language, url=url):
        identity = await line.send()
        await language.until(lambda: language.begun == 1)
        await line.until(lambda: _told(line, "STARTED"))
        await proxy.cut()
        language.may_end.set()
        await line.until(lambda: _ended(language))
        await asyncio.sleep(0.2)
        assert [one["type"] for one in await line.results()] == ["STARTED"]

        await proxy.mend()
        (result,) = await line.finished()

    assert (result["status"], language.begun) == ("READY", 1)
    assert await line.archived() == [identity]


async def test_a_worker_goes_on_when_the_database_is_back(line: Line) -> None:
    language = FakeLanguage()
    language.may_end.set()

    async with proxied(line.url) as (url, proxy), working(line, language, url=url, poll=0.05) as worker:
        await line.send()
        await line.finished(1)
        await proxy.cut()
        await line.send()
        await asyncio.sleep(0.3)
        assert not worker.done()

        await proxy.mend()
        await line.finished(2)


# The service


async def test_a_service_that_is_killed_in_a_build_leaves_no_process_and_another_finishes_the_build(line: Line, home: Path) -> None:
    settings = {"KILN_DATABASE_URL": line.url, "KILN_COMPILER_VISIBILITY_SECONDS": "3", "KILN_COMPILER_POLL_SECONDS": "0.1"}
    address, log = f"127.0.0.1:{free_ports(1)[0]}", home / "killed-compiler.log"
    with running_process("compiler", address, log, KILN_LISTEN_ADDRESS=address, **settings) as service:
        identity = await line.send("export function handle(input: string): string { return input; }")
        build = await suspended_build(line, service)

        service.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, build, 10)

        assert (await line.job(identity))["read_ct"] == 1
    assert alive == []
    assert [one["type"] for one in await line.results()] == ["STARTED"]
    with running_service("compiler", home / "second-compiler.log", **settings):
        (result,) = await line.finished()
    assert result["status"] == "READY"


async def test_a_service_that_is_told_to_stop_gives_its_build_back_and_leaves_no_process(line: Line, home: Path) -> None:
    address, log = f"127.0.0.1:{free_ports(1)[0]}", home / "stopped-compiler.log"
    settings = {"KILN_DATABASE_URL": line.url, "KILN_LISTEN_ADDRESS": address}
    with running_process("compiler", address, log, **settings) as service:
        identity = await line.send("export function handle(input: string): string { return input; }")
        build = await suspended_build(line, service)

        service.terminate()
        _, alive = await asyncio.to_thread(psutil.wait_procs, [service, *build], 10)

    job = await line.job(identity)
    assert alive == []
    assert job["read_ct"] == 0
    assert job["seconds"] <= 0


# Long enough to be met in the middle.
LONG_IN_C: Final = """#if __INCLUDE_LEVEL__ < 17
#include __FILE__
#include __FILE__
#endif
#if __INCLUDE_LEVEL__ == 0
char *handle(const char *input) { return (char *)input; }
#endif
"""


@pytest.mark.parametrize("victim", ["bwrap", "driver", "clang"])
async def test_a_build_of_which_any_process_is_killed_is_built_all_the_same(compilers: HotProcesses, line: Line, victim: str) -> None:
    language = C(compilers)
    if hint := language.toolchain().install_hint:
        pytest.skip(hint)
    wanted = await language.compile(LONG_IN_C.encode(), BOUNDS)
    assert isinstance(wanted, Compiled)

    async with working(line, language):
        await line.send(LONG_IN_C, language="c")
        (await part_of_a_build(victim)).kill()
        (result,) = await line.finished()

    assert (result["status"], result["artifact_digest"]) == ("READY", f"sha256:{hashlib.sha256(wanted.wasm).hexdigest()}")
    assert [one["type"] for one in await line.results()] == ["STARTED", "FINISHED"]


async def part_of_a_build(name: str) -> psutil.Process:
    """The outermost process of a name in the build of a C source, once its compiler is at work."""
    while True:
        found: dict[str, psutil.Process] = {}
        for one in descendants(os.getpid()):
            with suppress(psutil.Error, IndexError):
                command = one.cmdline()
                kinds = {"bwrap": command[0].endswith("/bwrap"), "driver": command[1:3] == ["-I", "-S"], "clang": command[1:2] == ["clang"]}
                for kind in (kind for kind, is_one in kinds.items() if is_one):
                    found.setdefault(kind, one)
        if "clang" in found:
            return found[name]
        await asyncio.sleep(0.01)


async def test_a_job_waits_while_there_is_no_jail_and_is_built_once_there_is(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "RETRY_SECONDS", 0.2)
    with monkeypatch.context() as away:
        away.setattr(seccomp, "supported", lambda: False)
        async with HotProcesses(Jails("auto"), spare=0) as hot, working(line, AssemblyScript(hot), attempts=1, poll=0.1):
            await line.send("export function handle(input: string): string { return input; }")

            async def begun_thrice() -> bool:
                return len(await line.results()) >= 3

            await line.until(begun_thrice)
            assert {one["type"] for one in await line.results()} == {"STARTED"}

            away.undo()
            (result,) = await line.finished()

    assert result["status"] == "READY"


async def suspended_build(line: Line, service: psutil.Process) -> list[psutil.Process]:
    """The processes of a compiler whose build, of a source sent before, is made to last for ever."""
    await asyncio.to_thread(_suspend_compilers, service)
    await line.until(line.results)
    return list(descendants(service.pid))


def _suspend_compilers(service: psutil.Process) -> None:
    """Suspends every compiler that is kept, once there is one, and those that come meanwhile."""
    give_up, found = time.monotonic() + 20, False
    while not found and time.monotonic() < give_up:
        for process in descendants(service.pid):
            with suppress(psutil.NoSuchProcess):
                if (command := process.cmdline()) and command[0].endswith("/node"):
                    process.suspend()
                    found = True
    assert found, "no compiler came"


# Artifacts


@asynccontextmanager
async def serving(database: Database) -> AsyncIterator["compiler_pb2_grpc.CompilerInternalAsyncStub"]:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    register = partial(compiler_pb2_grpc.add_CompilerInternalServicer_to_server, CompilerInternalServicer(ArtifactRepository(database)))
    server = await start_server(address, [register], services=[], around=ServerInterceptor(OpenGuard(), max_concurrent=10))
    try:
        async with open_channel(address, None) as channel:
            yield compiler_pb2_grpc.CompilerInternalStub(channel)
    finally:
        await server.stop(0)


@pytest.mark.parametrize("size", [1, CHUNK_BYTES, CHUNK_BYTES + 1, 8 << 20])
async def test_an_artifact_comes_in_chunks_and_whole(line: Line, size: int) -> None:
    wasm = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    async with line.database.transaction() as transaction:
        digest = await ArtifactRepository(line.database).insert(transaction, wasm)

    async with serving(line.database) as stub:
        chunks = [answer.chunk async for answer in stub.GetArtifact(pb.GetArtifactRequest(digest=digest))]

    assert b"".join(chunks) == wasm
    assert {len(chunk) for chunk in chunks[:-1]} <= {CHUNK_BYTES}


@pytest.mark.parametrize(
    ("digest", "kind"),
    [("sha256:" + "0" * 64, NotFound), ("sha256:" + "0" * 63, InvalidArgument), ("0" * 64, InvalidArgument), ("", InvalidArgument)],
)
async def test_an_artifact_that_is_not_there_is_told_apart_from_what_is_no_digest(line: Line, digest: str, kind: type[Exception]) -> None:
    async with serving(line.database) as stub:
        with pytest.raises(kind):
            async for _ in stub.GetArtifact(pb.GetArtifactRequest(digest=digest)):
                pass


# What was built before


def remembered(outcome: Compiled | Failed | Exception | None = None) -> FakeLanguage:
    """A language whose builds end at once and are remembered."""
    language = FakeLanguage(outcome)
    language.fingerprint = "toolchain 1"
    language.may_end.set()
    return language


async def test_the_same_source_is_compiled_once_whoever_sends_it(line: Line) -> None:
    warning = Diagnostic("WARNING", 1, 2, None, None, None, "careful", "x")
    language = remembered(Compiled(ECHO.wasm, ASSEMBLYSCRIPT, (warning,)))

    async with working(line, language, concurrency=1):
        await line.send("the same")
        await line.send("the same")
        first, second = await line.finished(2)

    assert language.begun == 1
    assert {name: first[name] for name in first if name not in OF_EACH} == {name: second[name] for name in second if name not in OF_EACH}
    assert (second["status"], second["artifact_bytes"], second["abi"]) == ("READY", len(ECHO.wasm), "assemblyscript")
    assert [one["message"] for one in second["diagnostics"]] == ["careful"]


@pytest.mark.parametrize("change", ["source", "toolchain", "bound"])
async def test_what_a_module_depends_on_makes_it_another_build(line: Line, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    language = remembered()
    async with working(line, language):
        await line.send("one")
        await line.finished()
    if change == "toolchain":
        language.fingerprint = "toolchain 2"
    if change == "bound":
        monkeypatch.setitem(globals(), "BOUNDS", replace(BOUNDS, artifact_bytes=1 << 20))

    async with working(line, language):
        await line.send("another" if change == "source" else "one")
        await line.finished(2)

    assert language.begun == 2


async def test_a_build_during_which_the_toolchain_is_exchanged_is_not_remembered(line: Line) -> None:
    language = remembered()
    language.may_end.clear()
    async with working(line, language):
        await line.send("one")
        await language.until(lambda: language.begun == 1)
        language.fingerprint = "toolchain 2"
        language.may_end.set()
        await line.finished()
        await line.send("one")
        await line.finished(2)

    assert language.begun == 2


@pytest.mark.parametrize(
    "outcome",
    [
        Failed("COMPILE_ERROR", (Diagnostic("ERROR", 1, 1, None, None, None, "no", ""),)),
        Failed("COMPILE_TIMEOUT", (Diagnostic("ERROR", 1, 1, None, None, None, "slow", ""),)),
        Compiled(b"no module", ASSEMBLYSCRIPT, ()),
    ],
    ids=["refused", "too slow", "unusable"],
)
async def test_a_build_that_made_no_module_is_not_remembered(line: Line, outcome: Compiled | Failed) -> None:
    language = remembered(outcome)

    async with working(line, language, concurrency=1):
        await line.send("one")
        await line.send("one")
        results = await line.finished(2)

    assert [one["status"] for one in results] == ["FAILED", "FAILED"]
    assert language.begun == 2


async def test_the_real_compiler_is_asked_once_for_a_source(compilers: HotProcesses, line: Line) -> None:
    language = AssemblyScript(compilers)

    async with working(line, language, concurrency=1):
        await line.send(language.starter)
        await line.send(language.starter)
        first, second = await line.finished(2)

    assert first["artifact_digest"] == second["artifact_digest"]
    assert await line.database.fetchval("SELECT count(*) FROM compiler.builds") == 1
