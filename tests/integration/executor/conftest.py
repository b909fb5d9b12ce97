"""What the tests of the sandbox share."""

from collections.abc import AsyncIterator

import pytest

from services.executor.sandbox import Sandbox


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Sandbox]:
    """A sandbox for tests that leave it as it was."""
    async with Sandbox(workers=1, max_workers=1) as sandbox:
        yield sandbox
