"""Fixtures that several levels share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import TestPostgres, running_postgres


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
