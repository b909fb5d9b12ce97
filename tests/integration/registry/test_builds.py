"""Builds from the caller to the live version: registry and compiler with one queue between them, and a language that a test plays."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from libs.common.abi import ASSEMBLYSCRIPT
from libs.common.queue import COMPILATION_JOBS, COMPILATION_RESULTS, Queue, Wakeup
from services.compiler import worker as module
from services.compiler.build import Built
from services.compiler.languages import Bounds, Language, ToolchainUnavailable
from services.compiler.repository import ArtifactRepository, digest_of
from services.compiler.worker import Worker, WorkerLimits
from services.registry.functions import Function
from services.registry.repository import FunctionRepository
from services.registry.results import Results
from tests.support.registry import World, postgres_world
from tests.support.waiting import until

JOBS, RESULTS = Queue(COMPILATION_JOBS), Queue(COMPILATION_RESULTS)
BOUNDS = Bounds(10, 10, 1 << 30, 1 << 16, 1 << 20)
MAX_ATTEMPTS = 3

Building = Callable[[str], Awaitable[bytes]]


async def at_once(source: str) -> bytes:
    """A build that works."""
    return f"module of {source}".encode()


async def never(source: str) -> bytes:
    """A build that does not end."""
    return await asyncio.Future[bytes]()


class Pipeline(World):
    """An installation with compilers that build as a test says."""

    repository: FunctionRepository

    @asynccontextmanager
    async def compiler(self, building: Building, *, visibility_seconds: int = 60, concurrency: int = 1) -> AsyncIterator[None]:
        """A compiler while the block runs; at its end it is told to stop, and stops in order."""
        task = asyncio.create_task(self.worker(building, visibility_seconds, concurrency).run(Wakeup(0.02)))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def worker(self, building: Building, visibility_seconds: int, concurrency: int) -> Worker:
        """A compiler."""
        languages = {"assemblyscript": cast(Language, building)}
        limits = WorkerLimits(concurrency, MAX_ATTEMPTS, visibility_seconds)
        return Worker(ArtifactRepository(self.repository.database), languages, BOUNDS, limits)

    async def apply_results(self) -> None:
        """The registry applies what has come."""
        while await Results(self.repository).apply_waiting():
            pass

    async def until_status(self, function: Function, status: str, number: int = 1) -> None:
        """Returns once a version has that status."""

        async def reached() -> bool:
            await self.apply_results()
            return (await self.functions.get_version(str(function.id), number))[1].status == status

        await until(reached)

    async def expire_jobs(self) -> None:
        """The visibility timeout of every job passes."""
        await self.repository.database.execute("UPDATE pgmq.q_compilation_jobs SET vt = clock_timestamp() - interval '1 ms'")

    async def value(self, query: str) -> Any:
        """One value of the database."""
        return await self.repository.database.fetchval(query)

    async def taken(self) -> bool:
        """Whether a compiler holds a job."""
        return bool(await self.value("SELECT EXISTS (SELECT FROM pgmq.q_compilation_jobs WHERE vt > clock_timestamp())"))


@pytest.fixture
async def pipeline(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pipeline]:
    """An installation without functions."""

    async def build(building: Any, source: bytes, bounds: Bounds, *, key: str | None) -> Built:
        return Built(await building(source.decode()), ASSEMBLYSCRIPT.name, [], key)

    monkeypatch.setattr(module, "build", build)
    monkeypatch.setattr(module, "key_of", lambda *_: None)
    async with postgres_world(database_url) as world:
        yield Pipeline(world.repository, world.broker)


async def test_a_source_becomes_the_live_version_and_leaves_both_queues_empty(pipeline: Pipeline) -> None:
    function = await pipeline.create(source="one")

    async with pipeline.compiler(at_once):
        await pipeline.until_status(function, "READY")

    version = (await pipeline.functions.get_version("greet", 1))[1]
    assert version.artifact_digest == digest_of(b"module of one")
    assert await ArtifactRepository(pipeline.repository.database).find(version.artifact_digest) == b"module of one"
    assert (await pipeline.functions.get("greet")).live_version == 1
    assert [await queue.length(pipeline.repository.database) for queue in (JOBS, RESULTS)] == [0, 0]


async def test_a_job_that_is_delivered_twice_has_one_result(pipeline: Pipeline) -> None:
    function = await pipeline.create()
    may_end = asyncio.Event()

    async def when_told(source: str) -> bytes:
        await may_end.wait()
        return await at_once(source)

    async with pipeline.compiler(when_told), pipeline.compiler(when_told):
        await until(pipeline.taken)
        await pipeline.expire_jobs()
        await until(lambda: read_twice(pipeline))
        may_end.set()
        await pipeline.until_status(function, "READY")

    finished = "SELECT count(*) FROM pgmq.{}_compilation_results WHERE message ->> 'type' = 'FINISHED'"
    assert [await pipeline.value(finished.format(table)) for table in "qa"] == [0, 1]


async def read_twice(pipeline: Pipeline) -> bool:
    return bool(await pipeline.value("SELECT max(read_ct) = 2 FROM pgmq.q_compilation_jobs"))


async def test_a_compiler_that_was_thought_dead_writes_nothing(pipeline: Pipeline) -> None:
    function = await pipeline.create(source="one")
    may_end = asyncio.Event()

    async def late(source: str) -> bytes:
        await may_end.wait()
        return f"late module of {source}".encode()

    async with pipeline.compiler(late):
        await until(pipeline.taken)
        await pipeline.expire_jobs()
        async with pipeline.compiler(at_once):
            await pipeline.until_status(function, "READY")
        may_end.set()
        # It builds one at a time: with this it is done with that.
        await pipeline.until_status(await pipeline.create("next", "two"), "READY")

    kept = await pipeline.repository.database.fetch("SELECT wasm FROM compiler.artifacts ORDER BY created_at")
    assert [row["wasm"] for row in kept] == [b"module of one", b"late module of two"]
    assert (await pipeline.functions.get_version("greet", 1))[1].artifact_digest == digest_of(b"module of one")


async def test_a_build_that_takes_longer_than_the_visibility_timeout_is_kept_from_others(pipeline: Pipeline) -> None:
    function = await pipeline.create()
    built: list[str] = []

    async def slow(source: str) -> bytes:
        built.append(source)
        await asyncio.sleep(2.5)
        return await at_once(source)

    async with pipeline.compiler(slow, visibility_seconds=1), pipeline.compiler(slow, visibility_seconds=1):
        await pipeline.until_status(function, "READY")

    assert built == ["one"]


async def test_a_compiler_that_lost_its_job_stops_building(pipeline: Pipeline) -> None:
    await pipeline.create()
    stopped = asyncio.Event()

    async def build_until_stopped(source: str) -> bytes:
        try:
            return await never(source)
        finally:
            stopped.set()

    async with pipeline.compiler(build_until_stopped, visibility_seconds=1):
        await until(pipeline.taken)
        await pipeline.repository.database.execute(
            "UPDATE pgmq.q_compilation_jobs SET read_ct = read_ct + 1, vt = clock_timestamp() + interval '1 hour'"
        )

        await asyncio.wait_for(stopped.wait(), 10)


async def test_a_source_that_kills_its_compiler_again_and_again_fails_in_the_end(pipeline: Pipeline) -> None:
    function = await pipeline.create()

    for _ in range(MAX_ATTEMPTS):
        # A compiler that dies after it has read the job says no more about it.
        assert len(await JOBS.read(pipeline.repository.database, visibility_seconds=60, most=1)) == 1
        await pipeline.expire_jobs()
    async with pipeline.compiler(never):
        await pipeline.until_status(function, "FAILED")

    version = (await pipeline.functions.get_version("greet", 1))[1]
    assert (version.failure_reason, f"died {MAX_ATTEMPTS} times" in version.compile_error) == ("ATTEMPTS_EXHAUSTED", True)
    assert await JOBS.length(pipeline.repository.database) == 0


async def test_a_compiler_that_stops_gives_its_job_back_at_once_and_uncounted(pipeline: Pipeline) -> None:
    function = await pipeline.create()
    for _ in range(MAX_ATTEMPTS + 1):
        async with pipeline.compiler(never):
            await until(pipeline.taken)
        assert not await pipeline.taken()

    async with pipeline.compiler(at_once):
        await pipeline.until_status(function, "READY")


async def test_a_compiler_without_its_toolchain_fails_no_version(pipeline: Pipeline) -> None:
    function = await pipeline.create()
    tried = asyncio.Event()

    async def unavailable(source: str) -> bytes:
        tried.set()
        raise ToolchainUnavailable("not installed")

    async with pipeline.compiler(unavailable):
        await asyncio.wait_for(tried.wait(), 10)
    await pipeline.expire_jobs()
    async with pipeline.compiler(at_once):
        await pipeline.until_status(function, "READY")


async def test_a_newer_source_overtakes_a_slow_one_and_stays(pipeline: Pipeline) -> None:
    may_end = asyncio.Event()

    async def first_is_slow(source: str) -> bytes:
        if source == "one":
            await may_end.wait()
        return await at_once(source)

    async with pipeline.compiler(first_is_slow, concurrency=2):
        function = await pipeline.create(source="one")
        await until(pipeline.taken)
        await pipeline.update(function, source="two")
        await pipeline.until_status(function, "READY", 2)
        may_end.set()
        await pipeline.until_status(function, "READY", 1)

    assert (await pipeline.functions.get("greet")).live_version == 2
