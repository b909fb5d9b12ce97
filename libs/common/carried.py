"""Many unary calls over one stream: the server's side."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar, cast

import grpc
from kiln.carrier.v1 import carrier_pb2 as pb
from kiln.carrier.v1 import carrier_pb2_grpc

from libs.common import status
from libs.common.carrier import MESSAGE_BYTES, Metadata
from libs.common.errors import Unavailable, Unimplemented
from libs.common.interceptors import ServerInterceptor, set_status, shown
from libs.common.policy import policy_of

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
                self.by_method[method] = self._interceptor.around(method, handler)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """Called by generated code, with the same once more."""


class Context:
    """What a handler finds of its call: of gRPC's own context, what Kiln uses.

    Attributes:
        is_carried: Tells it from gRPC's own. What its metadata says of the caller can be believed, since only services may carry calls.
    """

    is_carried: ClassVar[bool] = True

    __slots__ = ("_call", "_metadata", "_until", "answer")

    def __init__(self, call: pb.Call) -> None:
        self._call = call
        self._metadata: Metadata | None = None
        self._until = time.monotonic() + call.timeout_ms / 1000 if call.timeout_ms else None
        self.answer = pb.Answer(number=call.number)

    def invocation_metadata(self) -> Metadata:
        """What was sent along."""
        if self._metadata is None:
            self._metadata = sent_along(self._call)
        return self._metadata

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline."""
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    async def send_initial_metadata(self, pairs: Metadata) -> None:
        """Nothing that a caller needs: services send it ahead of streams alone."""

    def set_trailing_metadata(self, pairs: Metadata) -> None:
        """Of it the caller needs what the status says to programs; its request's id it knows."""
        self.answer.status_details = cast(bytes, dict(pairs).get(status.DETAILS, b""))

    def set_code(self, code: grpc.StatusCode) -> None:
        """The status."""
        number: int = code.value[0]
        self.answer.code = number

    def set_details(self, details: str) -> None:
        """What the status says."""
        self.answer.details = details


class CarrierServicer(carrier_pb2_grpc.CarrierInternalServicer):
    """Makes the calls that come over a stream, each as a task of its own, and answers them as they end.

    Args:
        handlers: Unary RPCs by wire name.
    """

    def __init__(self, handlers: Mapping[str, Handle]) -> None:
        self._handlers = handlers
        self._streams: set[_Stream] = set()
        self._is_draining = False

    async def Carry(self, requests: AsyncIterator[pb.CarryRequest], context: Any) -> AsyncIterator[pb.CarryResponse]:
        stream = _Stream(self._handlers, is_draining=self._is_draining)
        self._streams.add(stream)
        reading = asyncio.create_task(stream.read(requests))
        try:
            async for answers in stream.answers():
                yield pb.CarryResponse(answers=answers)
        finally:
            self._streams.discard(stream)
            reading.cancel()
            await asyncio.gather(reading, stream.cancel(), return_exceptions=True)

    def drain(self) -> None:
        """From now on no call is begun, and streams end with their last answers. A caller makes what was not begun elsewhere."""
        self._is_draining = True
        for stream in self._streams:
            stream.drain()


class _Stream:
    """The calls of one stream."""

    def __init__(self, handlers: Mapping[str, Handle], *, is_draining: bool) -> None:
        self._handlers = handlers
        self._is_draining = is_draining
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._ended: list[pb.Answer] = []
        self._something = asyncio.Event()
        self._is_over = False

    async def read(self, requests: AsyncIterator[pb.CarryRequest]) -> None:
        """Begins and cancels calls as they come, until the caller has no more."""
        try:
            async for request in requests:
                for call in request.calls:
                    self._begin(call)
                for number in request.cancelled:
                    self._cancel(number)
        finally:
            self._is_over = True
            self._something.set()

    async def answers(self) -> AsyncIterator[list[pb.Answer]]:
        """What has ended since the last; ends when nothing can come any more."""
        while True:
            await self._something.wait()
            self._something.clear()
            if self._ended:
                ended, self._ended = self._ended, []
                for portion in _portions(ended):
                    yield portion
            if not self._calls and not self._ended and (self._is_over or self._is_draining):
                return

    def drain(self) -> None:
        """Begins nothing more."""
        self._is_draining = True
        self._something.set()

    async def cancel(self) -> None:
        """Cancels what runs, and returns when it has ended."""
        calls = dict(self._calls)
        for number in calls:
            self._cancel(number)
        await asyncio.gather(*calls.values(), return_exceptions=True)

    def _begin(self, call: pb.Call) -> None:
        self._calls[call.number] = self._loop.create_task(self._make(call))

    def _cancel(self, number: int) -> None:
        if task := self._calls.get(number):
            # It may not have begun, and then does not.
            task.add_done_callback(lambda _: self._forget(number))
            task.cancel()

    def _forget(self, number: int) -> None:
        self._calls.pop(number, None)
        self._something.set()

    async def _make(self, call: pb.Call) -> None:
        context = Context(call)
        try:
            handle = self._handlers.get(call.method)
            if self._is_draining:
                set_status(context, Unavailable("the service is stopping; try again", reason="STOPPING", retry_after=1), "")
            elif handle is None:
                set_status(context, Unimplemented("Method not found!"), "")
            else:
                context.answer.message = await handle(call.message, context)
        except Exception as error:
            # Around the handler nothing should be left to fail; a caller hears of it all the same.
            set_status(context, shown(error, method=call.method), "")
        finally:
            self._forget(call.number)
        self._ended.append(context.answer)


def _portions(answers: list[pb.Answer]) -> Iterable[list[pb.Answer]]:
    """Answers as they fit into messages, which one answer always does."""
    if len(answers) == 1 or sum(len(answer.message) for answer in answers) <= MESSAGE_BYTES:
        return [answers]
    portions: list[list[pb.Answer]] = []
    size = 0
    for answer in answers:
        size += len(answer.message)
        if portions and size <= MESSAGE_BYTES:
            portions[-1].append(answer)
        else:
            portions.append([answer])
            size = len(answer.message)
    return portions


def sent_along(call: pb.Call) -> Metadata:
    """The metadata of a call that was carried."""
    pairs = zip(call.metadata_keys, call.metadata_values, strict=True)
    return [(key, value if key.endswith("-bin") else value.decode()) for key, value in pairs]
