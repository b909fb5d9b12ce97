"""What the tests of the executor share."""

from collections.abc import AsyncIterator, Iterator

import pytest

from services.executor.sandbox import Sandbox
from tests.support.services import running_services
from tests.support.watched import Registry


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Sandbox]:
    """A sandbox for tests that leave it as it was."""
    async with Sandbox(workers=1, max_workers=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def registry() -> Iterator[tuple[str, Registry]]:
    """The address of a registry whose snapshot is empty, and the registry."""
    with running_services() as (address, services):
        registry = Registry(services)
        registry.end_snapshot()
        yield address, registry
