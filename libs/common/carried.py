"""Many unary calls over one connection: the server's side."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar, Final, cast

import grpc
from google.protobuf.message import DecodeError
from kiln.carrier.v1 import carrier_pb2 as pb

from libs.common import status
from libs.common.access.bearer import AUTHORIZATION
from libs.common.carrier import Metadata
from libs.common.errors import ResourceExhausted, Unavailable, Unimplemented
from libs.common.frames import AROUND_BYTES, FRAME_BYTES, MAX_FRAME_BYTES, MAX_PRESENTED, SIGN, Frames
from libs.common.interceptors import ServerInterceptor
from libs.common.policy import policy_of
from libs.common.served import set_status, shown

# What an answer may have: with what is around it, a frame must hold it.
MAX_ANSWER_BYTES: Final = MAX_FRAME_BYTES - (64 << 10)

# A unary RPC: the encoded request and a context in, the encoded answer out; an empty one where the context has a status instead.
Handle = Callable[[bytes, Any], Awaitable[bytes]]


class Handlers:
    """Takes the place of a server when servicers are added: what it gives to the server has all around it that is around a call.

    Args:
        interceptor: What is around each.
        server: Where they are served.

    Attributes:
        by_method: The unary ones, for calls that are carried.
    """

    def __init__(self, interceptor: ServerInterceptor, server: grpc.aio.Server) -> None:
        self._interceptor = interceptor
        self._server = server
        self.by_method: dict[str, Handle] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Called by generated code."""
        wrapped: dict[str, Any] = {}
        for name, handler in handlers.items():
            # One that does not say who may call it raises here, so that its service does not start.
            method, is_unary = f"/{service}/{name}", not handler.request_streaming and not handler.response_streaming
            policy_of(method)
            self._interceptor.check_audited(method, unary=is_unary)
            wrapped[name] = self._interceptor.wrapped(method, handler)
            if is_unary:
                self.by_method[method] = wrapped[name].unary_unary
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """Called by generated code, with the same once more."""


class Presented:
    """What numbers stand for on one connection."""

    def __init__(self) -> None:
        self._values: dict[int, str] = {}

    def by(self, call: pb.Call) -> str:
        """What a call presents, which is the next on the connection; empty for nothing.

        Raises:
            DecodeError: its number stands for nothing.
        """
        number = call.authorization
        if not number:
            return ""
        if value := call.authorization_value:
            if number > MAX_PRESENTED:
                raise DecodeError(f"{number} is no number for what is presented")
            self._values[number] = value
        elif number not in self._values:
            raise DecodeError(f"nothing was presented as number {number}")
        return self._values[number]


class Context:
    """What a handler finds of its call: of gRPC's own context, what Kiln uses.

    Args:
        call: As it came.
        authorization: What it presents.

    Attributes:
        is_carried: Tells it from gRPC's own. What its metadata says of the caller can be believed, since only services may carry calls.
    """

    is_carried: ClassVar[bool] = True

    __slots__ = ("_authorization", "_call", "_metadata", "_until", "answer")

    def __init__(self, call: pb.Call, authorization: str = "") -> None:
        self._call = call
        self._authorization = authorization
        self._metadata: Metadata | None = None
        self._until = time.monotonic() + call.timeout_ms / 1000 if call.timeout_ms else None
        self.answer = pb.Answer(number=call.number)

    def invocation_metadata(self) -> Metadata:
        """What was sent along."""
        if self._metadata is None:
            self._metadata = sent_along(self._call, self._authorization)
        return self._metadata

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline."""
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    async def send_initial_metadata(self, pairs: Metadata) -> None:
        """Nothing that a caller needs: services send it ahead of streams alone."""

    def set_trailing_metadata(self, pairs: Metadata) -> None:
        """Of it the caller needs what the status says to programs; its request's id it knows."""
        self.answer.status_details = cast(bytes, dict(pairs).get(status.DETAILS, b""))

    def refuse_answer(self) -> None:
        """Puts an error in the place of an answer that cannot be carried, which would take the connection with it."""
        self.answer.message = b""
        error = ResourceExhausted(f"the answer is larger than {MAX_ANSWER_BYTES} bytes", reason="ANSWER_TOO_LARGE")
        set_status(self, error, "")

    def set_code(self, code: grpc.StatusCode) -> None:
        """The status."""
        number: int = code.value[0]
        self.answer.code = number

    def set_details(self, details: str) -> None:
        """What the status says."""
        self.answer.details = details


