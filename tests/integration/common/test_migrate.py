"""Migrations run once, in order, all or nothing, however many services start at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

from libs.common.migrate import BrokenMigrations, install_queues, migrate
from libs.common.postgres import Database, open_database
from libs.common.queue import AUDIT_EVENTS, COMPILATION_JOBS, COMPILATION_RESULTS, Queue
from tests.support.databases import MIGRATIONS, install
from tests.support.postgres import TestPostgres
from tests.support.waiting import until


@pytest.fixture
async def empty_url(postgres: TestPostgres) -> str:
    """A database with nothing in it."""
    return await postgres.new_database()


@pytest.fixture
async def empty(empty_url: str) -> AsyncIterator[Database]:
    """A pool of connections to it."""
    async with open_database(empty_url, name="test") as database:
        yield database


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two migrations, of which the second needs the first."""
    write(tmp_path, "0001_create_things.sql", "CREATE TABLE shop.things (id integer PRIMARY KEY);")
    write(tmp_path, "0002_fill_things.sql", "INSERT INTO shop.things VALUES (1); INSERT INTO shop.things VALUES (2);")
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")


async def things(database: Database) -> Sequence[int]:
    return [row["id"] for row in await database.fetch("SELECT id FROM shop.things ORDER BY id")]


async def applied(database: Database, schema: str = "shop") -> Sequence[tuple[str, object]]:
    rows = await database.fetch(f"SELECT name, applied_at FROM {schema}.migrations ORDER BY name")
    return [(row["name"], row["applied_at"]) for row in rows]


