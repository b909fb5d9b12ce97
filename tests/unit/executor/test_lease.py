"""Only an executor that was not away itself may say that another is dead."""

from typing import cast

import pytest

from libs.common.errors import Unavailable
from services.executor.lease import HEARTBEATS, Lease, open_lease
from services.executor.repository import ExecutionRepository

SECONDS = 10.0


class FakeHeartbeats:
    """The table of heartbeats, and what was done to it."""

    def __init__(self) -> None:
        self.away = False
        self.done: list[str] = []

    async def heartbeat(self) -> None:
        self._do("heartbeat")

    async def retire(self) -> None:
        self._do("retire")

    async def sweep(self, lease_seconds: float) -> int:
        self._do(f"sweep {lease_seconds:g}")
        return 1

    def _do(self, what: str) -> None:
        if self.away:
            raise Unavailable("away")
        self.done.append(what)


class Time:
    """A clock that a test moves, and the lease that goes by it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.heartbeats = FakeHeartbeats()
        self.lease = Lease(cast(ExecutionRepository, self.heartbeats), SECONDS, lambda: self.now)

    async def passes(self, seconds: float) -> None:
        """Some time, with its heartbeats."""
        for _ in range(round(seconds / (SECONDS / HEARTBEATS))):
            self.now += SECONDS / HEARTBEATS
            await self.lease.heartbeat()


@pytest.fixture
async def time() -> Time:
    time = Time()
    await time.lease.heartbeat()
    return time


async def test_an_executor_that_has_just_started_sweeps_nobody(time: Time) -> None:
    await time.passes(SECONDS - 2)
    assert await time.lease.sweep() == 0

    await time.passes(2)
    assert await time.lease.sweep() == 1
    assert time.heartbeats.done[-1] == "sweep 10"


@pytest.mark.parametrize("away_seconds", [8, 10, 1000])
async def test_an_executor_that_was_away_itself_waits_a_whole_lease_before_it_sweeps(time: Time, away_seconds: float) -> None:
    """After an outage all others are silent too, until they are back."""
    await time.passes(SECONDS)
    time.heartbeats.away = True
    await time.passes(away_seconds)
    time.heartbeats.away = False

    await time.passes(SECONDS)
    assert await time.lease.sweep() == 0
    await time.passes(2)
    assert await time.lease.sweep() == 1


async def test_an_executor_that_was_frozen_waits_too(time: Time) -> None:
    await time.passes(SECONDS)
    time.now += 60

    assert await time.lease.sweep() == 1
    await time.lease.heartbeat()
    assert await time.lease.sweep() == 0


async def test_one_heartbeat_that_is_missed_is_no_gap(time: Time) -> None:
    await time.passes(SECONDS)
    time.heartbeats.away = True
    await time.passes(2)
    time.heartbeats.away = False
    await time.passes(2)

    assert await time.lease.sweep() == 1


async def test_a_lease_is_taken_at_once_and_given_up_at_the_end() -> None:
    heartbeats = FakeHeartbeats()

    async with open_lease(cast(ExecutionRepository, heartbeats), SECONDS):
        assert heartbeats.done == ["heartbeat"]
    assert heartbeats.done == ["heartbeat", "retire"]

    heartbeats.away = True
    async with open_lease(cast(ExecutionRepository, heartbeats), SECONDS):
        pass
