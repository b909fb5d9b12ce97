"""Messages between the supervisor and its processes: a small JSON head and a body of raw bytes, over a Unix stream socket.

Layout: two u32 in network order, the sizes of head and body; then both. Heads are objects whose `kind` says what they are:

    to a worker      load (body: native code)   ->  loaded
                     run (body: input)          ->  ran (body: output) | missing
                     cancel                         no answer of its own: the run it stops answers
    to the preparer  compile (body: WebAssembly) -> compiled (body: native code) | refused
    from both        ready, once, before all else

Requests are answered in their order.
"""

import socket
import struct
from collections.abc import Mapping
from typing import Any, Final

import orjson

MAX_HEAD_BYTES: Final = 16 << 20

_SIZES: Final = struct.Struct("!II")


class BadFrame(Exception):
    """The other side sent what is no message, or more than it may."""


class Message:
    """One message: its head and its body."""

    __slots__ = ("body", "head")

    def __init__(self, head: Mapping[str, Any], body: bytes) -> None:
        self.head = head
        self.body = body

    @property
    def kind(self) -> str:
        """What it is; empty when it does not say."""
        return str(self.head.get("kind", ""))


def encode(head: Mapping[str, Any], body: bytes = b"") -> bytes:
    """The bytes of one message. Heads may hold dataclasses."""
    packed = orjson.dumps(head)
    return b"".join((_SIZES.pack(len(packed), len(body)), packed, body))


class Decoder:
    """Takes a stream apart into messages.

    Args:
        max_body_bytes: The largest body that is taken from the other side.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()

    @property
    def has_more(self) -> bool:
        """Whether bytes have come that no message was made of yet."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Takes bytes as they come."""
        self._buffer += data

    def next(self) -> Message | None:
        """The next whole message, if it is there.

        Raises:
            BadFrame: There is none that could be read, now or later.
        """
        buffer = self._buffer
        if len(buffer) < _SIZES.size:
            return None
        head_size, body_size = _SIZES.unpack_from(buffer)
        if head_size > MAX_HEAD_BYTES or body_size > self._max_body_bytes:
            raise BadFrame(f"a message of {head_size} + {body_size} bytes")
        body_start = _SIZES.size + head_size
        end = body_start + body_size
        if len(buffer) < end:
            return None
        message = Message(_decoded(bytes(buffer[_SIZES.size : body_start])), bytes(buffer[body_start:end]))
        del buffer[:end]
        return message


def _decoded(packed: bytes) -> dict[str, Any]:
    try:
        head = orjson.loads(packed)
    except orjson.JSONDecodeError:
        raise BadFrame("a head that is not JSON") from None
    if not isinstance(head, dict):
        raise BadFrame("a head that is no object")
    return head


class Channel:
    """The blocking end of the stream, inside a worker or the preparer."""

    _CHUNK = 256 << 10

    def __init__(self, stream: socket.socket, max_body_bytes: int) -> None:
        self._stream = stream
        self._decoder = Decoder(max_body_bytes)

    @property
    def has_more(self) -> bool:
        """Whether the other side has sent something behind the message received last."""
        return self._decoder.has_more

    def receive(self) -> Message | None:
        """The next message, when it has come; None when the other side is gone."""
        while (message := self._decoder.next()) is None:
            data = self._stream.recv(self._CHUNK)
            if not data:
                return None
            self._decoder.feed(data)
        return message

    def send(self, head: Mapping[str, Any], body: bytes = b"") -> None:
        """Sends one message."""
        self._stream.sendall(encode(head, body))
