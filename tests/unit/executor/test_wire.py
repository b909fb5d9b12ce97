"""Calls and outcomes cross the process boundary unchanged, and nonsense does not cross it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.sandbox import Call, ErrorType, Frame, GuestError, Level, Limits, LogLine, Outcome
from services.executor.sandbox.framing import BadFrame, Decoder, Message, encode
from services.executor.sandbox.wire import call_of, outcome_of, ran_head, run_head

TEXTS = st.text(max_size=20)
SIZES = st.integers(0, 2**31)
ERRORS = st.builds(GuestError, st.sampled_from(ErrorType), TEXTS, st.lists(st.builds(Frame, TEXTS, TEXTS, SIZES, SIZES)).map(tuple))
LOGS = st.lists(st.builds(LogLine, st.sampled_from(Level), TEXTS)).map(tuple)
OUTCOMES = st.one_of(
    st.builds(Outcome, st.binary(), st.none(), LOGS, st.booleans(), SIZES, st.booleans(), SIZES),
    st.builds(Outcome, st.none(), ERRORS, LOGS, st.booleans(), SIZES, st.booleans(), SIZES),
)


def sent(head: Any, body: bytes) -> Message:
    decoder = Decoder(1 << 20)
    decoder.feed(encode(head, body))
    message = decoder.next()
    assert message is not None
    return message


@given(st.builds(Call, TEXTS, TEXTS, st.binary(), st.builds(Limits, SIZES, SIZES, SIZES, SIZES), st.dictionaries(TEXTS, TEXTS)))
def test_a_call_arrives_as_it_was_sent(call: Call) -> None:
    assert call_of(sent(run_head(call), call.input)) == call


@given(OUTCOMES)
def test_an_outcome_arrives_as_it_was_sent(outcome: Outcome) -> None:
    assert outcome_of(sent(ran_head(outcome), outcome.output or b""), cold_start=outcome.cold_start) == outcome


@pytest.mark.parametrize(
    "changed",
    [
        {"completed": None, "logs": 5},
        {"logs": [["LOUD", "x"]]},
        {"error": {"type": "NONE", "message": "", "stack": []}},
        {"error": {"type": "TRAP", "message": "", "stack": [{"no": 1}]}},
        {"duration_us": "long"},
    ],
)
def test_an_outcome_that_is_none_is_refused(changed: dict[str, Any]) -> None:
    head = {**ran_head(Outcome(b"1", None)), **changed}

    with pytest.raises(BadFrame):
        outcome_of(sent(head, b"1"), cold_start=False)


def test_a_message_of_another_kind_is_no_outcome() -> None:
    with pytest.raises(BadFrame):
        outcome_of(sent({"kind": "loaded"}, b""), cold_start=False)