async def objects(database: Database) -> Sequence[object]:
    """Everything that has a name in the database, by identity: what was made anew is another."""
    rows = await database.fetch(
        "SELECT oid, relname AS name, xmin::text FROM pg_class UNION ALL SELECT oid, proname, xmin::text FROM pg_proc "
        "UNION ALL SELECT oid, nspname, xmin::text FROM pg_namespace ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows if not str(row["name"]).startswith("pg_")]


async def exists(database: Database, name: str) -> bool:
    return await database.fetchval("SELECT to_regclass($1) IS NOT NULL", name) is True


async def sleeps(database: Database) -> bool:
    return bool(await database.fetchval("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"))


async def refusal(database: Database, folder: Path) -> str:
    with pytest.raises(BrokenMigrations) as caught:
        await migrate(database, "shop", folder)
    return str(caught.value)


async def test_migrations_run_in_order(empty: Database, folder: Path) -> None:
    await migrate(empty, "shop", folder)

    assert await things(empty) == [1, 2]
    assert [name for name, _ in await applied(empty)] == ["0001_create_things.sql", "0002_fill_things.sql"]


async def test_another_run_changes_nothing(empty: Database, folder: Path) -> None:
    await migrate(empty, "shop", folder)
    before = await applied(empty), await objects(empty)

    await migrate(empty, "shop", folder)

    assert (await applied(empty), await objects(empty)) == before
    assert await things(empty) == [1, 2]


async def test_a_new_migration_runs_alone(empty: Database, folder: Path) -> None:
    await migrate(empty, "shop", folder)
    before = await applied(empty)
    write(folder, "0003_more.sql", "INSERT INTO shop.things VALUES (3)")

    await migrate(empty, "shop", folder)

    assert await things(empty) == [1, 2, 3]
    assert (await applied(empty))[:2] == before


async def test_a_migration_that_was_changed_after_it_ran_is_refused_and_nothing_runs(empty: Database, folder: Path) -> None:
    await migrate(empty, "shop", folder)
    write(folder, "0002_fill_things.sql", "INSERT INTO shop.things VALUES (1); INSERT INTO shop.things VALUES (2); -- a comment")
    write(folder, "0003_more.sql", "INSERT INTO shop.things VALUES (3)")

    message = await refusal(empty, folder)

    assert message == "0002_fill_things.sql has run and was changed since; add a new migration instead"
    assert await things(empty) == [1, 2]


@pytest.mark.parametrize("name", ["3_more.sql", "0003-more.sql", "0003_More.sql", "0003_.sql", "more.sql", "00003_more.sql"])
async def test_a_misnamed_migration_is_refused_and_nothing_runs(empty: Database, folder: Path, name: str) -> None:
    write(folder, name, "SELECT 1")

    message = await refusal(empty, folder)

    assert message == f"{name}: a migration is named NNNN_name.sql"
    assert not await exists(empty, "shop.migrations")


async def test_an_older_release_starts_on_a_database_that_a_newer_one_migrated(empty: Database, folder: Path) -> None:
    await migrate(empty, "shop", folder)
    (folder / "0002_fill_things.sql").unlink()

    await migrate(empty, "shop", folder)

    assert len(await applied(empty)) == 2


async def test_a_migration_that_fails_leaves_nothing_behind_and_can_be_mended(empty: Database, folder: Path) -> None:
    write(folder, "0003_more.sql", "INSERT INTO shop.things VALUES (3); INSERT INTO shop.nothing VALUES (1)")

    with pytest.raises(asyncpg.UndefinedTableError):
        await migrate(empty, "shop", folder)
    left = await exists(empty, "shop.things")
    write(folder, "0003_more.sql", "INSERT INTO shop.things VALUES (3)")
    await asyncio.wait_for(migrate(empty, "shop", folder), 10)

    assert not left
    assert await things(empty) == [1, 2, 3]


async def test_each_service_has_a_history_of_its_own(empty: Database, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write(other, "0001_create_things.sql", "CREATE TABLE depot.things (id integer)")

    await migrate(empty, "shop", folder)
    await migrate(empty, "depot", other)

    assert (len(await applied(empty, "shop")), len(await applied(empty, "depot"))) == (2, 1)


# Several at once


async def test_services_that_start_at_once_on_an_empty_database_wait_for_each_other(empty: Database, empty_url: str) -> None:
    async with AsyncExitStack() as stack:
        pools = [await stack.enter_async_context(open_database(empty_url, name=f"starter-{number}")) for number in range(4)]

        await asyncio.gather(*(install(pool) for pool in pools), *(install_queues(pool, COMPILATION_JOBS) for pool in pools))

    for service, folder in MIGRATIONS.items():
        assert [name for name, _ in await applied(empty, service)] == sorted(path.name for path in folder.glob("*.sql"))
    queues = await empty.fetch("SELECT queue_name FROM pgmq.list_queues() ORDER BY queue_name")
    assert [row["queue_name"] for row in queues] == [AUDIT_EVENTS, COMPILATION_JOBS, COMPILATION_RESULTS]


async def test_services_that_start_again_change_nothing(database: Database) -> None:
    before = await objects(database)

    await asyncio.gather(install(database), install(database))

    assert await objects(database) == before


async def test_a_queue_is_made_beside_those_that_hold_messages(database: Database) -> None:
    async with database.transaction() as transaction:
        await Queue(COMPILATION_JOBS).send(transaction, {"kept": True})

    await install_queues(database, COMPILATION_JOBS, "another_queue")

    assert await Queue(COMPILATION_JOBS).length(database) == 1
    assert await Queue("another_queue").length(database) == 0


async def test_a_migrator_that_died_holds_up_nobody(empty: Database, empty_url: str, folder: Path) -> None:
    write(folder, "0003_slow.sql", "SELECT pg_sleep(8)")
    async with open_database(empty_url, name="dying") as dying:
        migrating = asyncio.create_task(migrate(dying, "shop", folder))
        await until(lambda: sleeps(empty))
        migrating.cancel()
        await asyncio.gather(migrating, return_exceptions=True)
    (folder / "0003_slow.sql").unlink()

    await asyncio.wait_for(migrate(empty, "shop", folder), 5)

    assert await things(empty) == [1, 2]
