"""A consumer that waits is woken, looks by itself after a while, and can be stopped at any moment."""

import asyncio

import pytest

from libs.common.queue import Queue, Wakeup

# Far longer than a test.
PATIENT = 600


async def test_a_consumer_is_woken() -> None:
    wakeup = Wakeup(PATIENT)
    waiting = asyncio.create_task(wakeup.wait())
    await asyncio.sleep(0)

    wakeup.now()

    await asyncio.wait_for(waiting, 5)


async def test_what_came_between_two_waits_wakes_the_second_at_once_and_only_once() -> None:
    wakeup = Wakeup(PATIENT)
    wakeup.now()
    wakeup.now()

    await asyncio.wait_for(wakeup.wait(), 5)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wakeup.wait(), 0.02)


async def test_a_consumer_looks_by_itself_after_a_while() -> None:
    await asyncio.wait_for(Wakeup(0.01).wait(), 5)


@pytest.mark.parametrize("steps", range(5))
async def test_a_consumer_that_is_stopped_in_the_moment_it_is_woken_stops(steps: int) -> None:
    async def consume() -> None:
        while True:
            await wakeup.wait()

    wakeup = Wakeup(PATIENT)
    consumer = asyncio.create_task(consume())
    await asyncio.sleep(0)

    wakeup.now()
    for _ in range(steps):
        await asyncio.sleep(0)
    consumer.cancel()

    done, _ = await asyncio.wait([consumer], timeout=1)
    consumer.cancel()
    assert done


@pytest.mark.parametrize("name", ["", "Jobs", "jobs-1", 'jobs"; DROP', "x" * 41])
def test_a_queue_has_a_plain_name(name: str) -> None:
    with pytest.raises(ValueError, match="queue name"):
        Queue(name)
