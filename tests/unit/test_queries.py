"""The services and their named queries fit each other."""

import re
from collections.abc import Set
from pathlib import Path
from typing import Final

import pytest

from libs.common.queries import Queries
from tests.support.processes import ROOT

FILES: Final = sorted((ROOT / "services").glob("*/queries.sql"))


def used(folder: Path) -> Set[str]:
    """The queries that a service's code asks for."""
    return {name for path in folder.rglob("*.py") for name in re.findall(r"\bQUERIES\.(\w+)", path.read_text(encoding="utf-8"))}


def test_the_services_with_queries_are_found() -> None:
    assert {"auth", "compiler", "executor", "registry"} <= {path.parent.name for path in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.parent.name)
def test_every_query_is_used_and_every_one_that_is_used_is_there(file: Path) -> None:
    assert set(Queries(file)) == used(file.parent)
