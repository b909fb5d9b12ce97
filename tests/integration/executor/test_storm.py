"""Many calls of all kinds at once in workers that they share: none gets the outcome of another, and none keeps its place."""

import asyncio

import pytest

from tests.support.storm import PLACES, Storm, free_places, stormy_sandbox
from tests.support.waiting import until


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("seed", "deaths"), [(1, False), (2, True), (3, True)])
async def test_every_call_of_a_storm_ends_with_its_own_outcome_and_gives_its_place_back(seed: int, deaths: bool) -> None:
    async with stormy_sandbox() as sandbox:
        storm = Storm(sandbox, seed)

        async with asyncio.timeout(150):
            await storm.rage(4000, deaths=deaths)

        async def is_empty() -> bool:
            return await free_places(sandbox) == 2 * PLACES

        await until(is_empty)
    assert storm.ends["COMPLETED"] > 500
    assert min(storm.ends[kind] for kind in ("TRAP", "TIMEOUT", "CANCELLED")) > 10
    assert (storm.ends["KILLED"] > 0) is deaths
