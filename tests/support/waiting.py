"""Waiting for what another process or task does, for a bounded time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

SECONDS = 20.0


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = SECONDS) -> None:
    """Returns once the condition holds; fails when it does not in time."""
    async with asyncio.timeout(seconds):
        # Other processes cannot set an event.
        while not await _holds(condition):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def _holds(condition: Callable[[], bool | Awaitable[bool]]) -> bool:
    found = condition()
    return await found if inspect.isawaitable(found) else bool(found)


def within(seconds: float, condition: Callable[[], bool]) -> None:
    """Returns once a condition holds; fails when it does not in so many seconds."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)
