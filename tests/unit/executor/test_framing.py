"""Messages come out of the stream as they went in, however it was cut, and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.sandbox.framing import BadFrame, Decoder, framed


@given(st.lists(st.binary()), st.integers(1, 50))
def test_messages_survive_any_cutting_of_the_stream(messages: list[bytes], size: int) -> None:
    stream = framed(messages)
    decoder = Decoder(1 << 20)

    received = [message for start in range(0, len(stream), size) for message in decoder.feed(stream[start : start + size])]

    assert received == messages


def test_a_message_above_the_bound_is_refused_before_it_has_come() -> None:
    decoder = Decoder(10)

    with pytest.raises(BadFrame):
        decoder.feed(framed([b"x" * 11])[:4])
