"""Requests and answers cross the process boundary unchanged, and nonsense does not cross it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.sandbox import Call, ErrorType, Frame, GuestError, Level, Limits, LogLine, Outcome
from services.executor.sandbox.framing import BadFrame
from services.executor.sandbox.wire import Loaded, Ran, Ready, Run, Stalled, answer_of, encode, request_of

TEXTS = st.text(max_size=20)
SIZES = st.integers(0, 2**31)
ERRORS = st.builds(GuestError, st.sampled_from(ErrorType), TEXTS, st.lists(st.builds(Frame, TEXTS, TEXTS, SIZES, SIZES)).map(tuple))
LOGS = st.lists(st.builds(LogLine, st.sampled_from(Level), TEXTS)).map(tuple)
OUTCOMES = st.one_of(
    st.builds(Outcome, st.binary(), st.none(), LOGS, st.booleans(), SIZES, st.booleans(), SIZES),
    st.builds(Outcome, st.none(), ERRORS, LOGS, st.booleans(), SIZES, st.booleans(), SIZES),
)


@given(st.builds(Call, TEXTS, TEXTS, st.binary(), st.builds(Limits, SIZES, SIZES, SIZES, SIZES), st.dictionaries(TEXTS, TEXTS)))
def test_a_call_arrives_as_it_was_sent(call: Call) -> None:
    assert request_of(encode(Run(7, call))) == Run(7, call)


@given(OUTCOMES)
def test_an_outcome_arrives_as_it_was_sent(outcome: Outcome) -> None:
    assert answer_of(encode(Ran(7, outcome))) == Ran(7, outcome)


@pytest.mark.parametrize("answer", [Loaded(1, None), Loaded(1, "no"), Stalled(1, [2, 3]), Ready(5, own_network=True)])
def test_other_answers_arrive_as_they_were_sent(answer: Any) -> None:
    assert answer_of(encode(answer)) == answer


OUTCOME: dict[str, Any] = {
    "output": b"1",
    "error": None,
    "logs": [],
    "logs_truncated": False,
    "duration_us": 1,
    "cold_start": False,
    "memory_peak_bytes": 1,
}


@pytest.mark.parametrize(
    "said",
    [
        ["Ran", 1, OUTCOME | {"logs": 5}],
        ["Ran", 1, OUTCOME | {"logs": [{"level": "LOUD", "message": "x"}]}],
        ["Ran", 1, OUTCOME | {"error": {"type": "NONE", "message": "", "stack": []}}],
        ["Ran", 1, OUTCOME | {"error": {"type": "TRAP", "message": "", "stack": [{"line": "x"}]}}],
        ["Ran", 1, OUTCOME | {"duration_us": "long"}],
        ["Ran", 1],
        ["Ran", "1", OUTCOME],
        ["Run", 1, OUTCOME],
        ["Stalled", 1, [None]],
        {},
        5,
    ],
)
def test_what_is_no_answer_is_refused(said: Any) -> None:
    with pytest.raises(BadFrame):
        answer_of(msgspec.msgpack.encode(said))


def test_bytes_that_are_nothing_are_refused() -> None:
    with pytest.raises(BadFrame):
        answer_of(b"\xc1")
