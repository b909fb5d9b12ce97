"""The one server bootstrap: every service is started, drained and stopped here."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

import grpc
import uvloop
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from kiln.auth.v1 import auth_pb2_grpc
from kiln.carrier.v1 import carrier_pb2_grpc

from libs.common import audit, logs
from libs.common.access.exchange import Exchange
from libs.common.access.guard import Guard, OpenGuard, TokenGuard
from libs.common.access.service_tokens import ServiceTokens
from libs.common.access.watch import TokenState, TokenWatch
from libs.common.audit import AuditLog
from libs.common.carried import Handlers
from libs.common.carrier_servicer import CarrierServicer
from libs.common.channel import MAX_MESSAGE_BYTES, PING_TIMEOUT, open_channel
from libs.common.errors import KilnError
from libs.common.interceptors import ServerInterceptor
from libs.common.logs import logger
from libs.common.loopback import is_loopback
from libs.common.reflection import ReflectedPool
from libs.common.scheduling import prefer_throughput
from libs.common.settings import InvalidSettings, ProcessSettings, ServiceSettings

SERVER_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 3),
    ("grpc.keepalive_permit_without_calls", 1),
    # A stream may be idle for as long as its caller lives: one whose connection died without a word is found out within 40 seconds.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    PING_TIMEOUT,
    # Handshakes of TLS and HTTP/2; two minutes otherwise.
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Two servers on one port must clash, not share it.
    ("grpc.so_reuseport", 0),
)

# Streams of one connection. Without a limit a client that opens and resets them costs ten times the CPU (rapid reset).
MAX_STREAMS: Final = 1024

T = TypeVar("T")

# Adds a servicer to a server, for instance `partial(registry_pb2_grpc.add_RegistryServicer_to_server, servicer)`.
Registration = Callable[[grpc.aio.Server], None]


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a service's `main` to its end. Settings that cannot be used end it with exit code 78 (EX_CONFIG of sysexits)."""
    prefer_throughput()
    try:
        uvloop.run(main())
    except InvalidSettings as error:
        print(f"kiln: {error}", file=sys.stderr)
        raise SystemExit(78) from None


async def forever(event: str, step: Callable[[], Awaitable[object]], *, pause_seconds: float) -> None:
    """Repeats `step` with a pause between, whatever it raises: the loop of every background task.

    Args:
        event: Names the task in the log line of a failed step.
        step: Finishes by itself in bounded time, or blocks until there is work.
        pause_seconds: Waited after each step; ten times as long, at most 5 s, after a failed one.
    """
    while True:
        pause = pause_seconds
        try:
            await step()
        except KilnError as error:
            logger().warning(event, error=error.message, reason=error.reason)
            pause = min(5.0, max(0.2, pause_seconds * 10))
        except Exception as error:
            logger().error(event, exc_info=error)
            pause = min(5.0, max(0.2, pause_seconds * 10))
        await asyncio.sleep(pause)


