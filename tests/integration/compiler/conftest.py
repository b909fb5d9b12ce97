"""Compilers that are kept over all of these tests, as a service keeps them over all of its builds."""

from collections.abc import AsyncIterator

import pytest

from services.compiler.hot import HotProcesses
from services.compiler.jails import Jails


@pytest.fixture(scope="session")
async def compilers() -> AsyncIterator[HotProcesses]:
    """Started when they are first asked."""
    async with HotProcesses(Jails("auto"), spare=0) as opened:
        yield opened
