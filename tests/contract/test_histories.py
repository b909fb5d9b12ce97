"""The twin and PostgreSQL live through the same histories and tell the same of them."""

import pytest

from tests.support.histories import History
from tests.support.postgres import TestPostgres
from tests.support.registry import memory_world, postgres_world


@pytest.mark.parametrize("seed", range(1000, 1015))
async def test_no_order_of_calls_and_results_tells_the_twin_from_postgresql(postgres: TestPostgres, template: str, seed: int) -> None:
    async with postgres_world(await postgres.new_database(template)) as world:
        await History([memory_world(), world], seed).live(40)
