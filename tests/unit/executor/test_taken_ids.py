"""An id that was taken is known to be, or known to be unknown."""

import time
from uuid import UUID

from libs.common.ids import milliseconds_of, uuid7
from services.executor.taken_ids import TakenIds


def id_at(milliseconds: int, number: int = 0) -> UUID:
    return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | number)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_an_id_that_was_taken_is_known_until_it_is_free_again() -> None:
    taken, identity = TakenIds(), uuid7()

    taken.add(identity)
    assert identity in taken
    taken.discard(identity)
    taken.discard(identity)

    assert identity not in taken


def test_of_an_id_from_before_the_start_nothing_is_known() -> None:
    taken = TakenIds()

    assert taken.may_have_forgotten(id_at(now_ms() - 1000))
    assert not taken.may_have_forgotten(id_at(now_ms() + 1000))


def test_of_an_id_as_old_as_one_that_was_forgotten_nothing_is_known() -> None:
    taken = TakenIds(most=10)
    start = now_ms() + 1
    while now_ms() <= start + 30:
        pass
    ids = [id_at(start + number) for number in range(20)]
    for identity in ids:
        taken.add(identity)

    assert [identity in taken for identity in ids] == [False] * 10 + [True] * 10
    assert all(taken.may_have_forgotten(identity) for identity in ids[:10])
    assert not taken.may_have_forgotten(id_at(milliseconds_of(ids[-1]) + 1))


def test_an_id_that_claims_to_be_of_the_future_makes_no_other_seem_old() -> None:
    taken = TakenIds(most=1)

    taken.add(id_at(now_ms() + 10**9))
    taken.add(uuid7())

    assert not taken.may_have_forgotten(id_at(now_ms() + 1000))
