"""Modules by chance are refused or run, and no process minds."""

import psutil

from services.executor.sandbox import ErrorType, Sandbox
from tests.support.smithed_calls import publish_and_call


async def test_modules_by_chance_are_refused_or_run_and_no_process_dies_of_them() -> None:
    async with Sandbox(workers=1, max_workers=1) as sandbox:
        ends = await publish_and_call(sandbox, 0)
        before = {child.pid for child in psutil.Process().children()}
        for seed in range(1, 100):
            ends += await publish_and_call(sandbox, seed)

        assert before <= {child.pid for child in psutil.Process().children()}
    assert ends["REJECTED"] > 10
    assert ends[ErrorType.TRAP] > 10
    assert ends.total() - ends["REJECTED"] > 100
