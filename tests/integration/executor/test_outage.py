"""PostgreSQL itself stops, as in a crash, or is slow: calls of warm functions go on, and all of them are in the history afterwards."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from kiln.registry.v1 import registry_pb2

from tests.integration.executor.guests import ECHO
from tests.integration.executor.test_durability import MORE, calls_on, more
from tests.integration.executor.test_service import Executor, running
from tests.support.journals import Answers, check_answers
from tests.support.postgres import TestPostgres, running_postgres
from tests.support.waiting import until
from tests.support.watched import Registry

# Each statement that writes runs waits for so long, and for whoever has the lock.
SLOW_WRITES = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1);
    PERFORM pg_sleep(0.1);
    RETURN NULL;
END
$$;
CREATE TRIGGER slow BEFORE INSERT ON executor.executions FOR EACH STATEMENT EXECUTE FUNCTION slow();
"""


@pytest.fixture(scope="module")
def own_postgres(home: Path) -> Iterator[TestPostgres]:
    with running_postgres(home / "stopped-postgres") as running:
        yield running


@pytest.fixture
async def echo(registry: tuple[str, Registry]) -> registry_pb2.WatchedFunction:
    function = registry[1].function(ECHO.wasm)
    registry[1].answer_for(function)
    return function


@asynccontextmanager
async def warm(folder: Path, url: str, address: str, echo: registry_pb2.WatchedFunction) -> AsyncIterator[Executor]:
    async with running(folder, url, address, **MORE) as executor:
        await executor.execute(echo.id)
        yield executor


async def test_no_call_fails_and_none_is_lost_when_postgresql_crashes_under_load(
    tmp_path: Path, own_postgres: TestPostgres, registry: tuple[str, Registry], echo: registry_pb2.WatchedFunction
) -> None:
    url, answers = await own_postgres.new_database(), Answers()

    async with warm(tmp_path, url, registry[0], echo) as executor:
        async with calls_on(executor, echo.id, answers):
            for _ in range(2):
                await more(answers, 50)
                await asyncio.to_thread(own_postgres.stop, signal.SIGQUIT)
                try:
                    await more(answers, 200)
                finally:
                    await own_postgres.start()
            await more(answers, 50)

        assert answers.failures == []
        await check_answers(url, answers)


async def test_calls_do_not_wait_for_a_history_that_takes_long_and_hangs(
    tmp_path: Path, postgres: TestPostgres, registry: tuple[str, Registry], echo: registry_pb2.WatchedFunction
) -> None:
    url, answers = await postgres.new_database(), Answers()
    connection = await asyncpg.connect(url)
    try:
        async with warm(tmp_path, url, registry[0], echo) as executor:
            await connection.execute(SLOW_WRITES)
            async with calls_on(executor, echo.id, answers):
                await more(answers, 50)
                async with connection.transaction():
                    await connection.execute("SELECT pg_advisory_xact_lock(1)")
                    await more(answers, 200)
                    # It has given up waiting for the lock once, and calls are answered all the while.
                    await until(lambda: "LockNotAvailableError" in (tmp_path / "executor.log").read_text())
                    await more(answers, 50)
                    recorded = await connection.fetchval("SELECT count(*) FROM executor.executions WHERE completed_at IS NOT NULL")
                    assert recorded < len(answers.given) - 200

            assert answers.failures == []
            await check_answers(url, answers)
    finally:
        await connection.close()
