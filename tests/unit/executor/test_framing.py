"""Messages come out of the stream as they went in, however it was cut, and nothing else does."""

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.sandbox.framing import BadFrame, Channel, Decoder, encode

HEADS = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text())


@given(st.lists(st.tuples(HEADS, st.binary())), st.integers(1, 50))
def test_messages_survive_any_cutting_of_the_stream(messages: list[tuple[dict[str, Any], bytes]], size: int) -> None:
    stream = b"".join(encode(head, body) for head, body in messages)
    decoder = Decoder(1 << 20)
    received = []

    for start in range(0, len(stream), size):
        decoder.feed(stream[start : start + size])
        while message := decoder.next():
            received.append((message.head, message.body))

    assert received == messages
    assert not decoder.has_more


def test_a_body_above_the_bound_is_refused_before_it_has_come() -> None:
    decoder = Decoder(10)
    decoder.feed(encode({}, b"x" * 11)[:8])

    with pytest.raises(BadFrame):
        decoder.next()


@pytest.mark.parametrize("head", [b"[]", b"nope", b""])
def test_a_head_that_is_no_object_is_refused(head: bytes) -> None:
    decoder = Decoder(10)
    decoder.feed(len(head).to_bytes(4, "big") + bytes(4) + head)

    with pytest.raises(BadFrame):
        decoder.next()


def test_a_channel_ends_when_the_other_side_does() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Channel(theirs, 10).send({"kind": "cancel"})
        theirs.shutdown(socket.SHUT_WR)
        channel = Channel(ours, 10)

        message = channel.receive()

        assert message is not None
        assert message.kind == "cancel"
        assert channel.receive() is None
