"""Many unary calls over one stream: the caller's side.

A call of its own costs gRPC some 0.3 ms of either side's processor. Carried, calls that come together travel together: whatever has come
while a message was being sent is the next message, so that nothing waits while there is nothing to gather.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from kiln.carrier.v1 import carrier_pb2 as pb
from kiln.carrier.v1 import carrier_pb2_grpc

from libs.common import status
from libs.common.access.bearer import AUTHORIZATION, bearer
from libs.common.access.service_tokens import ServiceTokens
from libs.common.deadlines import Deadlines
from libs.common.logs import logger
from libs.common.request import REQUEST_ID_HEADER

# Larger requests travel alone: they gain nothing, and would keep small ones waiting.
MAX_CARRIED_BYTES: Final = 64 << 10
# What one call may have that is carried all the same: with what is around it, a message of gRPC's must hold it.
MAX_CARRIED_ALONE_BYTES: Final = 12 << 20
# How much goes into one message.
MESSAGE_BYTES: Final = 512 << 10
# How gRPC's own core says that nothing was sent; a call that never left this process is no different.
_NOT_SENT: Final = "failed to connect to all addresses: the stream that was to carry the call ended before"

_BROKE_OFF: Final = "the connection to the service broke off while it served the call; what came of it is not known"

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(slots=True)
class Answer:
    """What a call was answered with.

    Attributes:
        message: Encoded.
        initial: Metadata that came before it.
        trailing: Metadata that came behind it.
    """

    message: bytes
    initial: Metadata = ()
    trailing: Metadata = ()


class Carrier:
    """Makes calls over one stream of a channel, which is opened with the first and again after it broke. Close it before the channel.

    Args:
        channel: To the server.
        tokens: What this service says that it is; None where nobody asks.
    """

    def __init__(self, channel: grpc.aio.Channel, tokens: ServiceTokens | None) -> None:
        self._tokens = tokens
        self._stub: Any = carrier_pb2_grpc.CarrierInternalStub(channel)
        self._number = 0
        self._waiting: list[pb.Call] = []
        self._cancelled: list[int] = []
        self._pending: dict[int, asyncio.Future[pb.Answer]] = {}
        self._deadlines = Deadlines(self._expire)
        self._something = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Ends the stream, and with it all calls."""
        if self._running:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def call(self, method: str, message: bytes, *, seconds: float, metadata: Metadata) -> Answer:
        """Makes a call.

        Args:
            method: Wire name.
            message: The request, encoded.
            seconds: How long it may take.
            metadata: Sent along.

        Raises:
            grpc.aio.AioRpcError: the server refused, or the stream broke off.
        """
        self._number = number = self._number + 1
        pending = self._pending[number] = asyncio.get_running_loop().create_future()
        self._waiting.append(called(number, method, message, seconds, metadata))
        self._something.set()
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
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
        return Answer(answer.message)

    def _expire(self, number: int) -> None:
        pending = self._pending.get(number)
        if pending and not pending.done():
            self._cancel(number)
            pending.set_exception(_error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def _cancel(self, number: int) -> None:
        self._cancelled.append(number)
        self._something.set()

    async def _run(self) -> None:
        """Keeps one stream until it ends; calls that it leaves unanswered fail."""
        stream = self._stub.Carry(metadata=[(AUTHORIZATION, bearer(self._tokens.own()))] if self._tokens else ())
        sending = asyncio.create_task(self._send(stream))
        failure: grpc.aio.AioRpcError | None = None
        try:
            async for response in stream:
                for answer in response.answers:
                    pending = self._pending.get(answer.number)
                    # Whoever waited may be gone.
                    if pending and not pending.done():
                        pending.set_result(answer)
        except grpc.aio.AioRpcError as error:
            failure = error
        finally:
            sending.cancel()
            stream.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            self._break(failure)

    async def _send(self, stream: Any) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            while self._waiting or self._cancelled:
                await stream.write(self._next())

    def _next(self) -> pb.CarryRequest:
        """As much of what waits as fits into a message, which one call always does."""
        size = count = 0
        for call in self._waiting:
            size += len(call.message)
            if count and size > MESSAGE_BYTES:
                break
            count += 1
        request = pb.CarryRequest(calls=self._waiting[:count], cancelled=self._cancelled)
        del self._waiting[:count]
        self._cancelled.clear()
        return request

    def _break(self, failure: grpc.aio.AioRpcError | None) -> None:
        unsent = {call.number for call in self._waiting}
        self._waiting.clear()
        self._cancelled.clear()
        pending = {number: one for number, one in self._pending.items() if not one.done()}
        if failure and pending:
            logger().warning("carrier_broke_off", calls=len(pending), code=failure.code().name, details=failure.details())
        for number, one in pending.items():
            # Whatever ended the stream, it is not what came of the call.
            one.set_exception(_error(grpc.StatusCode.UNAVAILABLE, _NOT_SENT if number in unsent else _BROKE_OFF))


def called(number: int, method: str, message: bytes, seconds: float, metadata: Metadata) -> pb.Call:
    """A call as it is carried."""
    return pb.Call(
        number=number,
        method=method,
        message=message,
        timeout_ms=max(1, round(seconds * 1000)),
        metadata_keys=[key for key, _ in metadata],
        metadata_values=[value.encode() if isinstance(value, str) else value for _, value in metadata],
    )


def _told(answer: pb.Answer, metadata: Metadata) -> grpc.aio.AioRpcError:
    """What the server refused a call with. Where it had not heard of it, there is no metadata."""
    trailing: list[tuple[str, str | bytes]] = [(REQUEST_ID_HEADER, dict(metadata).get(REQUEST_ID_HEADER, ""))]
    if answer.status_details:
        trailing.append((status.DETAILS, answer.status_details))
    return _error(status.code_numbered(answer.code), answer.details, trailing)


def _error(code: grpc.StatusCode, details: str, trailing: Metadata = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details)
