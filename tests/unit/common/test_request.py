"""Request ids that may stand in a log line are kept; deadlines shrink and never turn negative."""

import time
from contextvars import copy_context
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common import request
from libs.common.request import accept_request_id, remaining_seconds


@pytest.mark.parametrize("offered", ["a", "0123", "trace:1/2+3=4-5_6.7", "x" * 128])
def test_the_callers_own_id_is_kept(offered: str) -> None:
    assert accept_request_id(offered) == offered


@pytest.mark.parametrize("offered", [None, "", "x" * 129, "a b", "a\nb", "a\n", "\x1b[31m", "ä", '"', "{", "\x00"])
def test_an_id_that_may_not_stand_in_a_log_line_is_replaced(offered: str | None) -> None:
    identity = accept_request_id(offered)

    assert UUID(identity).version == 7


@given(st.text())
def test_whatever_is_offered_the_id_is_short_printable_ascii(offered: str) -> None:
    identity = accept_request_id(offered)

    assert 1 <= len(identity) <= 128
    assert identity.isascii()
    assert identity.isprintable()
    assert " " not in identity


def remaining_after(seconds: float | None) -> float | None:
    """What remains in a context of its own whose deadline lies so many seconds ahead."""
    context = copy_context()
    context.run(request.deadline.set, None if seconds is None else time.monotonic() + seconds)
    return context.run(remaining_seconds)


def test_without_a_call_there_is_no_deadline() -> None:
    assert remaining_after(None) is None


def test_what_remains_is_at_most_what_was_given() -> None:
    remaining = remaining_after(5)

    assert remaining is not None
    assert 0 < remaining <= 5


def test_a_deadline_that_has_passed_leaves_nothing_rather_than_less() -> None:
    assert remaining_after(-5) == 0
