"""The auth service's domain on a database of its own."""

from collections.abc import AsyncIterator

import pytest

from libs.common.postgres import Database
from tests.integration.auth.serving import Serving, serving
from tests.support.auth import AuthWorld


@pytest.fixture
async def world(database: Database) -> AsyncIterator[AuthWorld]:
    """The domain, with a first ADMIN named root."""
    made = AuthWorld(database)
    await made.set_up()
    yield made
    made.passwords.close()


@pytest.fixture
async def served(world: AuthWorld, database_url: str) -> AsyncIterator[Serving]:
    """The same behind a gRPC server."""
    async with serving(world, database_url) as running:
        yield running
