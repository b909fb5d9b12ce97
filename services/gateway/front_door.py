"""The front door: one gRPC port for every public service. It passes messages on as bytes, whatever they mean.

Internal services are not known here. Reflection and health are its own: the first over all public services, the second from what the
services behind say of themselves.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import grpc
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2

from libs.common import errors, request, status
from libs.common.access.bearer import AUTHORIZATION
from libs.common.carrier import Metadata
from libs.common.logs import logger
from libs.common.policy import policy_of
from libs.common.served import address_of, agent_of, said, set_status, shown
from libs.common.server import Server, start_server
from services.gateway import descriptors
from services.gateway.backends import Backend, Backends, StreamCall, onward_metadata
from services.gateway.callers import Caller, Callers
from services.gateway.settings import Settings
from services.gateway.tls import Certificate

# What a client may not pass on: what HTTP/2 and gRPC say of this hop alone, and what the services believe because only Kiln says it.
_HOP: Final = frozenset({"content-type", "host", "te", "user-agent"})
_KILNS_OWN: Final = frozenset(
    {
        request.REQUEST_ID_HEADER,
        request.EXECUTION_ID_HEADER,
        request.CALLER_ADDRESS_HEADER,
        request.CALLER_AGENT_HEADER,
        AUTHORIZATION,
        "cookie",
        "x-user-id",
        "forwarded",
    }
)
_DROPPED_PREFIXES: Final = (":", "grpc-", "x-forwarded-")
# Of one connection, which may be hostile. Once there are a thousand calls that nobody has looked at yet, gRPC's core drops some of
# anybody's as CANCELLED: ten connections must open and reset calls for that. RFC 9113 advises against fewer than a hundred for each.
_MAX_STREAMS: Final = 100

Context = grpc.aio.ServicerContext[bytes, bytes]
Pairs = tuple[tuple[str, str | bytes], ...]


class Proxy(grpc.GenericRpcHandler):
    """Handles every RPC of the public services by calling the same RPC of the service that owns it.

    Args:
        backends: Where calls go.
        callers: Who makes them.
        max_concurrent: Calls passed on at once; more are refused. Streams that stay open do not count.
    """

    def __init__(self, backends: Backends, callers: Callers, *, max_concurrent: int) -> None:
        self._callers = callers
        self._max_concurrent = max_concurrent
        self._serving = 0
        self._handlers = {descriptors.wire_name(method): self._handler(method, backends) for method in descriptors.public_methods()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of an RPC; None, which is `UNIMPLEMENTED`, for one that is not public."""
        return self._handlers.get(handler_call_details.method)

    def _handler(self, method: MethodDescriptor, backends: Backends) -> Any:
        name, backend = descriptors.wire_name(method), backends[descriptors.owner(method.containing_service.full_name)]
        if method.client_streaming or method.server_streaming:
            # On the wire one message is a stream of one, so that one handler does for all.
            return grpc.stream_stream_rpc_method_handler(partial(self._stream, name, backend))
        return grpc.unary_unary_rpc_method_handler(partial(self._unary, name, backend))

    async def _unary(self, method: str, backend: Backend, message: bytes, context: Context) -> bytes:
        async with self._around(method, context) as metadata:
            seconds = self._admit(method, context) or 0

            async def call(of_caller: Metadata) -> bytes:
                return await backend.unary(method, message, seconds=seconds, metadata=[*metadata, *of_caller])

            answer = await self._callers.call(method, _caller(context), call)
            context.set_trailing_metadata(((request.REQUEST_ID_HEADER, request.request_id.get()),))
            return answer
        return b""  # the error is set

    async def _stream(self, method: str, backend: Backend, messages: AsyncIterator[bytes], context: Context) -> None:
        async with self._around(method, context) as metadata:
            seconds = self._admit(method, context)

            async def begin(of_caller: Metadata) -> StreamCall:
                return await _admitted(await backend.stream(method, seconds=seconds, metadata=[*metadata, *of_caller]))

            call = await self._callers.call(method, _caller(context), begin)
            sending = asyncio.create_task(_send_on(messages, call))
            try:
                await context.send_initial_metadata(_back(await call.initial_metadata()))
                async for answer in call:
                    await context.write(answer)
                context.set_trailing_metadata(_back(await call.trailing_metadata()))
            finally:
                sending.cancel()
                call.cancel()

    @asynccontextmanager
    async def _around(self, method: str, context: Context) -> AsyncIterator[Metadata]:
        """Gives a call its metadata for the way on, and its errors and the line in the log their form. A refusal is raised inside."""
        began = time.monotonic()
        offered = [pair for pair in context.invocation_metadata() or () if not _is_dropped(pair[0])]
        identity = request.accept_request_id(said(context, request.REQUEST_ID_HEADER))
        request.request_id.set(identity)
        code = grpc.StatusCode.OK
        # Streams that stay open do not count; the service behind bounds them.
        counted = policy_of(method).deadline_seconds is not None
        self._serving += counted
        try:
            yield [*offered, *onward_metadata(method, identity)]
        except grpc.aio.AioRpcError as error:
            code = error.code()
            await _pass_back(context, error, method, identity)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            known = shown(error, method=method)
            code = status.code_of(known)
            set_status(context, known, identity)
        finally:
            self._serving -= counted
            logger().info("rpc", method=method, code=code.name, ms=round((time.monotonic() - began) * 1000, 1))

    def _admit(self, method: str, context: Context) -> float | None:
        """How many seconds a call may take; None for a stream that stays open."""
        allowed = policy_of(method).deadline_seconds
        if allowed is None:
            return None
        if self._serving > self._max_concurrent:
            raise errors.ResourceExhausted("too many calls at once", reason="TOO_MANY_CALLS", retry_after=1)
        offered = context.time_remaining()
        seconds = allowed if offered is None else min(allowed, offered)
        if seconds <= 0:
            raise errors.DeadlineExceeded("the call's deadline had passed before it began")
        return seconds