class Process:
    """One running process: what it opened, its background tasks, and when to stop (SIGTERM, SIGINT). An async context manager.

    At its end it stops the background tasks and closes what was opened in reverse order. Told to stop while it starts, it ends there.

    Args:
        name: Of the service.
        settings: Its own.
        addresses: Where it will listen.

    Attributes:
        tokens: What it proves itself by to other services; None where nobody asks.

    Raises:
        InvalidSettings: everyone may do everything, and not only on this machine.
    """

    def __init__(self, name: str, settings: ProcessSettings, addresses: Sequence[str]) -> None:
        logs.configure(name, settings.log_level)
        self.tokens = _service_tokens(name, settings, addresses)
        self._access = settings
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._starting: asyncio.Task[Any] | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._told_to_stop)

    async def __aenter__(self) -> Self:
        self._starting = asyncio.current_task()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> bool:
        self._starting = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()
        return kind is asyncio.CancelledError and self._stop.is_set()

    async def open(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Opens a resource that is closed when the service ends."""
        return await self._stack.enter_async_context(manager)

    def background(self, loop: Coroutine[Any, Any, None]) -> None:
        """Starts a background task that lives as long as the service."""
        self._tasks.append(asyncio.create_task(loop))

    async def exchange(self) -> Exchange:
        """Follows the auth service; what credentials are exchanged by."""
        stub: Any = auth_pb2_grpc.AuthInternalStub(await self.open(open_channel(self._access.auth_address, self.tokens)))
        state = TokenState()
        self.background(forever("token_watch", TokenWatch(stub, state).follow, pause_seconds=0.1))
        return Exchange(stub, state)

    async def guard(self) -> Guard:
        """What lets calls in. It follows the auth service, which so follows itself, as the others do."""
        if self.tokens is None:
            return OpenGuard()
        return TokenGuard(await self.exchange(), self.tokens, grace_seconds=self._access.auth_grace_seconds)

    async def stopped(self) -> None:
        """Waits until the process is told to stop."""
        self._starting = None
        await self._stop.wait()

    def _told_to_stop(self) -> None:
        self._stop.set()
        # It may wait for something that never comes, such as its database.
        if self._starting:
            self._starting.cancel()


class Service(Process):
    """A process that serves gRPC. When told to stop it says NOT_SERVING and lets calls in flight end first."""

    def __init__(self, name: str, settings: ServiceSettings) -> None:
        super().__init__(name, settings, [settings.listen_address])
        self._settings = settings

    async def serve(self, *registrations: Registration, services: Sequence[str], audit_log: AuditLog | None = None) -> None:
        """Serves until told to stop.

        Args:
            registrations: Each adds one servicer.
            services: Full names for health and reflection.
            audit_log: Where calls are written down that must be; None for a service without such calls.
        """
        server = await start_server(
            self._settings.listen_address,
            registrations,
            services=services,
            around=ServerInterceptor(await self.guard(), max_concurrent=self._settings.max_concurrent_calls, audit_log=audit_log),
        )
        logger().info("serving", address=self._settings.listen_address)
        freeze()
        await self.stopped()
        logger().info("draining")
        await server.stop(self._settings.drain_seconds)
        await audit.all_written()


def _service_tokens(name: str, settings: ProcessSettings, addresses: Sequence[str]) -> ServiceTokens | None:
    if settings.auth == "off":
        logger().warning("auth_off", meaning="everyone who reaches this process may do everything")
        if open_to_others := [address for address in addresses if not is_loopback(address)]:
            raise InvalidSettings(f"KILN_AUTH=off is for loopback addresses alone, and this process is to listen on {open_to_others[0]}")
        return None
    secret = settings.service_secret
    if secret is None:
        raise InvalidSettings("KILN_SERVICE_SECRET: is missing")
    return ServiceTokens(secret.get_secret_value(), name)


def freeze() -> None:
    """Keeps what is alive now out of full garbage collections, which would only stall calls; for the moment when serving begins."""
    gc.collect()
    gc.freeze()
    # What calls leave goes as it is let go of; cycles are few. Looking for them as often as Python does would take 4 % of the hot path.
    gc.set_threshold(20_000, 20, 50)


class Server:
    """A running server.

    Attributes:
        health: What it says of itself.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        health_servicer: health.aio.HealthServicer,
        carrier: CarrierServicer,
        around: ServerInterceptor | None,
    ) -> None:
        self._server = server
        self.health = health_servicer
        self._carrier = carrier
        self._around = around

    async def stop(self, drain_seconds: float) -> None:
        """Says NOT_SERVING, and lets calls in flight end within a time."""
        await self.health.enter_graceful_shutdown()
        self._carrier.drain()
        if self._around:
            self._around.end_watches()
        await asyncio.gather(self._server.stop(drain_seconds), self._carrier.stop(drain_seconds))


async def start_server(
    address: str,
    registrations: Sequence[Registration],
    *,
    services: Sequence[str],
    around: ServerInterceptor | None,
    max_streams: int = MAX_STREAMS,
    credentials: grpc.ServerCredentials | None = None,
) -> Server:
    """Starts a server with health and reflection. What the registrations add is there for carried calls as well, which come in
    at a port beside.

    Args:
        address: `host:port`.
        registrations: Each adds one servicer.
        services: Full names for health and reflection.
        around: What is around every call; None for a server that does all of that itself, and carries nothing.
        max_streams: Calls that one connection may have open; a client waits with more.
        credentials: Of a server that speaks TLS.

    Raises:
        OSError: the address cannot be had.
    """
    options = (*SERVER_OPTIONS, ("grpc.max_concurrent_streams", max_streams))
    server = grpc.aio.server(options=options)
    handlers = Handlers(around, server) if around else None
    registered = cast(grpc.aio.Server, handlers) if handlers else server
    for register in registrations:
        register(registered)
    carrier = CarrierServicer(handlers.by_method if handlers else {})
    if handlers:
        carrier_pb2_grpc.add_CarrierInternalServicer_to_server(carrier, registered)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, registered)
    pool = cast(DescriptorPool, ReflectedPool())
    reflection.enable_server_reflection([*services, health.SERVICE_NAME, reflection.SERVICE_NAME], registered, pool=pool)
    try:
        _ = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: is it taken?") from error
    if handlers:
        await carrier.start(address.rpartition(":")[0].strip("[]"))
    await server.start()
    for service in ("", *services):
        await health_servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
    return Server(server, health_servicer, carrier, around)
