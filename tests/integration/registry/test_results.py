"""Results and upkeep on a real queue: each result acts once, and no build is lost."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from libs.common.ids import uuid7
from libs.common.postgres import Database
from libs.common.queue import COMPILATION_JOBS, COMPILATION_RESULTS, Message, Queue
from libs.common.sealing import Sealer
from services.registry.environment_repository import EnvironmentRepository
from services.registry.functions import Function
from services.registry.repository import FunctionRepository
from services.registry.results import MAX_READS, Results
from services.registry.sweeper import Sweeper
from services.registry.vault import Vault
from tests.support.registry import World, failed, postgres_world, ready, started

JOBS, RESULTS = Queue(COMPILATION_JOBS), Queue(COMPILATION_RESULTS)


class Registry(World):
    """The domain on PostgreSQL with its background work, a step at a time."""

    repository: FunctionRepository

    @property
    def database(self) -> Database:
        """Where everything is."""
        return self.repository.database

    @property
    def results(self) -> Results:
        """What applies results."""
        return Results(self.repository)

    async def send(self, *bodies: Any) -> None:
        """Results as the compiler sends them."""
        async with self.database.transaction() as transaction:
            for body in bodies:
                await RESULTS.send(transaction, body)

    async def sweep(self, *, lost_after: float = 0, tombstones: float = 3600, archive: float = 3600) -> None:
        """One round of upkeep."""
        environments, vault = EnvironmentRepository(self.database), Vault(Sealer([bytes(32)]))
        spans = {"lost_after_seconds": lost_after, "tombstone_seconds": tombstones, "archive_seconds": archive}
        await Sweeper(self.repository, environments, vault, **spans).sweep()

    async def redeliver(self, queue: Queue) -> None:
        """The visibility timeout of every message passes."""
        await self.database.execute(f"UPDATE pgmq.q_{queue.name} SET vt = clock_timestamp()")

    async def archived(self, queue: Queue) -> int:
        """How many messages were acknowledged."""
        count: int = await self.database.fetchval(f"SELECT count(*) FROM pgmq.a_{queue.name}")
        return count

    async def lose_job(self) -> None:
        """Every job is gone without a result."""
        await self.database.execute(f"DELETE FROM pgmq.q_{COMPILATION_JOBS}")

    async def rows(self, table: str) -> int:
        """How many rows a table has."""
        count: int = await self.database.fetchval(f"SELECT count(*) FROM {table}")
        return count

    async def status(self, function: Function, number: int = 1) -> str:
        """Of a version."""
        return (await self.functions.get_version(str(function.id), number))[1].status


@pytest.fixture
async def registry(database_url: str) -> AsyncIterator[Registry]:
    """An installation without functions."""
    async with postgres_world(database_url) as world:
        yield Registry(world.repository, world.broker)


# Results


async def test_a_result_is_applied_and_archived_together(registry: Registry) -> None:
    function = await registry.create()
    await registry.send(started(function.id, 1), ready(function.id, 1))

    assert await registry.results.apply_waiting() == 2

    assert (await registry.functions.get("greet")).live_version == 1
    assert (await RESULTS.length(registry.database), await registry.archived(RESULTS)) == (0, 2)


async def test_a_result_delivered_twice_acts_once(registry: Registry) -> None:
    function = await registry.create()
    await registry.send(ready(function.id, 1), ready(function.id, 1), failed(function.id, 1))

    while await registry.results.apply_waiting():
        pass

    assert await registry.status(function) == "READY"
    assert await RESULTS.length(registry.database) == 0


async def test_a_registry_that_was_thought_dead_applies_nothing_any_more(registry: Registry) -> None:
    function = await registry.create()
    await registry.send(ready(function.id, 1))
    (stale,) = await RESULTS.read(registry.database, visibility_seconds=60, most=1)
    await registry.redeliver(RESULTS)
    (held,) = await RESULTS.read(registry.database, visibility_seconds=60, most=1)

    await registry.results._apply_one(stale)
    before = await registry.status(function)
    await registry.results._apply_one(held)

    assert (before, await registry.status(function)) == ("PENDING", "READY")


async def test_two_registries_that_apply_at_once_apply_everything_once(registry: Registry) -> None:
    functions = [await registry.create(f"f{number}") for number in range(20)]
    await registry.send(*(result(one.id, 1) for one in functions for result in (started, ready)))

    await asyncio.gather(*(registry.results.apply_waiting() for _ in range(4)))

    assert [await registry.status(one) for one in functions] == ["READY"] * 20
    assert await registry.archived(RESULTS) == 40


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": "FINISHED"},
        {"type": "FINISHED", "function_id": "no id", "version": 1, "build": 1},
        {"type": "FINISHED", "status": "READY", "function_id": str(uuid7()), "version": "x", "build": 1},
    ],
)
async def test_a_result_that_cannot_be_applied_holds_up_no_other(registry: Registry, body: Any) -> None:
    function = await registry.create()
    await registry.send(body, ready(function.id, 1))

    await registry.results.apply_waiting()

    assert await registry.status(function) == "READY"
    assert await RESULTS.length(registry.database) == 1


async def test_a_result_that_breaks_a_rule_of_the_database_changes_nothing_and_is_dropped_in_the_end(registry: Registry) -> None:
    function = await registry.create()
    await registry.send(ready(function.id, 1) | {"artifact_digest": None})

    for _ in range(MAX_READS):
        await registry.results.apply_waiting()
        await registry.redeliver(RESULTS)
    kept = await RESULTS.length(registry.database)
    await registry.results.apply_waiting()

    assert (kept, await RESULTS.length(registry.database)) == (1, 0)
    assert await registry.status(function) == "PENDING"


# Lost builds


async def test_a_build_without_its_job_is_sent_again_once(registry: Registry) -> None:
    function = await registry.create()
    await registry.lose_job()

    await asyncio.gather(*(registry.sweep() for _ in range(3)))
    await registry.sweep()

    assert [(job["version"], job["build"], job["source"]) for job in await registry.broker.jobs()] == [(1, 1, "one")]
    assert await registry.ready(function, 1)


async def test_a_prebuilt_module_without_its_job_is_sent_again_whole(registry: Registry) -> None:
    await registry.create(source=None, language="wasm", wasm=b"\0asm\xff")
    (sent,) = await registry.broker.jobs()
    await registry.lose_job()

    await registry.sweep()

    assert await registry.broker.jobs() == [sent]


async def test_a_build_that_began_and_lost_its_job_is_sent_again_too(registry: Registry) -> None:
    function = await registry.create()
    await registry.started(function, 1)
    await registry.lose_job()

    await registry.sweep()

    assert len(await registry.broker.jobs()) == 1


async def test_a_build_whose_job_or_result_is_on_its_way_is_not_sent_again(registry: Registry) -> None:
    await registry.create("waiting")
    await registry.create("taken")
    finished = await registry.create("finished")
    jobs = await JOBS.read(registry.database, visibility_seconds=600, most=3)
    await registry.database.execute("UPDATE pgmq.q_compilation_jobs SET vt = clock_timestamp() WHERE msg_id = $1", jobs[0].id)
    async with registry.database.transaction() as transaction:
        assert await JOBS.archive(transaction, of_function(jobs, finished))
        await RESULTS.send(transaction, ready(finished.id, 1))

    await registry.sweep()

    assert len(await registry.broker.jobs()) == 2


async def test_a_build_that_was_queued_just_now_is_not_lost_yet(registry: Registry) -> None:
    await registry.create()
    await registry.lose_job()

    await registry.sweep(lost_after=3600)

    assert await registry.broker.jobs() == []


async def test_builds_that_ended_or_whose_function_is_deleted_are_not_sent_again(registry: Registry) -> None:
    await registry.created_ready("built")
    await registry.failed(await registry.create("refused"), 1)
    await registry.create("deleted")
    await registry.broker.take_job()
    await registry.functions.delete("deleted")
    await registry.lose_job()

    await registry.sweep()

    assert await registry.broker.jobs() == []


async def test_a_version_built_again_is_sent_again_as_that_build(registry: Registry) -> None:
    function = await registry.create()
    await registry.failed(function, 1)
    await registry.functions.build_again("greet", 1)
    await registry.lose_job()

    await registry.sweep()

    assert [job["build"] for job in await registry.broker.jobs()] == [2]


async def test_a_result_that_was_dropped_leads_to_another_build(registry: Registry) -> None:
    function = await registry.create()
    await registry.lose_job()
    await registry.send(ready(function.id, 1) | {"abi": None})
    await registry.database.execute("UPDATE pgmq.q_compilation_results SET read_ct = $1", MAX_READS)

    await registry.sweep()
    before = len(await registry.broker.jobs())
    await registry.results.apply_waiting()
    await registry.sweep()

    assert (before, len(await registry.broker.jobs())) == (0, 1)


# What goes


async def test_versions_of_deleted_functions_go_and_their_tombstones_later(registry: Registry) -> None:
    kept = await registry.created_ready("kept")
    deleted = await registry.created_ready("deleted")
    await registry.database.execute(
        "INSERT INTO registry.versions (function_id, version, language, source, created_by, status) "
        "SELECT $1, number, 'assemblyscript', 'x', '', 'PENDING' FROM generate_series(2, 1300) AS number",
        deleted.id,
    )
    await registry.functions.delete("deleted")

    await registry.sweep()
    versions, tombstones = await registry.rows("registry.versions"), await registry.rows("registry.functions")
    await registry.sweep(tombstones=0)

    assert (versions, tombstones) == (1, 2)
    assert [one.id for one in await registry.repository.watched_functions()] == [kept.id]


async def test_a_tombstone_that_executors_may_not_have_seen_stays(registry: Registry) -> None:
    await registry.created_ready()
    await registry.functions.delete("greet")

    await registry.sweep(tombstones=3600)

    (seen,) = await registry.repository.watched_functions()
    assert (seen.deleted, seen.live_version) == (True, None)


async def test_finished_messages_are_forgotten_after_their_time(registry: Registry) -> None:
    function = await registry.create()
    await registry.update(function, source="two")
    await registry.send(ready(function.id, 2))
    await registry.results.apply_waiting()

    await registry.sweep()
    before = await registry.archived(JOBS), await registry.archived(RESULTS)
    await registry.sweep(archive=0)

    assert before == (1, 1)
    assert (await registry.archived(JOBS), await registry.archived(RESULTS)) == (0, 0)
    assert len(await registry.broker.jobs()) == 1


def of_function(messages: Any, function: Function) -> Message:
    (found,) = [one for one in messages if one.body["function_id"] == str(function.id)]
    message: Message = found
    return message
