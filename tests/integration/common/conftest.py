"""A cluster that tests may stop and break."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import TestPostgres, running_postgres


@pytest.fixture(scope="package")
def own_postgres(home: Path) -> Iterator[TestPostgres]:
    """Whoever stops it starts it again."""
    with running_postgres(home / "own-postgres") as running:
        yield running
