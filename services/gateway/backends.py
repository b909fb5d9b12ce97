"""The services behind the gateway: one channel each, calls that survive a restart of the other side, and their health.

Small unary calls are carried over one connection for each service, whatever else waits for an answer. A call is sent again only where that
cannot run anything twice: when no connection came about, so that nothing was sent; when the service says that it is only starting, or
already stopping; or when the RPC's policy says that it is idempotent, and not too many are.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Mapping
from functools import cache
from types import TracebackType
from typing import Any, Final, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.common import channel, request, status
from libs.common.access.service_tokens import ServiceTokens
from libs.common.carrier import MAX_CARRIED_ALONE_BYTES, MAX_CARRIED_BYTES, Carrier, Metadata
from libs.common.errors import ResourceExhausted, Unavailable
from libs.common.ids import uuid7_text
from libs.common.policy import policy_of

HEALTH_SECONDS: Final = 1.0
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
# Attempts at a call that was certainly not begun, over some three seconds; and at one that may be done twice.
_ATTEMPTS: Final = 6
_ATTEMPTS_IF_BEGUN: Final = 3
_PAUSE_SECONDS: Final = 0.1
# What each call adds to the budget of those that are made again though they may have been begun, and what it holds.
_EARNED: Final = 0.2
_SPARED: Final = 10.0
# What a service says that has only just started, or is stopping, and has not begun the call.
_NOT_BEGUN: Final = ("STARTING", "STOPPING")
# How gRPC's core begins the details of a call for which no connection came about.
_NOT_CONNECTED: Final = "failed to connect to all addresses"
# The service that must know where a call comes from, which it believes only of calls that are carried. None of its requests is large.
_ALWAYS_CARRIED: Final = "auth"
# Whose calls make an execution.
_EXECUTOR: Final = "/kiln.executor."

StreamCall = grpc.aio.StreamStreamCall[bytes, bytes]


class RetryBudget:
    """How many calls may be made twice: one of five, so that a service that fails under its load does not get several times as much."""

    def __init__(self) -> None:
        self._left = _SPARED

    def earn(self) -> None:
        """A call is made."""
        if self._left < _SPARED:
            self._left = min(_SPARED, self._left + _EARNED)

    def spend(self) -> bool:
        """Whether one may be made once more."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Backend:
    """One service behind the gateway. Messages are the bytes that are on the wire.

    Args:
        name: For people: `registry`.
        address: `host:port`.
        tokens: What the gateway says that it is; None where nobody asks.
        connect_seconds: How long a call waits for a connection.
    """

    def __init__(self, name: str, address: str, tokens: ServiceTokens | None, *, connect_seconds: float) -> None:
        self.name = name
        self._connect_seconds = connect_seconds
        self._channel = grpc.aio.insecure_channel(address, options=channel.OPTIONS)
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)
        self._unary: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        self._carrier = Carrier(self._channel, address, tokens)
        self._budget = RetryBudget()

    async def close(self) -> None:
        """Ends all calls."""
        await self._carrier.close()
        await self._channel.close()

    async def unary(self, method: str, message: bytes, *, seconds: float, metadata: Metadata) -> bytes:
        """Calls a unary RPC. What it answers.

        Args:
            method: Wire name.
            message: The request.
            seconds: How long it may take, with all attempts.
            metadata: Sent along.

        Raises:
            Unavailable: the service cannot be reached.
            ResourceExhausted: the request is larger than the service takes.
            grpc.aio.AioRpcError: the service refused, or broke off.
        """
        until = time.monotonic() + seconds
        self._budget.earn()
        for attempt in range(1, _ATTEMPTS + 1):
            if not self._carrier.is_connected:
                await self.connected(until - time.monotonic())
            try:
                return await self._call(method, message, seconds=max(0.001, until - time.monotonic()), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                # All those that failed in one moment come back in different ones.
                pause = _PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1)  # noqa: S311
                if time.monotonic() + pause >= until or not self._goes_again(method, error, attempt):
                    raise
            await asyncio.sleep(pause)
        raise AssertionError

    def _goes_again(self, method: str, error: grpc.aio.AioRpcError, attempt: int) -> bool:
        """Whether a call that failed in this way is made again."""
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            return False
        if _was_not_begun(error):
            return attempt < _ATTEMPTS
        return policy_of(method).idempotent and attempt < _ATTEMPTS_IF_BEGUN and self._budget.spend()

    def _call(self, method: str, message: bytes, *, seconds: float, metadata: Metadata) -> Awaitable[bytes]:
        if len(message) <= MAX_CARRIED_BYTES:
            return self._carrier.call(method, message, seconds=seconds, metadata=metadata)
        if self.name == _ALWAYS_CARRIED:
            raise ResourceExhausted(
                f"the {self.name} service takes requests of at most {MAX_CARRIED_BYTES} bytes", reason="REQUEST_TOO_LARGE"
            )
        # What a service is told of where a caller is, it believes of carried calls alone.
        if policy_of(method).audited and len(message) <= MAX_CARRIED_ALONE_BYTES:
            return self._carrier.call(method, message, seconds=seconds, metadata=metadata)
        return self._callable(method)(message, timeout=seconds, metadata=metadata)

    async def stream(self, method: str, *, seconds: float | None, metadata: Metadata) -> StreamCall:
        """Begins a call whose messages are a stream on either side.

        Raises:
            Unavailable: the service cannot be reached.
        """
        await self.connected(seconds)
        call: StreamCall = self._channel.stream_stream(method)(timeout=seconds, metadata=metadata)
        return call

    async def connected(self, seconds: float | None) -> None:
        """Waits for a connection: not at all while there is one.

        Raises:
            Unavailable: there is none in time.
        """
        if self._is_connected():
            return
        try:
            async with asyncio.timeout(self._connect_seconds if seconds is None else min(seconds, self._connect_seconds)):
                await self._channel.channel_ready()
        except TimeoutError:
            raise Unavailable(f"the {self.name} cannot be reached", reason="SERVICE_UNREACHABLE", retry_after=1) from None

    def _is_connected(self) -> bool:
        """Whether there is a connection; where there is none, one is being made from now on."""
        return self._channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY

    async def is_serving(self) -> bool:
        """What the service's own health check says; also False when it does not answer within a second."""
        try:
            answer = await self._health.Check(health_pb2.HealthCheckRequest(), timeout=HEALTH_SECONDS)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == _SERVING)

    def _callable(self, method: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
        known = self._unary.get(method)
        if known is None:
            known = self._unary[method] = self._channel.unary_unary(method)
        return known


class Backends:
    """All services behind the gateway, by name. An async context manager."""

    def __init__(self, addresses: Mapping[str, str], tokens: ServiceTokens | None, *, connect_seconds: float) -> None:
        self._backends = {name: Backend(name, address, tokens, connect_seconds=connect_seconds) for name, address in addresses.items()}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await asyncio.gather(*(backend.close() for backend in self._backends.values()))

    def __getitem__(self, name: str) -> Backend:
        return self._backends[name]

    async def serving(self) -> dict[str, bool]:
        """Whether each service serves, asked of all at once."""
        states = await asyncio.gather(*(backend.is_serving() for backend in self._backends.values()))
        return dict(zip(self._backends, states, strict=True))


def onward_metadata(method: str, request_id: str) -> list[tuple[str, str | bytes]]:
    """What every call carries: the request's id and, where it makes an execution, the execution's."""
    metadata: list[tuple[str, str | bytes]] = [(request.REQUEST_ID_HEADER, request_id)]
    if _makes_execution(method):
        metadata.append((request.EXECUTION_ID_HEADER, uuid7_text()))
    return metadata


@cache
def _makes_execution(method: str) -> bool:
    return method.startswith(_EXECUTOR) and not policy_of(method).idempotent


def _was_not_begun(error: grpc.aio.AioRpcError) -> bool:
    # A service that answers sends its request's id with it, so these details are gRPC's own and not those of a call further inside.
    was_not_sent = not error.trailing_metadata() and (error.details() or "").startswith(_NOT_CONNECTED)
    return was_not_sent or status.from_rpc_error(error).reason in _NOT_BEGUN
