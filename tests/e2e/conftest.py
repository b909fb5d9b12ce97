"""One platform for most scenarios, with the functions they call deployed at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.functions import SOURCES
from tests.support.platform import Platform, running_platform


@pytest.fixture(scope="session")
def platform(home: Path) -> Iterator[Platform]:
    """A running platform."""
    with running_platform(home / "platform") as running:
        yield running


@pytest.fixture(scope="session")
def functions(platform: Platform) -> Platform:
    """The platform with every function of `SOURCES` READY."""
    for name, (source, limits) in SOURCES.items():
        platform.create(name, source, limits=limits)
    for name in SOURCES:
        function = platform.settled(name)
        assert function["status"] == "READY", (name, function["compileError"])
    return platform
