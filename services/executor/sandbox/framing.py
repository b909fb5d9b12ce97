"""Messages on the socket between the supervisor and a process: each is its size, a u32 in network order, and so many bytes."""

import struct
from collections.abc import Iterable
from typing import Final

_SIZE: Final = struct.Struct("!I")


class BadFrame(Exception):
    """The other side sent what is no message, or more than it may."""


def framed(messages: Iterable[bytes]) -> bytes:
    """The bytes of messages, one after the other."""
    parts: list[bytes] = []
    for message in messages:
        parts += (_SIZE.pack(len(message)), message)
    return b"".join(parts)


class Decoder:
    """Takes a stream apart into messages.

    Args:
        max_bytes: The largest message that is taken from the other side.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Takes bytes as they come; returns the messages that are whole with them.

        Raises:
            BadFrame: There is one that is too large.
        """
        self._rest += data
        rest, at, found = self._rest, 0, list[bytes]()
        while len(rest) - at >= _SIZE.size:
            (size,) = _SIZE.unpack_from(rest, at)
            if size > self._max_bytes:
                raise BadFrame(f"a message of {size} bytes")
            end = at + _SIZE.size + size
            if len(rest) < end:
                break
            found.append(bytes(rest[at + _SIZE.size : end]))
            at = end
        del rest[:at]
        return found
