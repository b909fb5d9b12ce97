"""Whatever is asked of functions and whatever results arrive, in any order: no state is illegal."""

import pytest

from tests.support.histories import History
from tests.support.registry import memory_world


@pytest.mark.parametrize("decade", range(0, 200, 10))
async def test_no_order_of_calls_and_results_leaves_the_legal_states(decade: int) -> None:
    for seed in range(decade, decade + 10):
        await History([memory_world()], seed).live(60)
