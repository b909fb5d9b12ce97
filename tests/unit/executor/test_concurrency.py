"""A function has no more runs at once than its limit lets it have, and takes nothing from others."""

import asyncio
from contextlib import ExitStack, suppress
from uuid import UUID

import pytest

from libs.common.errors import ResourceExhausted
from services.executor.catalog import CatalogFunction
from services.executor.concurrency import Concurrency, Many
from tests.unit.executor.fakes import function

OTHER = UUID(int=2)


class Runs:
    """Runs of many, each until it is let go."""

    def __init__(self, concurrency: Concurrency) -> None:
        self._many = concurrency.many()
        self.running: list[str] = []

    def run(self, name: str, one: CatalogFunction) -> "asyncio.Task[None]":
        async def turn() -> None:
            async with self._many.turn(one):
                self.running.append(name)
                try:
                    await asyncio.Event().wait()
                finally:
                    self.running.remove(name)

        return asyncio.create_task(turn())


async def settle() -> None:
    """Lets every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def end(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await settle()


def test_as_many_runs_as_the_limit_are_taken_and_one_more_is_told_the_limit_and_how_to_raise_it() -> None:
    concurrency, two_at_once = Concurrency(2), function(max_concurrency=2)

    with concurrency.place(two_at_once), concurrency.place(two_at_once), pytest.raises(ResourceExhausted) as refusal, ExitStack() as third:
        third.enter_context(concurrency.place(two_at_once))

    assert (refusal.value.reason, refusal.value.retry_after) == ("TOO_MANY_CONCURRENT_CALLS", 1)
    assert refusal.value.metadata == {"limit": "maxConcurrency", "value": "2"}
    for word in ("echo", "2 runs", "limits.maxConcurrency", "PUT /functions/{id}"):
        assert word in refusal.value.message


def test_a_full_function_stops_no_other() -> None:
    concurrency = Concurrency(2)

    with concurrency.place(function(max_concurrency=1)), concurrency.place(function("other", OTHER, max_concurrency=1)):
        pass


@pytest.mark.parametrize("error", [None, RuntimeError()])
def test_a_run_makes_room_when_it_ends_however_it_ends(error: Exception | None) -> None:
    concurrency, one_at_once = Concurrency(2), function(max_concurrency=1)

    for _ in range(3):
        try:
            with concurrency.place(one_at_once):
                if error:
                    raise error
        except RuntimeError:
            continue


def test_a_changed_limit_acts_on_the_next_call() -> None:
    concurrency = Concurrency(2)

    with concurrency.place(function(max_concurrency=1)), concurrency.place(function(max_concurrency=2)):
        with pytest.raises(ResourceExhausted), concurrency.place(function(max_concurrency=1)):
            pass
        with concurrency.place(function(max_concurrency=3)):
            pass


# Runs that come many at once


async def test_of_many_so_many_run_at_once_whatever_their_functions_and_the_others_wait_in_turn() -> None:
    many = Runs(Concurrency(2))
    tasks = [many.run(str(number), function("f", UUID(int=number % 2 + 1))) for number in range(4)]
    await settle()

    assert many.running == ["0", "1"]
    await end(tasks[1])
    assert many.running == ["0", "2"]
    await end(tasks[0])
    assert many.running == ["2", "3"]
    await end(*tasks)


async def test_of_many_none_is_refused_because_its_function_is_full_and_each_gets_its_turn() -> None:
    concurrency, one_at_once = Concurrency(8), function(max_concurrency=1)
    many = Runs(concurrency)
    with concurrency.place(one_at_once):
        tasks = [many.run(str(number), one_at_once) for number in range(3)]
        await settle()
        assert many.running == []

    for name, task in zip("012", tasks, strict=True):
        await settle()
        assert many.running == [name]
        await end(task)


async def test_those_that_wait_for_their_function_keep_no_room_from_others() -> None:
    many = Runs(Concurrency(2))
    full = [many.run(f"full {number}", function(max_concurrency=1)) for number in range(5)]
    other = many.run("other", function("other", OTHER))
    await settle()

    assert many.running == ["full 0", "other"]
    await end(*full, other)


async def test_one_that_goes_away_when_it_is_its_turn_leaves_the_turn_to_the_next() -> None:
    concurrency, one_at_once = Concurrency(2), function(max_concurrency=1)
    many = Runs(concurrency)
    with concurrency.place(one_at_once):
        first, second, third = (many.run(name, one_at_once) for name in ("first", "second", "third"))
        await settle()
        second.cancel()
    # The first is told of its turn, and is cancelled before it takes it.
    first.cancel()
    await settle()

    assert many.running == ["third"]
    await end(first, second, third)
    with concurrency.place(one_at_once):
        pass


async def runs_at_once(seconds: float, count: int, *together: Many) -> int:
    """How many of so many runs, which take so long each, go on at once at most, of all those that are made together."""
    running = most = 0

    async def run_some(many: Many) -> None:
        nonlocal running, most
        for _ in range(count // 10):
            async with many.turn(function()):
                running += 1
                most = max(most, running)
                await asyncio.sleep(seconds)
                running -= 1

    await asyncio.gather(*(run_some(many) for many in together for _ in range(10)))
    return most


async def test_of_brief_runs_more_go_on_at_once_and_of_lasting_ones_few_again() -> None:
    many = Concurrency(2, 6).many()

    assert await runs_at_once(0, 100, many) == 6
    await runs_at_once(0.02, 30, many)
    assert await runs_at_once(0.02, 10, many) == 2


async def test_that_others_were_brief_makes_no_room_for_lasting_ones() -> None:
    concurrency = Concurrency(2, 6)
    await runs_at_once(0, 100, concurrency.many())

    assert await runs_at_once(0.02, 10, concurrency.many()) == 2


async def test_all_that_are_brief_have_no_more_than_there_is_for_such() -> None:
    concurrency = Concurrency(2, 6)

    assert await runs_at_once(0, 100, concurrency.many(), concurrency.many()) == 6


async def test_runs_that_are_refused_make_no_room_for_more() -> None:
    many = Concurrency(2, 6).many()
    for _ in range(10):
        with suppress(RuntimeError):
            async with many.turn(function()):
                raise RuntimeError

    assert await runs_at_once(0.02, 10, many) == 2
