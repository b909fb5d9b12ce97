"""What happens around every RPC, on both sides: request id, deadline, one log line, and errors to and from their wire form."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from libs.common import errors, request, status
from libs.common.errors import KilnError
from libs.common.logs import logger
from libs.common.policy import policy_of

STATUS_DETAILS: Final = "grpc-status-details-bin"
# What a caller keeps of its own time for the way back, so that the inner error arrives before the outer deadline.
MARGIN_SECONDS: Final = 0.05
# Calls that answer even when the server is full.
_RESERVED: Final = "/grpc.health.v1.Health/"


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server.

    Args:
        max_concurrent: Calls served at once; more are refused with `RESOURCE_EXHAUSTED`. Health checks and streams that stay open
            do not count.
    """

    def __init__(self, *, max_concurrent: int) -> None:
        self._max_concurrent = max_concurrent
        self._serving = 0

    async def intercept_service(self, continuation: Callable[..., Awaitable[Any]], details: grpc.HandlerCallDetails) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        method = details.method
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
            wrapped: Callable[..., Any] = self._streaming(method, inner, _reader(handler))
        else:
            inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
            make = grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
            wrapped = self._unary(method, inner, _reader(handler))
        # Messages are read inside of the wrapper, where one that is none becomes an error like any other.
        return make(wrapped, request_deserializer=None, response_serializer=handler.response_serializer)

    def around(self, method: str, handler: Any) -> Callable[[bytes, Any], Awaitable[Any]]:
        """A unary RPC's handler with all that is around it: encoded request and context in, answer out; None with an error's status."""
        return self._unary(method, handler.unary_unary, _reader(handler))

    def _unary(self, method: str, inner: Callable[..., Awaitable[Any]], read: Callable[[Any], Any]) -> Callable[..., Awaitable[Any]]:
        async def handle(message: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async with self._around(method, context), self._admitted(method), _within_deadline(method, context):
                return await inner(read(message), context)

        return handle

    def _streaming(self, method: str, inner: Callable[..., Any], read: Callable[[Any], Any]) -> Callable[..., AsyncIterator[Any]]:
        async def handle(message: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            async with self._around(method, context), self._admitted(method), _within_deadline(method, context):
                answers = inner(read(message), context)
                if not hasattr(answers, "__aiter__"):  # a handler that writes through the context, as gRPC's own services do
                    await answers
                    return
                async for answer in answers:
                    yield answer

        return handle

    @asynccontextmanager
    async def _around(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
        """What the call knows of itself, its line in the log, and its error as a status. Always enters: a refusal is raised inside."""
        began = time.monotonic()
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        identity = request.accept_request_id(metadata.get(request.REQUEST_ID_HEADER))
        request.request_id.set(identity)
        await context.send_initial_metadata(((request.REQUEST_ID_HEADER, identity),))
        code = grpc.StatusCode.OK
        try:
            yield
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            # The status is set instead of aborting: grpc.aio does not wait for aborted handlers when it stops (grpc/grpc#37239).
            known = shown(error, method=method)
            code = status.code_of(known)
            set_status(context, known, identity)
        finally:
            if not method.startswith("/grpc."):
                logger().info("rpc", method=method, code=code.name, ms=round((time.monotonic() - began) * 1000, 1))

    @asynccontextmanager
    async def _admitted(self, method: str) -> AsyncIterator[None]:
        if method.startswith(_RESERVED) or policy_of(method).deadline_seconds is None:
            yield
            return
        if self._serving >= self._max_concurrent:
            raise errors.ResourceExhausted("too many calls at once", reason="TOO_MANY_CALLS", retry_after=1)
        self._serving += 1
        try:
            yield
        finally:
            self._serving -= 1


@asynccontextmanager
async def _within_deadline(method: str, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    allowed = policy_of(method).deadline_seconds
    if allowed is None:
        request.deadline.set(None)
        yield
        return
    offered = context.time_remaining()
    seconds = allowed if offered is None else min(allowed, offered)
    if seconds <= 0:
        raise errors.DeadlineExceeded("the call's deadline had passed before it began")
    request.deadline.set(time.monotonic() + seconds)
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise errors.DeadlineExceeded(f"the call took longer than {seconds:.3g} s") from None


def _reader(handler: Any) -> Callable[[Any], Any]:
    """How a handler's message, or each of its stream of messages, is read.

    What it gives raises InvalidArgument for bytes that are no such message.
    """
    parse = handler.request_deserializer

    def read(message: bytes) -> Any:
        try:
            return parse(message) if parse else message
        except DecodeError as error:
            raise errors.InvalidArgument(f"the request cannot be read: {error}", reason="MALFORMED_REQUEST") from None

    async def read_all(messages: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for message in messages:
            yield read(message)

    return read_all if handler.request_streaming else read


def shown(error: Exception, **where: str) -> KilnError:
    """The error as a caller may see it. A fault of the platform is logged and tells the request id alone, whoever raised it.

    Args:
        error: What was raised.
        where: Fields of the line in the log.
    """
    if isinstance(error, errors.Internal) or not isinstance(error, KilnError):
        logger().error("internal_error", exc_info=error, **where)
        return errors.Internal(f"internal error; the platform's logs tell more under request id {request.request_id.get()}")
    return error


def set_status(context: Any, error: KilnError, identity: str) -> None:
    """Ends a call with an error, details included, without aborting its handler."""
    context.set_code(status.code_of(error))
    context.set_details(error.message)
    context.set_trailing_metadata(((STATUS_DETAILS, status.to_proto(error, identity).SerializeToString()),))


class UnaryClientInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """Gives a unary call its deadline and request id, and raises the error that the server raised."""

    async def intercept_unary_unary(self, continuation: Callable[..., Awaitable[Any]], details: Any, message: Any) -> Any:
        try:
            call = await continuation(_outgoing(details), message)
            return await call
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from None


class StreamClientInterceptor(grpc.aio.UnaryStreamClientInterceptor):
    """The same for a call that answers with a stream."""

    async def intercept_unary_stream(self, continuation: Callable[..., Awaitable[Any]], details: Any, message: Any) -> Any:
        return _translated(await continuation(_outgoing(details), message))


async def _translated(answers: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        async for answer in answers:
            yield answer
    except grpc.aio.AioRpcError as error:
        raise status.from_rpc_error(error) from None


def _outgoing(details: Any) -> grpc.aio.ClientCallDetails:
    method = details.method.decode() if isinstance(details.method, bytes) else details.method
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    if identity := request.request_id.get():
        metadata[request.REQUEST_ID_HEADER] = identity
    return grpc.aio.ClientCallDetails(
        method=details.method,
        timeout=details.timeout or onward_timeout(method),
        metadata=metadata,
        credentials=details.credentials,
        wait_for_ready=details.wait_for_ready,
    )


def onward_timeout(method: str) -> float | None:
    """Seconds an onward call may take: the RPC's own policy, and what remains of the caller's deadline less `MARGIN_SECONDS`."""
    allowed, remaining = policy_of(method).deadline_seconds, request.remaining_seconds()
    if allowed is None:
        return None
    return allowed if remaining is None else min(allowed, max(0.001, remaining - MARGIN_SECONDS))