class FrontDoor:
    """The server of the front door. An async context manager; it listens once entered.

    Args:
        settings: The gateway's.
        backends: Where calls go.
        callers: Who makes them.
        certificate: What it speaks TLS with; None for no TLS.

    Raises:
        OSError: the address cannot be had.
    """

    def __init__(self, settings: Settings, backends: Backends, callers: Callers, certificate: Certificate | None) -> None:
        self._settings = settings
        self._certificate = certificate
        self._backends = backends
        self._callers = callers
        self._services = [service.full_name for service in descriptors.public_services()]
        self._server: Server | None = None

    async def __aenter__(self) -> Self:
        proxy = Proxy(self._backends, self._callers, max_concurrent=self._settings.max_concurrent_calls)
        self._server = await start_server(
            self._settings.grpc_address,
            [lambda server: server.add_generic_rpc_handlers((proxy,))],
            services=self._services,
            around=None,
            max_streams=_MAX_STREAMS,
            credentials=self._certificate.credentials() if self._certificate else None,
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Says NOT_SERVING, and lets calls in flight end within the drain time. A second call does nothing."""
        if self._server:
            server, self._server = self._server, None
            await server.stop(self._settings.drain_seconds)

    async def update_health(self) -> None:
        """Makes the health service say what the services behind say now; as a whole the door serves when all do."""
        if self._server is None:
            return
        health = self._server.health
        serving = await self._backends.serving()
        await health.set("", _word(all(serving.values())))
        for service in self._services:
            await health.set(service, _word(serving[descriptors.owner(service)]))


async def _admitted(call: StreamCall) -> StreamCall:
    """A stream that the service has admitted, which initial metadata says. Before that nothing that the client sends is passed on: a
    stream that is refused because its caller changed in the same moment can be begun anew.

    Raises:
        grpc.aio.AioRpcError: the service refused.
    """
    try:
        initial = await call.initial_metadata()
        if any(key == request.REQUEST_ID_HEADER for key, _ in initial) or await call.code() is grpc.StatusCode.OK:
            return call
        raise grpc.aio.AioRpcError(await call.code(), initial, await call.trailing_metadata(), await call.details())
    except BaseException:
        call.cancel()
        raise


async def _send_on(messages: AsyncIterator[bytes], call: StreamCall) -> None:
    # A call that has ended says so on its other side, where the status is passed back.
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        async for message in messages:
            await call.write(message)
        await call.done_writing()


async def _pass_back(context: Context, error: grpc.aio.AioRpcError, method: str, identity: str) -> None:
    if isinstance(fault := status.from_rpc_error(error), errors.Internal):
        # Not all that fails inside is Kiln's own code, which would have kept its words to itself.
        set_status(context, shown(fault, method=method), identity)
        return
    context.set_code(error.code())
    context.set_details(error.details() or "")
    context.set_trailing_metadata(_back(error.trailing_metadata()) or ((request.REQUEST_ID_HEADER, identity),))


def _back(metadata: Iterable[tuple[str, str | bytes]] | None) -> Pairs:
    """What of a service's metadata its caller gets."""
    return tuple((key, value) for key, value in metadata or () if key not in _HOP)


def _is_dropped(key: str) -> bool:
    return key in _HOP or key in _KILNS_OWN or key.startswith(_DROPPED_PREFIXES)


def _caller(context: Context) -> Caller:
    return Caller(said(context, AUTHORIZATION), address_of(context), agent_of(context))


def _word(serves: bool) -> Any:
    return health_pb2.HealthCheckResponse.SERVING if serves else health_pb2.HealthCheckResponse.NOT_SERVING
