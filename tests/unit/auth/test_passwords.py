"""Passwords: nothing of them is lost, and not more are worked on than there is room for."""

import asyncio
import threading
from collections.abc import Iterator

import bcrypt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libs.common.errors import ResourceExhausted
from services.auth.passwords import COST, MAX_WAITING, THREADS, Passwords


@pytest.fixture(scope="module")
def passwords() -> Iterator[Passwords]:
    """Cheap ones."""
    made = Passwords(cost=4)
    yield made
    made.close()


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.text(max_size=200))
@example("a" * 72, "a" * 73)
@example("a" * 500 + "b", "a" * 500 + "c")
@example("é" * 64, "é" * 65)
@example("a\0b", "a\0c")
@example("a", "a\0")
@example("a", "a ")
@example("é", "e\u0301")
@example("", "\0")
async def test_a_password_matches_itself_and_no_other(passwords: Passwords, one: str, other: str) -> None:
    kept = await passwords.hash(one)

    assert await passwords.matches(one, kept)
    assert await passwords.matches(other, kept) == (one == other)


async def test_no_two_hashes_are_alike_and_none_tells_the_password(passwords: Passwords) -> None:
    one, two = await passwords.hash("a password of mine"), await passwords.hash("a password of mine")

    assert one != two
    assert b"mine" not in one


async def test_without_a_hash_bcrypt_is_asked_all_the_same_at_the_same_cost(monkeypatch: pytest.MonkeyPatch, passwords: Passwords) -> None:
    asked: list[bytes] = []
    check = bcrypt.checkpw

    def recording(password: bytes, kept: bytes) -> bool:
        asked.append(kept)
        return check(password, kept)

    monkeypatch.setattr(bcrypt, "checkpw", recording)

    assert not await passwords.matches("", None)
    assert not await passwords.matches("anything", None)
    assert [one[:7] for one in asked] == [b"$2b$04$"] * 2


def test_by_default_it_costs_what_it_should() -> None:
    default = Passwords()

    assert (COST, THREADS, MAX_WAITING) == (12, 2, 16)
    assert default._nobody.startswith(b"$2b$12$")
    default.close()


async def test_so_many_wait_and_no_more_and_room_that_is_free_again_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = Passwords(cost=4, threads=1, max_waiting=2)
    may_go_on, check = threading.Event(), bcrypt.checkpw

    def slow(password: bytes, kept: bytes) -> bool:
        assert may_go_on.wait(20)
        return check(password, kept)

    monkeypatch.setattr(bcrypt, "checkpw", slow)
    busy = [asyncio.create_task(passwords.matches("x", None)) for _ in range(3)]
    await asyncio.sleep(0)

    with pytest.raises(ResourceExhausted) as refused:
        await passwords.matches("x", None)
    # Who goes away while it waits makes room.
    busy[2].cancel()
    await asyncio.gather(busy[2], return_exceptions=True)
    busy[2] = asyncio.create_task(passwords.matches("x", None))
    await asyncio.sleep(0)
    # Who goes away while it is worked on makes none.
    busy[0].cancel()
    await asyncio.gather(busy[0], return_exceptions=True)
    with pytest.raises(ResourceExhausted):
        await passwords.matches("x", None)
    may_go_on.set()

    assert (refused.value.reason, refused.value.retry_after) == ("LOGINS_BUSY", 1)
    assert await asyncio.gather(*busy[1:]) == [False, False]
    assert not await passwords.matches("x", None)
    passwords.close()
