"""A deadline is missed when it was last said to be, and not before."""

import asyncio

import pytest

from services.gateway.deadlines import Deadline
from tests.support.waiting import until


@pytest.fixture
def missed() -> list[float]:
    """When a deadline was missed."""
    return []


@pytest.fixture
async def deadline(missed: list[float]) -> Deadline:
    loop = asyncio.get_running_loop()
    return Deadline(loop, lambda: missed.append(loop.time()))


async def test_a_deadline_that_is_moved_on_is_missed_later(deadline: Deadline, missed: list[float]) -> None:
    began = asyncio.get_running_loop().time()
    deadline.set(0.05)
    deadline.set(0.2)

    await until(lambda: bool(missed))

    assert missed[0] - began >= 0.2


async def test_a_deadline_that_is_moved_up_is_missed_sooner(deadline: Deadline, missed: list[float]) -> None:
    deadline.set(60)
    deadline.set(0.05)

    await until(lambda: bool(missed), seconds=30)

    assert not deadline.runs


async def test_a_deadline_is_missed_once(deadline: Deadline, missed: list[float]) -> None:
    deadline.set(0.02)

    await asyncio.sleep(0.2)

    assert len(missed) == 1


async def test_no_deadline_is_missed_that_was_taken_back(deadline: Deadline, missed: list[float]) -> None:
    deadline.set(0.02)
    deadline.clear()
    await asyncio.sleep(0.1)
    deadline.set(0.02)
    deadline.end()
    await asyncio.sleep(0.1)

    assert missed == []


async def test_a_deadline_that_was_taken_back_can_be_set_again(deadline: Deadline, missed: list[float]) -> None:
    deadline.set(0.02)
    deadline.clear()
    deadline.set(0.02)

    await until(lambda: bool(missed))
