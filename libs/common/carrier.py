"""Many unary calls over one connection: the caller's side.

A call of its own costs gRPC some 0.3 ms of either side's processor, and a message of a stream hardly less. Carried, calls that come
together travel together, and between the two loops there is nothing but a frame.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Any, Final

import grpc
from kiln.carrier.v1 import carrier_pb2 as pb
from kiln.carrier.v1 import carrier_pb2_grpc

from libs.common import status
from libs.common.access.bearer import AUTHORIZATION, bearer
from libs.common.access.service_tokens import ServiceTokens
from libs.common.deadlines import Deadlines
from libs.common.frames import AROUND_BYTES, FRAME_BYTES, MAX_PRESENTED, Frames
from libs.common.logs import logger
from libs.common.request import REQUEST_ID_HEADER

# Larger requests travel alone: they gain nothing, and would keep small ones waiting.
MAX_CARRIED_BYTES: Final = 64 << 10
# What one call may have that is carried all the same: with what is around it, a frame must hold it.
MAX_CARRIED_ALONE_BYTES: Final = 12 << 20
# How long an attempt at a connection may take.
_OPEN_SECONDS: Final = 5.0
# How often it is looked whether anything was heard. After one such time of silence the other side is asked whether it is there, and after
# another it counts as gone, though its system may still take what is sent.
_LOOK_SECONDS: Final = 10.0
# How gRPC's own core says that nothing was sent; a call that never left this process is no different.
_NOT_SENT: Final = "failed to connect to all addresses: the connection that was to carry the call ended before"

_BROKE_OFF: Final = "the connection to the service broke off while it served the call; what came of it is not known"

Metadata = Sequence[tuple[str, str | bytes]]


class Carrier:
    """Makes calls over one connection, which is opened with the first and again after it broke. Close it before the channel.

    Args:
        channel: To the server, which is asked over it where the connection is to be made.
        address: `host:port` of that channel.
        tokens: What this service says that it is; None where nobody asks.
    """

    def __init__(self, channel: grpc.aio.Channel, address: str, tokens: ServiceTokens | None) -> None:
        self._tokens = tokens
        self._host = address.rpartition(":")[0].strip("[]")
        self._stub: Any = carrier_pb2_grpc.CarrierInternalStub(channel)
        self._number = 0
        # Each with what it presents.
        self._waiting: dict[int, tuple[pb.Call, str]] = {}
        self._cancelled: list[int] = []
        self._pending: dict[int, asyncio.Future[pb.Answer]] = {}
        self._deadlines = Deadlines(self._expire)
        self._link: _Link | None = None
        self._opening: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""
        return self._link is not None

    async def close(self) -> None:
        """Ends the connection, and with it all calls."""
        if self._opening:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._link:
            self._link.abort()
            self._break(self._link)

    async def call(self, method: str, message: bytes, *, seconds: float, metadata: Metadata) -> bytes:
        """Makes a call. What it is answered with, encoded.

        Args:
            method: Wire name.
            message: The request, encoded.
            seconds: How long it may take.
            metadata: Sent along.

        Raises:
            grpc.aio.AioRpcError: the server refused, or the connection broke off.
        """
        self._number = number = self._number + 1
        pending: asyncio.Future[pb.Answer] = asyncio.get_running_loop().create_future()
        self._pending[number] = pending
        self._waiting[number] = called(number, method, message, seconds, metadata), _presented(metadata)
        if self._link:
            self._link.wake(len(self._waiting))
        elif self._opening is None:
            # It is nobody's in particular.
            self._opening = asyncio.create_task(self._open(), context=Context())
        self._deadlines.add(number, seconds)
        try:
            answer = await pending
        except asyncio.CancelledError:
            self._cancel(number)
            raise
        finally:
            self._deadlines.discard(number)
            self._pending.pop(number, None)
        if answer.code:
            raise _told(answer, metadata)
        encoded: bytes = answer.message
        return encoded

    def _expire(self, number: int) -> None:
        pending = self._pending.get(number)
        if pending and not pending.done():
            self._cancel(number)
            pending.set_exception(_error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def _cancel(self, number: int) -> None:
        """Takes back a call. One that was sent is cancelled on the other side."""
        if self._waiting.pop(number, None) is None and self._link:
            self._cancelled.append(number)
            self._link.wake()

    async def _open(self) -> None:
        """Makes the connection. Calls that have come meanwhile are its first, or fail where there is none."""
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                self._link = await self._connect()
                self._link.wake()
        except (grpc.aio.AioRpcError, OSError) as error:
            logger().warning("carrier_not_opened", calls=len(self._waiting), error=_words(error))
        finally:
            self._opening = None
            if self._link is None:
                self._fail(list(self._waiting), _NOT_SENT)

    async def _connect(self) -> "_Link":
        metadata = [(AUTHORIZATION, bearer(self._tokens.own()))] if self._tokens else ()
        opened: pb.OpenResponse = await self._stub.Open(pb.OpenRequest(), metadata=metadata)
        make = partial(_Link, opened.ticket, self._next, self._take, self._break)
        _, link = await asyncio.get_running_loop().create_connection(make, self._host, opened.port)
        try:
            await link.admitted
            if link.is_ended:
                raise ConnectionResetError("the connection ended as it began")
        except BaseException:
            link.abort()
            raise
        return link

    def _next(self, numbers: "Numbers") -> pb.CarryRequest | None:
        """As much of what waits as fits into a frame, which one call always does."""
        if not self._waiting and not self._cancelled:
            return None
        size, calls = 0, list[pb.Call]()
        for call, authorization in self._waiting.values():
            size += len(call.message) + AROUND_BYTES
            if calls and size > FRAME_BYTES:
                break
            if authorization:
                numbers.present(call, authorization)
            calls.append(call)
        for call in calls:
            del self._waiting[call.number]
        request = pb.CarryRequest(calls=calls, cancelled=self._cancelled)
        self._cancelled.clear()
        return request

    def _take(self, answers: Sequence[pb.Answer]) -> None:
        for answer in answers:
            pending = self._pending.get(answer.number)
            # Whoever waited may be gone.
            if pending and not pending.done():
                pending.set_result(answer)

    def _break(self, link: "_Link") -> None:
        """A connection has ended. Calls that it leaves unanswered fail."""
        if link is not self._link:
            return
        self._link = None
        self._cancelled.clear()
        self._fail(list(self._waiting), _NOT_SENT)
        # Whatever ended the connection, it is not what came of the calls.
        failed = self._fail(list(self._pending), _NOT_SENT if link.is_farewell_said else _BROKE_OFF)
        if failed and not link.is_farewell_said:
            logger().warning("carrier_broke_off", calls=failed)

    def _fail(self, numbers: Sequence[int], details: str) -> int:
        """Fails calls that still wait for their answers, and says how many those were."""
        failed = 0
        for number in numbers:
            self._waiting.pop(number, None)
            pending = self._pending.get(number)
            if pending and not pending.done():
                pending.set_exception(_error(grpc.StatusCode.UNAVAILABLE, details))
                failed += 1
        return failed


class Numbers:
    """What stands on one connection for what is presented there."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def present(self, call: pb.Call, authorization: str) -> None:
        """Has a call that is sent next present something, which is sent in full when it has no number yet."""
        number = self._numbers.get(authorization)
        if number is None:
            is_full = len(self._numbers) >= MAX_PRESENTED
            number = self._numbers.pop(next(iter(self._numbers))) if is_full else len(self._numbers) + 1
            self._numbers[authorization] = number
            call.authorization_value = authorization
        call.authorization = number


