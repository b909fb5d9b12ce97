"""An executor whose wall clock jumps: deadlines hold, ids rise, and nothing is lost."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from kiln.executor.v1 import executor_pb2 as pb

from tests.integration.executor.guests import ECHO, ENDLESS
from tests.integration.executor.test_durability import MORE, calls_on, more
from tests.integration.executor.test_service import Executor, running
from tests.support.clock import Clock
from tests.support.journals import Answers, check_answers
from tests.support.postgres import TestPostgres
from tests.support.watched import Registry

HOUR: Final = 3600
JUMPS: Final = (HOUR, 0, -HOUR, HOUR, -HOUR, 0)


@pytest.fixture(scope="module")
def clock(home: Path) -> Clock:
    return Clock(home / "clock")


async def is_listed(executor: Executor, execution: pb.Execution) -> bool:
    """Whether a run is in the history of its function, before which may be any number that others have made since."""
    token = ""
    while True:
        page = await executor.list(execution.function_id, page_size=1000, page_token=token)
        if execution.id in [one.id for one in page.executions]:
            return True
        if not (token := page.next_page_token):
            return False


async def test_a_clock_that_jumps_under_load_makes_no_call_fail_and_loses_none(
    tmp_path: Path, postgres: TestPostgres, registry: tuple[str, Registry], clock: Clock
) -> None:
    url, answers = await postgres.new_database(), Answers()
    echo, endless = registry[1].function(ECHO.wasm), registry[1].function(ENDLESS.wasm, timeout_ms=1000)
    for function in (echo, endless):
        registry[1].answer_for(function)

    async with running(tmp_path, url, registry[0], **MORE, **clock.variables) as executor:
        await executor.execute(echo.id)
        async with calls_on(executor, echo.id, answers):
            for ahead in JUMPS:
                stopped, _ = executor.calling(endless.id)
                await more(answers, 20)
                clock.put_forward(ahead)
                await more(answers, 20)
                newest = await executor.execute(echo.id, b'"newest"')
                assert await is_listed(executor, newest)
                ended = await asyncio.wait_for(stopped, 20)
                assert ended.error.type == pb.ExecutionError.TIMEOUT

        assert answers.failures == []
        await check_answers(url, answers)
    # The clock did jump, and there and back.
    began, hour = datetime.now(UTC), timedelta(hours=1)
    ahead_by = [one.started_at.ToDatetime(UTC) - began for one in answers.answered.values()]
    assert max(ahead_by) > hour / 2
    assert min(ahead_by) < -hour / 2
