"""What happens around every RPC that is served: request id, deadline, who calls, the audit log, one log line, errors to their wire form."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from libs.common import errors
from libs.common.access.guard import Guard
from libs.common.audit import AuditLog, Recording
from libs.common.policy import policy_of
from libs.common.served import AuditedCall, Call, Serving


class ServerInterceptor:
    """Wraps every handler of a server. What gRPC calls an interceptor costs each call more than this does.

    Args:
        guard: Says who makes a call, and whether it may.
        max_concurrent: Calls served at once.
        audit_log: Where calls are written down that must be; None for a server without such calls.
    """

    def __init__(self, guard: Guard, *, max_concurrent: int, audit_log: AuditLog | None = None) -> None:
        self._serving = Serving(guard, max_concurrent)
        self._audit_log = audit_log

    def end_watches(self) -> None:
        """Ends the streams that services keep open to hear of changes: they would keep a server from stopping, and open another soon."""
        for call in self._serving.watches:
            call.stop()

    def wrapped(self, method: str, handler: Any) -> Any:
        """A handler with all that is around it. A unary one takes an encoded request and gives an encoded answer, empty for an error."""
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
            return make(self._streaming(method, inner, _reader(handler)), response_serializer=handler.response_serializer)
        inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
        make = grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        # Messages are read and written inside of the wrapper, where one that is none becomes an error like any other.
        return make(self._unary(method, inner, _reader(handler), handler.response_serializer))

    def check_audited(self, method: str, *, unary: bool) -> None:
        """Raises ValueError for an RPC that must be written down in the audit log, and would not be."""
        if policy_of(method).audited and not (unary and self._audit_log):
            raise ValueError(f"{method} is to be in the audit log, and {'there is none' if unary else 'is not unary'}")

    def _unary(
        self, method: str, inner: Callable[..., Awaitable[Any]], read: Callable[[Any], Any], write: Callable[[Any], bytes] | None
    ) -> Callable[..., Awaitable[bytes]]:
        policy, write = policy_of(method), write or bytes
        if policy.audited and self._audit_log:
            return self._audited(method, inner, read, write, partial(Recording, self._audit_log, policy.audited, method.rpartition("/")[2]))

        async def handle(message: Any, context: Any) -> bytes:
            call = Call(self._serving, method, policy, context)
            try:
                if not call.begin():
                    await call.admit()
                answer = write(await inner(read(message), context))
            except BaseException as error:
                if not call.end(error).is_told:
                    raise
                return b""
            call.end(None)
            return answer

        return handle

    def _audited(
        self,
        method: str,
        inner: Callable[..., Awaitable[Any]],
        read: Callable[[Any], Any],
        write: Callable[[Any], bytes],
        record: Callable[[], Recording],
    ) -> Callable[..., Awaitable[bytes]]:
        policy = policy_of(method)

        async def handle(message: Any, context: Any) -> bytes:
            call = AuditedCall(self._serving, method, policy, context, record())
            try:
                answer = await inner(await call.recorded(message, read), context)
                call.recording.answered(answer)
                encoded = write(answer)
            except BaseException as error:
                if not (await call.end_recorded(error)).is_told:
                    raise
                return b""
            await call.end_recorded(None)
            return encoded

        return handle

    def _streaming(self, method: str, inner: Callable[..., Any], read: Callable[[Any], Any]) -> Callable[..., AsyncIterator[Any]]:
        policy = policy_of(method)

        async def handle(message: Any, context: Any) -> AsyncIterator[Any]:
            call = Call(self._serving, method, policy, context)
            try:
                if not call.begin():
                    await call.admit()
                # Not before: a client that was told to go on, and writes while it is refused, may hear of an internal error instead
                # (grpc/grpc#36066).
                await call.acknowledge()
                answers = inner(read(message), context)
                if not hasattr(answers, "__aiter__"):  # a handler that writes through the context, as gRPC's own services do
                    await answers
                else:
                    async for answer in answers:
                        yield answer
            except BaseException as error:
                if not call.end(error).is_told:
                    raise
            else:
                call.end(None)

        return handle


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
