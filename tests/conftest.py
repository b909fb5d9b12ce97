"""Fixtures that several levels share."""

import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

from libs.common.postgres import Database, open_database
from tests.support.databases import install
from tests.support.postgres import TestPostgres, running_postgres


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Has what a test printed travel between processes, also where it is no text."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A folder that any user may pass through, as pytest's own temporary folders may not be."""
    with tempfile.TemporaryDirectory(prefix="kiln-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres(home: Path) -> Iterator[TestPostgres]:
    """One cluster for all tests of a run."""
    with running_postgres(home / "postgres-home") as running:
        yield running


@pytest.fixture(scope="session")
async def template(postgres: TestPostgres) -> str:
    """The name of a database with every service's schema and the queues, to make others from."""
    url = await postgres.new_database()
    async with open_database(url, name="template") as database:
        await install(database)
    return url.rpartition("/")[2]


@pytest.fixture
async def database_url(postgres: TestPostgres, template: str) -> str:
    """A database with every service's schema and the queues, and nothing in them."""
    return await postgres.new_database(template)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool of connections to it."""
    async with open_database(database_url, name="test") as opened:
        yield opened