class _Link(Frames):
    """The caller's end of a connection.

    Args:
        ticket: What lets it in.
        next_request: What is to be sent next.
        take: Takes what calls were answered with.
        broke: Called once, when nothing more can come.

    Attributes:
        admitted: Done once the server has let it in; fails where it does not.
        is_farewell_said: Whether the server has said that whatever it has not answered it has not begun.
    """

    def __init__(
        self,
        ticket: bytes,
        next_request: Callable[[Numbers], pb.CarryRequest | None],
        take: Callable[[Sequence[pb.Answer]], None],
        broke: Callable[["_Link"], None],
    ) -> None:
        super().__init__()
        self._numbers = Numbers()
        self._ticket, self._next_request, self._take_answers, self._broke = ticket, next_request, take, broke
        self.admitted: asyncio.Future[None] = self._loop.create_future()
        self.is_farewell_said = False
        self._has_heard = True
        self._has_asked = False
        self._looking = self._loop.call_later(_LOOK_SECONDS, self._look)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._transport.write(self._ticket)

    def next_message(self) -> bytes | None:
        request = self._next_request(self._numbers)
        return request.SerializeToString() if request else None

    def _look(self) -> None:
        """Ends a connection on which nothing comes, not even an answer to that question."""
        if self._has_asked and not self._has_heard:
            self.abort()
            return
        self._has_asked = not self._has_heard
        if self._has_asked:
            self.send(pb.CarryRequest(ping=True).SerializeToString())
        self._has_heard = False
        self._looking = self._loop.call_later(_LOOK_SECONDS, self._look)

    def received(self, message: bytes) -> None:
        self._has_heard = True
        if message:
            self._take_answers(pb.CarryResponse.FromString(message).answers)
        elif not self.admitted.done():
            self.admitted.set_result(None)
        else:
            self.is_farewell_said = True
            self.abort()
            self._broke(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop."""
        self._looking.cancel()
        if not self.admitted.done():
            self.admitted.set_exception(error or ConnectionResetError("the service did not let the connection in"))
        self._broke(self)


def called(number: int, method: str, message: bytes, seconds: float, metadata: Metadata) -> pb.Call:
    """A call as it is carried, but for what it presents."""
    sent = [pair for pair in metadata if pair[0] != AUTHORIZATION]
    return pb.Call(
        number=number,
        method=method,
        message=message,
        timeout_ms=max(1, round(seconds * 1000)),
        metadata_keys=[key for key, _ in sent],
        metadata_values=[value.encode() if isinstance(value, str) else value for _, value in sent],
    )


def _presented(metadata: Metadata) -> str:
    for key, value in metadata:
        if key == AUTHORIZATION and isinstance(value, str):
            return value
    return ""


def _told(answer: pb.Answer, metadata: Metadata) -> grpc.aio.AioRpcError:
    """What the server refused a call with. Where it had not heard of it, there is no metadata."""
    trailing: list[tuple[str, str | bytes]] = [(REQUEST_ID_HEADER, dict(metadata).get(REQUEST_ID_HEADER, ""))]
    if answer.status_details:
        trailing.append((status.DETAILS, answer.status_details))
    return _error(status.code_numbered(answer.code), answer.details, trailing)


def _error(code: grpc.StatusCode, details: str, trailing: Metadata = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details)


def _words(error: grpc.aio.AioRpcError | OSError) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
