"""Thousands of modules by chance on the way that a person's module takes. `SOAK_SEED` and `SOAK_MODULES` choose which and how many."""

import os
import random

import psutil

from services.executor.sandbox import Sandbox
from tests.support.smithed_calls import publish_and_call


async def test_thousands_of_modules_by_chance_kill_no_process() -> None:
    seed, modules = int(os.environ.get("SOAK_SEED", random.randrange(10**6))), int(os.environ.get("SOAK_MODULES", "5000"))
    print(f"\nSOAK_SEED={seed} SOAK_MODULES={modules}")

    async with Sandbox(workers=2, max_workers=2) as sandbox:
        ends = await publish_and_call(sandbox, seed * modules)
        before = {child.pid for child in psutil.Process().children()}
        for number in range(1, modules):
            ends += await publish_and_call(sandbox, seed * modules + number)

        print(dict(ends))
        assert before <= {child.pid for child in psutil.Process().children()}
