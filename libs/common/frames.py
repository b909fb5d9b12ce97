"""Messages over a TCP connection, as frames: a length of four bytes, big-endian, and so many bytes.

What comes together in one turn of the loop is sent together, and nothing waits where there is nothing to gather.
"""

import asyncio
import socket
from typing import Final, cast

from google.protobuf.message import DecodeError

from libs.common.channel import MAX_MESSAGE_BYTES
from libs.common.logs import logger

# As large as a message of gRPC's may be. Whoever sends a larger frame is not understood any more.
MAX_FRAME_BYTES: Final = MAX_MESSAGE_BYTES
# How much goes into one frame, unless a single message of those in it has more; and what goes with each of them, about.
FRAME_BYTES: Final = 512 << 10
AROUND_BYTES: Final = 2 << 10
# With so much to send nothing is gained by gathering more, and the other side could be at work.
ENOUGH: Final = 16
# How many values of `authorization` have a number on a connection at most: the oldest makes room.
MAX_PRESENTED: Final = 1000
# A frame that says something by being there.
SIGN: Final = bytes(4)
_LENGTH_BYTES: Final = 4
# What may wait for the other side to read before nothing more is sent.
_UNREAD_BYTES: Final = 1 << 20
# A side that died without a word, or does not read for so long, is found out as soon as gRPC's keepalive does.
_IDLE_SECONDS: Final = 20
_SILENT_SECONDS: Final = 10


class Frames(asyncio.Protocol):
    """One end of a connection. `next_message` says what it sends, `received` takes what comes, `wake` has it look for something to send."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = asyncio.Transport()
        self._partial = bytearray()
        # Below so many bytes there is no whole frame.
        self._wanted = _LENGTH_BYTES
        self._is_awake = False
        self._is_unread = False

    def next_message(self) -> bytes | None:
        """What is to be sent next; None where there is nothing."""
        raise NotImplementedError

    def received(self, message: bytes) -> None:
        """A message has come.

        Raises:
            DecodeError: it is none. The connection ends.
        """
        raise NotImplementedError

    def all_sent(self) -> None:
        """There is nothing more to send."""

    def wake(self, waiting: int = 0) -> None:
        """There may be something to send, which goes out with all that this turn of the loop brings, or before where that is much.

        Args:
            waiting: How much there is.
        """
        if waiting >= ENOUGH:
            self._send()
        elif not self._is_awake:
            self._is_awake = True
            self._loop.call_soon(self._wake_up)

    def send(self, message: bytes) -> None:
        """Sends a message now."""
        self._transport.writelines((len(message).to_bytes(_LENGTH_BYTES), message))

    def abort(self) -> None:
        """Ends the connection at once."""
        self._transport.abort()

    @property
    def is_ended(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_UNREAD_BYTES)
        _find_out_silence(transport.get_extra_info("socket"))

    def pause_writing(self) -> None:
        """Called by the loop: the other side does not read what it is sent."""
        self._is_unread = True

    def resume_writing(self) -> None:
        """Called by the loop."""
        self._is_unread = False
        self.wake()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._partial:
            self._partial += data
            if len(self._partial) < self._wanted:
                return
            data = bytes(self._partial)
            self._partial.clear()
        try:
            self._partial += data[self._take(data) :]
        except (DecodeError, FrameTooLarge) as error:
            logger().warning("carrier_not_understood", error=str(error))
            self.abort()

    def _take(self, data: bytes) -> int:
        """Takes the whole frames from the beginning of some bytes, and says how many bytes they are."""
        at, end, self._wanted = 0, len(data), _LENGTH_BYTES
        while end - at >= _LENGTH_BYTES:
            begin = at + _LENGTH_BYTES
            length = int.from_bytes(data[at:begin])
            if length > MAX_FRAME_BYTES:
                raise FrameTooLarge(f"a frame of {length} bytes, where {MAX_FRAME_BYTES} are the most")
            if begin + length > end:
                self._wanted += length
                break
            at = begin + length
            self.received(data[begin:at])
        return at

    def _wake_up(self) -> None:
        self._is_awake = False
        self._send()

    def _send(self) -> None:
        while not self._is_unread and not self._transport.is_closing():
            message = self.next_message()
            if message is None:
                self.all_sent()
                return
            self.send(message)


class FrameTooLarge(Exception):
    """A frame is announced that nobody may send."""


def _find_out_silence(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _SILENT_SECONDS // 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, (_IDLE_SECONDS + _SILENT_SECONDS) * 1000)
