"""The registry's domain over each storage."""

from collections.abc import AsyncIterator

import pytest

from tests.support.postgres import TestPostgres
from tests.support.registry import World, memory_world, postgres_world


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest, postgres: TestPostgres, template: str) -> AsyncIterator[World]:
    """An installation without functions."""
    if request.param == "memory":
        yield memory_world()
    else:
        async with postgres_world(await postgres.new_database(template)) as opened:
            yield opened
