"""Every named query means something to the database as its migrations make it."""

from collections.abc import AsyncIterator
from typing import Final

import pytest

from libs.common.postgres import Database, open_database
from libs.common.queries import Queries
from tests.support.databases import MIGRATIONS
from tests.support.postgres import TestPostgres

QUERIES: Final = {service: Queries(folder.with_name("queries.sql")) for service, folder in MIGRATIONS.items()}


@pytest.fixture(scope="module")
async def shared_database(postgres: TestPostgres, template: str) -> AsyncIterator[Database]:
    """A database that no test changes."""
    async with open_database(await postgres.new_database(template), name="test") as database:
        yield database


@pytest.mark.parametrize(("service", "name"), [(service, name) for service, queries in QUERIES.items() for name in queries])
async def test_the_database_can_prepare_the_query(shared_database: Database, service: str, name: str) -> None:
    await shared_database.execute(f"PREPARE {service}_{name} AS {QUERIES[service][name]}")
