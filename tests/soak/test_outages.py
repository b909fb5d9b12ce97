"""A whole platform whose database is down for a minute, whose ways fall silent for good, or whose clocks jump.

`SOAK_OUTAGE_SECONDS` and `SOAK_SEED` choose how long and which.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from libs.common.errors import KilnError
from tests.integration.executor.guests import answering
from tests.integration.executor.test_durability import calls_on, more
from tests.integration.executor.test_network import networked_executor
from tests.integration.gateway.test_network import networked_gateway
from tests.support.clock import Clock
from tests.support.journals import Answers, check_answers
from tests.support.load import check, load_on
from tests.support.platform import running_platform
from tests.support.postgres import TestPostgres, running_postgres
from tests.support.waiting import until

HOUR = 3600
JUMPS = 20
# A connection that died without a word is found out within 30, and a call of its way has its deadline.
SILENT_SECONDS = 90


def chosen_seed() -> int:
    seed = int(os.environ.get("SOAK_SEED", random.randrange(10**6)))
    print(f"\nSOAK_SEED={seed}")
    return seed


def test_no_call_fails_and_none_is_lost_while_the_database_is_down_for_a_minute(home: Path) -> None:
    seed, seconds = chosen_seed(), float(os.environ.get("SOAK_OUTAGE_SECONDS", "60"))
    with running_postgres(home / "outage-postgres") as postgres:
        url = asyncio.run(postgres.new_database())
        with running_platform(home / "outage", KILN_DATABASE_URL=url) as platform:
            with load_on(platform, seed, edits=False) as load:
                time.sleep(5)
                postgres.stop(signal.SIGQUIT)
                before = len(load.log.executions)
                time.sleep(seconds)
                meanwhile = len(load.log.executions) - before
                asyncio.run(postgres.start())
                time.sleep(5)

            print(f"{len(load.log.executions)} runs answered, {meanwhile} of them without a database")
            assert not load.log.unanswered
            assert meanwhile > seconds
            check(platform, load.log, seconds=180)


def test_clocks_that_jump_an_hour_ahead_and_back_under_load_lose_nothing(home: Path) -> None:
    seed, clock = chosen_seed(), Clock(home / "jumping-clock")
    chance = random.Random(seed)
    # PostgreSQL is started without them, and has the true one.
    with running_platform(home / "jumping", **clock.variables) as platform:
        with load_on(platform, seed) as load:
            for _ in range(JUMPS):
                clock.put_forward(chance.choice((-HOUR, 0, HOUR)))
                time.sleep(chance.uniform(0.5, 2))
            clock.put_forward(0)

        print(f"{len(load.log.executions)} runs and {len(load.log.versions)} versions answered")
        assert not load.log.unanswered
        check(platform, load.log, seconds=180)


@pytest.mark.timeout(400)
async def test_an_executor_whose_ways_all_fell_silent_finds_others_by_itself(tmp_path: Path, postgres: TestPostgres) -> None:
    url, answers = await postgres.new_database(), Answers()
    async with networked_executor(tmp_path, url) as networked:
        ways = (networked.to_registry, networked.to_compiler, networked.to_database)
        function = networked.unheard_of('"late"')
        async with calls_on(networked.executor, networked.echo.id, answers):
            await more(answers, 20)
            for way in ways:
                await way.fall_silent()
            await more(answers, 200)
        # Nobody is told: what was silent stays so.
        for way in ways:
            await way.mend()

        await until(lambda: _answers(lambda: networked.executor.execute(function.id)), SILENT_SECONDS)
        told = networked.registry.function(answering('"told"').wasm)
        networked.registry.announce(told)
        await until(lambda: (told.id, told.revision) in networked.registry.heard, SILENT_SECONDS)
        await until(lambda: _answers(lambda: networked.executor.list(networked.echo.id)), SILENT_SECONDS)

        assert answers.failures == []
        await check_answers(url, answers)


@pytest.mark.timeout(400)
async def test_callers_on_a_way_that_fell_silent_are_told_within_half_a_minute_and_others_get_through(home: Path) -> None:
    async with networked_gateway(home / "silent.log") as networked:
        assert await networked.works()
        await networked.to_executor.fall_silent()

        began = time.monotonic()
        lost = [asyncio.ensure_future(networked.execute(number)) for number in range(20)]
        await asyncio.sleep(1)
        await networked.to_executor.mend()
        answers = await asyncio.gather(*lost)

        print(f"told after {time.monotonic() - began:.1f} s")
        assert {one.status_code for one in answers} == {503}
        await until(networked.works)
        # None was made twice, and those that were lost on the way were made by nobody.
        assert networked.reached()["ExecuteFunction"] == 2


async def _answers(call: Callable[[], Awaitable[object]]) -> bool:
    try:
        await call()
    except (KilnError, httpx.HTTPError):
        return False
    return True
