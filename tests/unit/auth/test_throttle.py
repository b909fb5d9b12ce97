"""The arithmetic of pauses."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.auth.records import Tries
from services.auth.throttle import MAX_PAUSE_SECONDS, Allowance

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def tries(failures: int, began_seconds_ago: float = 0, last_seconds_ago: float = 0) -> Tries:
    return Tries(b"", failures, NOW - timedelta(seconds=began_seconds_ago), NOW - timedelta(seconds=last_seconds_ago))


def test_pauses_double_up_to_a_quarter_of_an_hour() -> None:
    allowance = Allowance(5, timedelta(days=1))

    waits = [allowance.seconds_to_wait(tries(failures), NOW) for failures in range(4, 19)]

    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]


@given(st.integers(0, 10**9), st.floats(0, 10**6), st.floats(0, 10**6))
def test_no_wait_is_negative_or_too_long(failures: int, began: float, last: float) -> None:
    wait = Allowance(5, timedelta(days=1)).seconds_to_wait(tries(failures, began, last), NOW)

    assert 0 <= wait <= MAX_PAUSE_SECONDS


def test_a_new_span_begins_with_one_failure() -> None:
    allowance = Allowance(5, timedelta(hours=1))

    assert allowance.counted(tries(7, 3599), NOW) == tries(8, 3599)
    assert allowance.counted(tries(7, 3600), NOW) == tries(1)
    assert allowance.counted(tries(0, 10), NOW) == tries(1)
    assert allowance.seconds_to_wait(tries(70, 3600), NOW) == 0
