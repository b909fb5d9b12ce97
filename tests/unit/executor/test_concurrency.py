"""A function has no more runs at once than its limit lets it have, and takes nothing from others."""

from contextlib import ExitStack
from uuid import UUID

import pytest

from libs.common.errors import ResourceExhausted
from services.executor.concurrency import Concurrency
from tests.unit.executor.fakes import function

OTHER = UUID(int=2)


def test_as_many_runs_as_the_limit_are_taken_and_one_more_is_told_the_limit_and_how_to_raise_it() -> None:
    concurrency, two_at_once = Concurrency(), function(max_concurrency=2)

    with concurrency.place(two_at_once), concurrency.place(two_at_once), pytest.raises(ResourceExhausted) as refusal, ExitStack() as third:
        third.enter_context(concurrency.place(two_at_once))

    assert (refusal.value.reason, refusal.value.retry_after) == ("TOO_MANY_CONCURRENT_CALLS", 1)
    assert refusal.value.metadata == {"limit": "maxConcurrency", "value": "2"}
    for word in ("echo", "2 runs", "limits.maxConcurrency", "PUT /functions/{id}"):
        assert word in refusal.value.message


def test_a_full_function_stops_no_other() -> None:
    concurrency = Concurrency()

    with concurrency.place(function(max_concurrency=1)), concurrency.place(function("other", OTHER, max_concurrency=1)):
        pass


@pytest.mark.parametrize("error", [None, RuntimeError()])
def test_a_run_makes_room_when_it_ends_however_it_ends(error: Exception | None) -> None:
    concurrency, one_at_once = Concurrency(), function(max_concurrency=1)

    for _ in range(3):
        try:
            with concurrency.place(one_at_once):
                if error:
                    raise error
        except RuntimeError:
            continue


def test_a_changed_limit_acts_on_the_next_call() -> None:
    concurrency = Concurrency()

    with concurrency.place(function(max_concurrency=1)), concurrency.place(function(max_concurrency=2)):
        with pytest.raises(ResourceExhausted), concurrency.place(function(max_concurrency=1)):
            pass
        with concurrency.place(function(max_concurrency=3)):
            pass
