"""Compilers and a sandbox that are kept over all of these tests, as services keep them over all builds and calls."""

from collections.abc import AsyncIterator

import pytest

from services.compiler.hot import HotProcesses
from services.compiler.jails import Jails
from services.executor.sandbox import Sandbox


@pytest.fixture(scope="session")
async def compilers() -> AsyncIterator[HotProcesses]:
    """Started when they are first asked."""
    async with HotProcesses(Jails("auto"), spare=0) as opened:
        yield opened


@pytest.fixture(scope="session")
async def sandbox() -> AsyncIterator[Sandbox]:
    """Where compiled functions run."""
    async with Sandbox(workers=1, max_workers=1, compile_seconds=60) as opened:
        yield opened
