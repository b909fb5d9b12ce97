"""What a guest is given is bounded and the same whenever the same sources are given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.sandbox import ErrorType, Level, Limits
from services.executor.sandbox.abi import GUEST_ABIS
from services.executor.sandbox.engine import printable
from services.executor.sandbox.host import MAX_LOG_LINES, GuestStopped, Host, Sources
from services.executor.sandbox.watch import Reason

DEFAULT = Limits()
FIXED = Sources(now=lambda: 1.2345, elapsed=lambda: 10.0, random=bytes)


def new_host(limits: Limits = DEFAULT, reason: Reason | None = None) -> Host:
    return Host(limits, lambda: reason, FIXED)


@given(st.lists(st.text()), st.integers(0, 40))
def test_logs_never_pass_their_bounds_and_losing_any_is_told(texts: list[str], max_log_bytes: int) -> None:
    host = new_host(Limits(max_log_bytes=max_log_bytes))

    for text in texts:
        host.log(Level.INFO, text)

    kept = [line.message for line in host.logs]
    assert sum(len(text.encode()) for text in kept) <= max_log_bytes
    assert len(kept) <= MAX_LOG_LINES
    assert host.logs_truncated == (kept != texts)


def test_a_text_that_was_cut_before_is_told_too() -> None:
    host = new_host()

    host.log(Level.INFO, "begin", cut=True)

    assert host.logs_truncated


def test_the_clock_is_coarse() -> None:
    assert new_host().now_ms() == 1234


@pytest.mark.parametrize(("reason", "kind"), [("TIMEOUT", ErrorType.TIMEOUT), ("CANCELLED", ErrorType.CANCELLED)])
def test_a_host_function_ends_a_guest_whose_time_is_up(reason: Reason, kind: ErrorType) -> None:
    host = new_host(reason=reason)

    with pytest.raises(GuestStopped):
        host.check_time()

    assert host.error is not None
    assert host.error.type is kind


def test_there_are_so_many_timers_and_no_more() -> None:
    host = new_host()

    for number in range(1000):
        host.start_timer(str(number))

    assert host.read_timer("0", stop=True) == 0
    assert host.read_timer("0", stop=True) is None
    assert host.read_timer("999", stop=False) is None


def test_what_stops_a_guest_says_nothing_of_it() -> None:
    host = new_host()

    assert str(host.stop(ErrorType.ABORT, "a secret")) == ""


def test_every_import_of_every_abi_has_a_host_function() -> None:
    for abi in GUEST_ABIS.values():
        assert abi.functions.keys() == abi.contract.imports.keys()


@given(st.text(max_size=2000))
def test_printable_text_fits_on_a_line(text: str) -> None:
    shown = printable(text, 100)

    assert shown.isprintable()
    assert len(shown) <= 100 * len(r"\U0001f600") + 3
