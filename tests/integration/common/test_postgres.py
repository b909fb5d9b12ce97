"""The one way to the database: whatever goes wrong with it is `Unavailable`, and heals by itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from libs.common import postgres as module
from libs.common.errors import KilnError, NotFound, Unavailable
from libs.common.ids import uuid7
from libs.common.postgres import Database, Listener, Transaction, UniqueViolation, open_database, unavailable_when_away
from tests.support.postgres import TestPostgres
from tests.support.waiting import until


class Failure(Exception):
    """What a test raises inside of a transaction."""


@pytest.fixture
async def things(database: Database) -> Database:
    """A database with an empty table of things."""
    await database.execute("CREATE TABLE things (id integer PRIMARY KEY)")
    return database


async def ids(database: Database | Transaction) -> list[int]:
    return [row["id"] for row in await database.fetch("SELECT id FROM things ORDER BY id")]


async def works(database: Database) -> bool:
    try:
        return bool(await database.fetchval("SELECT 1"))
    except Unavailable:
        return False


async def terminate(database: Database, name: str) -> int:
    """Cuts connections by their application's name; returns how many."""
    cut: int = await database.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1", name
    )
    return cut


# What is an error of the platform


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ConnectionDoesNotExistError("gone"),
        asyncpg.CannotConnectNowError("starting"),
        asyncpg.AdminShutdownError("stopped"),
        asyncpg.CrashShutdownError("crashed"),
        asyncpg.TooManyConnectionsError("full"),
        asyncpg.OutOfMemoryError("full"),
        asyncpg.QueryCanceledError("slow"),
        asyncpg.LockNotAvailableError("locked"),
        asyncpg.IdleInTransactionSessionTimeoutError("forgotten"),
        asyncpg.DeadlockDetectedError("ring"),
        asyncpg.InterfaceError("connection is closed"),
        ConnectionRefusedError(),
        ConnectionResetError(),
        TimeoutError(),
        OSError("no route"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_database_that_is_away_is_unavailable_and_says_when_to_come_back(error: Exception) -> None:
    with pytest.raises(Unavailable) as caught, unavailable_when_away():
        raise error

    assert (caught.value.reason, caught.value.retry_after) == ("DATABASE_AWAY", 1)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UniqueViolationError("twice"),
        asyncpg.CheckViolationError("bad"),
        asyncpg.ForeignKeyViolationError("bad"),
        asyncpg.DataError("invalid input for query argument"),
        asyncpg.UndefinedTableError("no table"),
        asyncpg.PostgresSyntaxError("no SQL"),
        NotFound("none"),
        Failure(),
        asyncio.CancelledError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_other_error_stays_itself(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, unavailable_when_away():
        raise error

    assert caught.value is error


# Statements and transactions


async def test_a_transaction_is_all_or_nothing(things: Database) -> None:
    async with things.transaction() as transaction:
        await transaction.execute("INSERT INTO things VALUES (1)")
        unseen = await ids(things)
    with contextlib.suppress(Failure):
        async with things.transaction() as transaction:
            await transaction.execute("INSERT INTO things VALUES (2)")
            raise Failure

    assert (unseen, await ids(things)) == ([], [1])


async def test_a_transaction_that_is_cancelled_is_rolled_back_and_its_connection_serves_on(database_url: str) -> None:
    async with open_database(database_url, name="one", max_connections=1) as database:
        await database.execute("CREATE TABLE things (id integer PRIMARY KEY)")
        inserted = asyncio.Event()

        async def work() -> None:
            async with database.transaction() as transaction:
                await transaction.execute("INSERT INTO things VALUES (1)")
                inserted.set()
                await transaction.execute("SELECT pg_sleep(8)")

        working = asyncio.create_task(work())
        await asyncio.wait_for(inserted.wait(), 10)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

        assert await asyncio.wait_for(ids(database), 5) == []


async def test_a_statement_tells_how_many_rows_it_touched(things: Database) -> None:
    assert await things.execute("INSERT INTO things SELECT generate_series(1, 3)") == 3
    assert await things.execute("UPDATE things SET id = id + 10 WHERE id > 1") == 2
    assert await things.execute("DELETE FROM things WHERE id = 99") == 0
    assert await things.execute("CREATE TABLE others (id integer)") == 0


async def test_a_row_that_is_there_already_is_an_error_of_its_own(things: Database) -> None:
    await things.execute("INSERT INTO things VALUES (1)")

    with pytest.raises(UniqueViolation):
        await things.execute("INSERT INTO things VALUES (1)")


@pytest.mark.parametrize("value", [{"a": [1, 1.5, None, True, "é\u2028"]}, [], "text", 7, 2**63, {}])
async def test_json_comes_back_as_it_was_written(database: Database, value: Any) -> None:
    assert await database.fetchval("SELECT $1::jsonb", value) == value
    assert await database.fetchval("SELECT $1::json", value) == value


async def test_nothing_waits_for_ever(database: Database) -> None:
    settings = {
        name: await database.fetchval("SELECT current_setting($1)", name)
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "TimeZone")
    }

    assert settings == {"statement_timeout": "9s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "15s", "TimeZone": "UTC"}


async def unavailable(call: Any) -> KilnError:
    with pytest.raises(Unavailable) as caught:
        await call
    return caught.value


async def test_a_statement_that_is_too_slow_is_unavailable(database: Database) -> None:
    async def slow() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("SET LOCAL statement_timeout = 50")
            await transaction.execute("SELECT pg_sleep(8)")

    await unavailable(slow())

    assert await works(database)


async def test_a_lock_that_is_not_had_in_time_is_unavailable(things: Database) -> None:
    await things.execute("INSERT INTO things VALUES (1)")

    async def second() -> None:
        async with things.transaction() as transaction:
            await transaction.execute("SET LOCAL lock_timeout = 50")
            await transaction.execute("SELECT id FROM things FOR UPDATE")

    async with things.transaction() as first:
        await first.execute("SELECT id FROM things FOR UPDATE")
        await unavailable(second())


async def test_two_transactions_in_a_ring_end_with_one_of_them_unavailable(things: Database) -> None:
    await things.execute("INSERT INTO things VALUES (1), (2)")
    both = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with things.transaction() as transaction:
            await transaction.execute("SELECT id FROM things WHERE id = $1 FOR UPDATE", first)
            await both.wait()
            await transaction.execute("SELECT id FROM things WHERE id = $1 FOR UPDATE", second)

    ended = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)

    assert sorted(type(one).__name__ for one in ended) == ["NoneType", "Unavailable"]


async def test_a_pool_whose_connections_are_all_busy_is_unavailable(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMAND_TIMEOUT_SECONDS", 0.2)
    async with open_database(database_url, name="one", max_connections=1) as database:
        async with database.transaction():
            await unavailable(database.fetchval("SELECT 1"))

        assert await works(database)


# Connections that are lost


async def test_a_pool_heals_after_its_idle_connections_were_cut(database: Database, database_url: str) -> None:
    async with open_database(database_url, name="victim") as victim:
        await asyncio.gather(*(victim.fetchval("SELECT pg_sleep(0.05)") for _ in range(5)))

        cut = await terminate(database, "kiln-victim")
        await until(lambda: works(victim))

        assert cut == 5
        assert [await works(victim) for _ in range(10)] == [True] * 10


async def test_a_transaction_whose_connection_is_cut_is_unavailable_and_nothing_of_it_stays(things: Database, database_url: str) -> None:
    async with open_database(database_url, name="victim") as victim:

        async def work() -> None:
            async with victim.transaction() as transaction:
                await transaction.execute("INSERT INTO things VALUES (1)")
                await terminate(things, "kiln-victim")
                await transaction.execute("INSERT INTO things VALUES (2)")

        error = await unavailable(work())

        assert error.reason == "DATABASE_AWAY"
        assert await ids(things) == []
        await until(lambda: works(victim))


async def test_while_the_database_is_stopped_every_call_is_unavailable_and_then_they_work_again(own_postgres: TestPostgres) -> None:
    async with open_database(await own_postgres.new_database(), name="test") as database:
        await database.execute("CREATE TABLE things (id integer PRIMARY KEY)")
        own_postgres.stop()
        try:
            errors = [await unavailable(database.fetchval("SELECT 1")) for _ in range(3)]
            errors.append(await unavailable(database.execute("INSERT INTO things VALUES (1)")))
        finally:
            await own_postgres.start()
        await until(lambda: works(database))

        assert {error.reason for error in errors} == {"DATABASE_AWAY"}
        assert await ids(database) == []


async def test_a_service_may_start_before_its_database(own_postgres: TestPostgres) -> None:
    url = await own_postgres.new_database()
    own_postgres.stop()

    async def use() -> bool:
        async with open_database(url, name="early") as database:
            return await works(database)

    using = asyncio.create_task(use())
    try:
        done, _ = await asyncio.wait({using}, timeout=0.3)
    finally:
        await own_postgres.start()

    assert not done
    assert await asyncio.wait_for(using, 20)


# Listening


async def heard(events: AsyncIterator[str | None]) -> str | None:
    return await asyncio.wait_for(anext(events), 20)


async def test_a_listener_hears_each_notification_with_its_payload(database: Database, database_url: str) -> None:
    async with contextlib.aclosing(Listener(database_url, "things").events()) as events:
        first = await heard(events)
        identity = str(uuid7())
        for payload in ("", identity):
            await database.fetchval("SELECT pg_notify('things', $1)", payload)

        assert (first, await heard(events), await heard(events)) == (None, "", identity)


async def test_a_listener_whose_connection_is_cut_says_that_it_may_have_missed_something(database: Database, database_url: str) -> None:
    async with contextlib.aclosing(Listener(database_url, "things").events()) as events:
        await heard(events)

        for _ in range(2):
            assert await terminate(database, "kiln-listen-things") == 1
            assert await heard(events) is None
            await database.fetchval("SELECT pg_notify('things', 'x')")
            assert await heard(events) == "x"


async def test_a_listener_that_is_left_closes_its_connection(database: Database, database_url: str) -> None:
    async def connections() -> int:
        count: int = await database.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kiln-listen-left'")
        return count

    async with contextlib.aclosing(Listener(database_url, "left").events()) as events:
        await heard(events)
        before = await connections()

    async def is_gone() -> bool:
        return await connections() == 0

    await until(is_gone)
    assert before == 1
