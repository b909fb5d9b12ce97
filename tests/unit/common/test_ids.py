"""Ids rise whatever the clock does, and only the usual spelling of one is an id."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from uuid import RFC_4122, UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.common import ids
from libs.common.ids import milliseconds_of, parse_uuid, uuid7, uuid7_text


class Clock:
    """A clock that is set by hand."""

    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds

    def time_ns(self) -> int:
        return self.milliseconds * 1_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of ids, in a process that has made none yet."""
    clock = Clock(1_700_000_000_000)
    monkeypatch.setattr(ids, "time", SimpleNamespace(time_ns=clock.time_ns))
    monkeypatch.setattr(ids, "_last", 0)
    return clock


def rises(made: list[UUID]) -> bool:
    return all(one < next_one for one, next_one in itertools.pairwise(made))


def test_an_id_is_a_uuid_of_version_7() -> None:
    identity = uuid7()

    assert (identity.version, identity.variant) == (7, RFC_4122)


def test_ids_rise_as_values_and_as_text() -> None:
    made = [uuid7() for _ in range(10_000)]

    assert rises(made)
    assert sorted(map(str, made)) == list(map(str, made))


def test_an_id_as_text_is_in_the_usual_form_and_rises_with_the_others() -> None:
    before, text, after = uuid7(), uuid7_text(), uuid7()

    identity = parse_uuid(text)
    assert identity
    assert (str(identity), identity.version, identity.variant) == (text, 7, RFC_4122)
    assert rises([before, identity, after])


def test_ids_rise_within_one_millisecond(clock: Clock) -> None:
    made = [uuid7() for _ in range(5000)]

    assert rises(made)
    assert milliseconds_of(made[0]) == clock.milliseconds


def test_ids_rise_when_the_clock_steps_back(clock: Clock) -> None:
    before = uuid7()
    clock.milliseconds -= 3_600_000

    made = [before, uuid7(), uuid7()]

    assert rises(made)
    assert milliseconds_of(made[-1]) == clock.milliseconds + 3_600_000


def test_an_id_carries_the_time_again_once_the_clock_has_caught_up(clock: Clock) -> None:
    uuid7()
    clock.milliseconds += 1

    assert milliseconds_of(uuid7()) == clock.milliseconds


def test_ids_made_by_many_threads_at_once_are_all_different() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [one for batch in pool.map(lambda _: [uuid7() for _ in range(500)], range(8)) for one in batch]

    assert len(set(made)) == 4000


@given(st.uuids())
def test_the_usual_spelling_is_an_id_in_either_case(identity: UUID) -> None:
    assert parse_uuid(str(identity)) == identity
    assert parse_uuid(str(identity).upper()) == identity


@given(st.uuids())
def test_other_spellings_of_a_uuid_are_no_ids(identity: UUID) -> None:
    for text in (identity.hex, identity.urn, f"{{{identity}}}", f" {identity}", f"{identity}\n"):
        assert parse_uuid(text) is None


@given(st.text() | st.text("0123456789abcdef-", min_size=32, max_size=38))
@example("\N{ARABIC-INDIC DIGIT ONE}" * 8 + "-1111-1111-1111-111111111111")
@example("00000000-0000-0000-0000_000000000000")
@example("9" * 10_000)
def test_whatever_is_taken_for_an_id_is_its_spelling(text: str) -> None:
    identity = parse_uuid(text)

    assert identity is None or str(identity) == text.lower()
