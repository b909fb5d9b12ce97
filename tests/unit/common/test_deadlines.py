"""Deadlines on one timer."""

import asyncio
import time

from libs.common.deadlines import Deadlines


async def test_what_has_not_ended_in_time_expires_each_at_its_own_time() -> None:
    began, expired = time.monotonic(), dict[str, float]()

    def expire(key: str) -> None:
        expired[key] = time.monotonic() - began

    deadlines = Deadlines[str](expire)

    for key, seconds in (("late", 0.3), ("soon", 0.1), ("ended", 0.15)):
        deadlines.add(key, seconds)
    deadlines.discard("ended")
    await asyncio.sleep(0.5)

    assert list(expired) == ["soon", "late"]
    assert expired["soon"] >= 0.099
    assert expired["late"] >= 0.299


async def test_one_that_is_added_while_another_expires_has_its_time() -> None:
    expired: list[int] = []

    def expire(key: int) -> None:
        expired.append(key)
        if key < 3:
            deadlines.add(key + 1, 0.01)

    deadlines = Deadlines[int](expire)
    deadlines.add(1, 0.01)
    await asyncio.sleep(0.3)

    assert expired == [1, 2, 3]


async def test_one_that_another_takes_out_as_it_expires_does_not() -> None:
    expired: list[str] = []

    def expire(key: str) -> None:
        expired.append(key)
        deadlines.discard("b" if key == "a" else "a")

    deadlines = Deadlines[str](expire)
    for key in ("a", "b"):
        deadlines.add(key, 0)
    await asyncio.sleep(0.1)

    assert expired == ["a"]
