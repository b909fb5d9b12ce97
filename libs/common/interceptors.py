"""What happens around every RPC that is served: request id, deadline, who calls, the audit log, one log line, errors to their wire form."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError

from libs.common import errors, request, status
from libs.common.access.access_tokens import AccessToken
from libs.common.access.bearer import AUTHORIZATION
from libs.common.access.guard import Guard
from libs.common.access.principal import caller, set_caller
from libs.common.audit import AuditLog, Recording
from libs.common.errors import KilnError, PermissionDenied
from libs.common.logs import logger
from libs.common.policy import Access, policy_of

STATUS_DETAILS: Final = "grpc-status-details-bin"
# Calls that answer even when the server is full.
_RESERVED: Final = "/grpc.health.v1.Health/"
# What has its calls end before it does, when its server stops.
_ENDS_BY_ITSELF: Final = "/kiln.carrier.v1.CarrierInternal/Carry"
# How often it is asked whether who makes a call that stays open still may.
_RECHECK_SECONDS: Final = 1.0


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server.

    Args:
        guard: Says who makes a call, and whether it may.
        max_concurrent: Calls served at once; more are refused with `RESOURCE_EXHAUSTED`. Health checks and streams that stay open
            do not count.
        audit_log: Where calls are written down that must be; None for a server without such calls.
    """

    def __init__(self, guard: Guard, *, max_concurrent: int, audit_log: AuditLog | None = None) -> None:
        self.guard = guard
        self.max_concurrent = max_concurrent
        self.audit_log = audit_log
        self.serving = 0
        self.watches: set[_Call] = set()

    def end_watches(self) -> None:
        """Ends the streams that services keep open to hear of changes: they would keep a server from stopping, and open another soon."""
        for call in self.watches:
            call.end()

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

    def check_audited(self, method: str, *, unary: bool) -> None:
        """Raises ValueError for an RPC that must be written down in the audit log, and would not be."""
        if policy_of(method).audited and not (unary and self.audit_log):
            raise ValueError(f"{method} is to be in the audit log, and {'there is none' if unary else 'is not unary'}")

    def _unary(self, method: str, inner: Callable[..., Awaitable[Any]], read: Callable[[Any], Any]) -> Callable[..., Awaitable[Any]]:
        if (audited := policy_of(method).audited) and self.audit_log:
            return self._audited(method, inner, read, partial(Recording, self.audit_log, audited, method.rpartition("/")[2]))

        async def handle(message: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async with _Call(self, method, context) as call:
                await call.acknowledge()
                await call.admit()
                return await inner(read(message), context)

        return handle

    def _audited(
        self, method: str, inner: Callable[..., Awaitable[Any]], read: Callable[[Any], Any], record: Callable[[], Recording]
    ) -> Callable[..., Awaitable[Any]]:
        async def handle(message: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async with _AuditedCall(self, method, context, record()) as call:
                await call.acknowledge()
                answer = await inner(await call.begin(message, read), context)
                call.recording.answered(answer)
                return answer

        return handle

    def _streaming(self, method: str, inner: Callable[..., Any], read: Callable[[Any], Any]) -> Callable[..., AsyncIterator[Any]]:
        async def handle(message: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            async with _Call(self, method, context) as call:
                await call.admit()
                # Not before: a client that was told to go on, and writes while it is refused, may hear of an internal error instead
                # (grpc/grpc#36066).
                await call.acknowledge()
                answers = inner(read(message), context)
                if not hasattr(answers, "__aiter__"):  # a handler that writes through the context, as gRPC's own services do
                    await answers
                    return
                async for answer in answers:
                    yield answer

        return handle


class _Call:
    """A call that is served: what it knows of itself, its deadline, its line in the log, and its error as a status.

    A class and no generator, and one for all that: it is around every call, and costs less than the call's own work this way.
    """

    __slots__ = (
        "_admitted",
        "_authorization",
        "_began",
        "_cancelling",
        "_context",
        "_ended",
        "_expired",
        "_identity",
        "_method",
        "_seconds",
        "_server",
        "_shut_out",
        "_task",
        "_timer",
    )

    def __init__(self, server: ServerInterceptor, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._server = server
        self._method = method
        self._context = context
        self._admitted = self._expired = self._shut_out = self._ended = False
        self._authorization = ""
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._began = time.monotonic()
        offered: str | None = None
        for key, value in self._context.invocation_metadata() or ():
            if key == request.REQUEST_ID_HEADER and isinstance(value, str):
                offered = value
            elif key == AUTHORIZATION and isinstance(value, str):
                self._authorization = value
        self._identity = request.accept_request_id(offered)
        request.request_id.set(self._identity)
        return self

    async def acknowledge(self) -> None:
        """Sends what goes before all answers. Of a stream it says that the call is admitted: one that is refused has none of it, so that a
        caller who waits for it knows that nothing it sent was looked at.
        """
        await self._context.send_initial_metadata(((request.REQUEST_ID_HEADER, self._identity),))

    async def admit(self) -> None:
        """Counts the call, gives it its deadline, and finds out who makes it.

        Raises:
            ResourceExhausted: there are as many as may be.
            DeadlineExceeded: it has passed.
            Unauthenticated, PermissionDenied, Unavailable: who calls may not, or it cannot be known.
        """
        policy = policy_of(self._method)
        self._bound(policy.deadline_seconds)
        token = self._server.guard.recall(policy, self._authorization)
        if token is None:
            token = await self._server.guard.admit(policy, self._authorization, address_of(self._context))
        set_caller(token.principal if token else None)
        if policy.deadline_seconds is None and token:
            self._task = _current_task()
            self._recheck(token)
            if policy.access is Access.SERVICE and self._method != _ENDS_BY_ITSELF:
                self._server.watches.add(self)

    def end(self) -> None:
        """Ends the call because its server stops."""
        self._ended = True
        self._task.cancel()

    def _bound(self, allowed: float | None) -> None:
        if allowed is None:
            request.deadline.set(None)
            return
        if not self._method.startswith(_RESERVED):
            if self._server.serving >= self._server.max_concurrent:
                raise errors.ResourceExhausted("too many calls at once", reason="TOO_MANY_CALLS", retry_after=1)
            self._server.serving += 1
            self._admitted = True
        offered = self._context.time_remaining()
        self._seconds = allowed if offered is None else min(allowed, offered)
        if self._seconds <= 0:
            raise errors.DeadlineExceeded("the call's deadline had passed before it began")
        request.deadline.set(time.monotonic() + self._seconds)
        self._task = _current_task()
        self._cancelling = self._task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def _recheck(self, token: AccessToken) -> None:
        """Ends a call that stays open once its caller may not make it any more."""
        if self._server.guard.is_stale(token):
            self._shut_out = True
            self._task.cancel()
        else:
            self._timer = asyncio.get_running_loop().call_later(_RECHECK_SECONDS, self._recheck, token)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> bool:
        return self._end(error)[2]

    def _end(self, error: BaseException | None) -> tuple[grpc.StatusCode, str, bool]:
        """Ends the call: its status, the error's reason, and whether the error is told and need not be raised."""
        if self._timer is not None:
            self._timer.cancel()
        self._server.serving -= self._admitted
        self._server.watches.discard(self)
        # As `asyncio.timeout` does it: whoever else has cancelled the task meant it.
        if self._expired and self._task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError):
            error = errors.DeadlineExceeded(f"the call took longer than {self._seconds:.3g} s")
        elif self._shut_out and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            error = errors.Unauthenticated("who calls has changed since the call began", reason="STALE_TOKEN")
        elif self._ended and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            error = errors.Unavailable("the service is stopping", reason="STOPPING")
        code, reason, is_told = grpc.StatusCode.OK, "", isinstance(error, Exception)
        if isinstance(error, Exception):
            # The status is set instead of aborting: grpc.aio does not wait for aborted handlers when it stops (grpc/grpc#37239).
            known = shown(error, method=self._method)
            code, reason = status.code_of(known), known.reason
            set_status(self._context, known, self._identity)
        elif error is not None:
            code = grpc.StatusCode.CANCELLED
        if not self._method.startswith("/grpc."):
            logger().info("rpc", method=self._method, code=code.name, ms=round((time.monotonic() - self._began) * 1000, 1))
        return code, reason, is_told


class _AuditedCall(_Call):
    """A call that is written down in the audit log."""

    __slots__ = ("recording",)

    def __init__(self, server: ServerInterceptor, method: str, context: grpc.aio.ServicerContext[Any, Any], recording: Recording) -> None:
        super().__init__(server, method, context)
        self.recording = recording

    async def begin(self, message: Any, read: Callable[[Any], Any]) -> Any:
        """Admits the call and writes its beginning down; of one that anyone may make, its handler does that. The request.

        Raises:
            KilnError: it cannot be made.
        """
        self.recording.came(address_of(self._context), self._identity)
        try:
            await self.admit()
        except PermissionDenied:
            with suppress(KilnError):
                self.recording.refused(await self._server.guard.who(self._authorization, address_of(self._context)))
                self.recording.asked(read(message))
            raise
        request = read(message)
        self.recording.asked(request)
        if policy_of(self._method).access is not Access.PUBLIC:
            self.recording.by(caller())
            await self.recording.begin()
        return request

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> bool:
        code, reason, is_told = self._end(error)
        await self.recording.end(code.name, reason)
        return is_told


def _current_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a call is served by a task")
    return task


def address_of(context: Any) -> str:
    """Where a caller is: as the gateway says where it carries the call, else where the connection comes from."""
    if getattr(context, "is_carried", False):
        return said(context, request.CALLER_ADDRESS_HEADER)
    # For instance `ipv4:127.0.0.1:40312` or `ipv6:%5B::1%5D:40312`.
    kind, _, rest = unquote(context.peer()).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


def agent_of(context: Any) -> str:
    """What a caller says of its program."""
    return said(context, request.CALLER_AGENT_HEADER if getattr(context, "is_carried", False) else "user-agent")


def said(context: Any, wanted: str) -> str:
    """The value of some metadata; empty when there is none."""
    return next((value for key, value in context.invocation_metadata() or () if key == wanted and isinstance(value, str)), "")


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