class CarriedConnection(Frames):
    """Makes the calls that come over a connection, each as a task of its own, and answers them as they end.

    Args:
        handlers: Unary RPCs by wire name.

    Attributes:
        ended: Done once the connection and all its calls have ended.
    """

    def __init__(self, handlers: Mapping[str, Handle]) -> None:
        super().__init__()
        self._handlers = handlers
        self._presented = Presented()
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._answers: deque[pb.Answer] = deque()
        self._is_asked = False
        self._is_draining = self._is_over = False
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def drain(self) -> None:
        """Begins nothing more, and ends with the last answer."""
        self._is_draining = True
        self.wake()

    def received(self, message: bytes) -> None:
        # What comes after the farewell is not begun, as that says.
        if self._is_over:
            return
        request = pb.CarryRequest.FromString(message)
        for call in request.calls:
            self._calls[call.number] = self._loop.create_task(self._make(call, self._presented.by(call)))
        for number in request.cancelled:
            self._cancel(number)
        if request.ping:
            self._is_asked = True
            self.wake()

    def next_message(self) -> bytes | None:
        """As many answers as fit into a frame, which one always does."""
        answers, size = list[pb.Answer](), 0
        while self._answers:
            size += len(self._answers[0].message) + AROUND_BYTES
            if answers and size > FRAME_BYTES:
                break
            answers.append(self._answers.popleft())
        if not answers and not self._is_asked:
            return None
        pong, self._is_asked = self._is_asked, False
        return pb.CarryResponse(answers=answers, pong=pong).SerializeToString()

    def all_sent(self) -> None:
        if self._is_draining and not self._calls and not self._is_over:
            self._is_over = True
            self._transport.write(SIGN)
            # The caller ends the connection when it has read that. Closed here, what it sends meanwhile would take the answers with it.
            self._transport.write_eof()

    def pause_writing(self) -> None:
        """Called by the loop. Who does not read answers can make no more calls, whose answers would fill the memory."""
        super().pause_writing()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Called by the loop."""
        super().resume_writing()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop."""
        self._is_over = True
        for number in list(self._calls):
            self._cancel(number)
        self._settle()

    def _cancel(self, number: int) -> None:
        if task := self._calls.get(number):
            # It may not have begun, and then does not.
            task.add_done_callback(lambda _: self._forget(number))
            task.cancel()

    def _forget(self, number: int) -> None:
        self._calls.pop(number, None)
        self._settle()

    def _settle(self) -> None:
        """Goes on with ending, where this is the end."""
        if self._calls or self.ended.done():
            return
        if self._is_draining:
            self.wake()
        if self.is_ended:
            self.ended.set_result(None)

    async def _make(self, call: pb.Call, authorization: str) -> None:
        context = Context(call, authorization)
        try:
            handle = self._handlers.get(call.method)
            if self._is_draining:
                set_status(context, Unavailable("the service is stopping; try again", reason="STOPPING", retry_after=1), "")
            elif handle is None:
                set_status(context, Unimplemented("Method not found!"), "")
            else:
                context.answer.message = await handle(call.message, context)
                if len(context.answer.message) > MAX_ANSWER_BYTES:
                    context.refuse_answer()
        except Exception as error:
            # Around the handler nothing should be left to fail; a caller hears of it all the same.
            set_status(context, shown(error, method=call.method), "")
        finally:
            self._forget(call.number)
        self._answers.append(context.answer)
        self.wake(len(self._answers))


def sent_along(call: pb.Call, authorization: str) -> Metadata:
    """The metadata of a call that was carried, with what it presents."""
    pairs = zip(call.metadata_keys, call.metadata_values, strict=True)
    metadata: list[tuple[str, str | bytes]] = [(key, value if key.endswith("-bin") else value.decode()) for key, value in pairs]
    if authorization:
        metadata.append((AUTHORIZATION, authorization))
    return metadata
