"""Where carried calls come in: a port beside gRPC's, which nobody is let in at but who was given a ticket over gRPC."""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, cast

from kiln.carrier.v1 import carrier_pb2 as pb
from kiln.carrier.v1 import carrier_pb2_grpc

from libs.common.carried import CarriedConnection, Handle
from libs.common.errors import Unavailable
from libs.common.frames import SIGN

TICKET_BYTES: Final = 32
# How long a ticket is good for, and how many are at once: the oldest makes room.
TICKET_SECONDS: Final = 5.0
_MAX_TICKETS: Final = 64
# How long who connects may take to show one, and how many may wait with that at once: who has waited longest makes room, so that a flood
# keeps nobody out who has a ticket, which is shown at once.
VISIT_SECONDS: Final = 2.0
MAX_VISITORS: Final = 128
_BACKLOG: Final = 1024
_WILDCARDS: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not listened at


class Tickets:
    """What lets one connection in, once.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[bytes, float] = {}

    def issue(self) -> bytes:
        """One more."""
        if len(self._until) >= _MAX_TICKETS:
            del self._until[next(iter(self._until))]
        ticket = secrets.token_bytes(TICKET_BYTES)
        self._until[ticket] = self._clock() + TICKET_SECONDS
        return ticket

    def redeem(self, shown: bytes) -> bool:
        """Whether it is good, which it is not any more then."""
        # All are compared, and each in constant time, so that nothing is to be learned of them from how long it takes.
        known = [ticket for ticket in self._until if secrets.compare_digest(ticket, shown)]
        return any(self._until.pop(ticket) > self._clock() for ticket in known)


class CarrierServicer(carrier_pb2_grpc.CarrierInternalServicer):
    """Listens for connections that calls are carried over, and keeps those that were let in.

    Args:
        handlers: Unary RPCs by wire name.
    """

    def __init__(self, handlers: Mapping[str, Handle]) -> None:
        self._handlers = handlers
        self._tickets = Tickets()
        self._listening: list[asyncio.Server] = []
        self._port = 0
        self._visitors: dict[_Visitor, None] = {}
        self._connections: set[CarriedConnection] = set()
        self._is_draining = False

    async def start(self, host: str) -> None:
        """Listens where gRPC does, on a port of the system's choice.

        Raises:
            OSError: that cannot be.
        """
        loop = asyncio.get_running_loop()
        sockets = await listening_sockets(host)
        self._port = sockets[0].getsockname()[1]
        self._listening = [await loop.create_server(self._visitor, sock=one, backlog=_BACKLOG) for one in sockets]

    async def Open(self, request: pb.OpenRequest, context: Any) -> pb.OpenResponse:
        if self._is_draining:
            raise Unavailable("the service is stopping; try again", reason="STOPPING", retry_after=1)
        return pb.OpenResponse(port=self._port, ticket=self._tickets.issue())

    def drain(self) -> None:
        """From now on no call is begun, and connections end with their last answers. A caller makes what was not begun elsewhere."""
        self._is_draining = True
        for server in self._listening:
            server.close()
        for visitor in list(self._visitors):
            visitor.leave()
        for connection in self._connections:
            connection.drain()

    async def stop(self, drain_seconds: float) -> None:
        """Drains, and returns when all has ended; what has not after some time is cancelled."""
        self.drain()
        ending = [connection.ended for connection in self._connections]
        if ending:
            await asyncio.wait(ending, timeout=drain_seconds)
        for connection in self._connections:
            connection.abort()
        await asyncio.gather(*ending)

    def _visitor(self) -> "_Visitor":
        if len(self._visitors) >= MAX_VISITORS:
            next(iter(self._visitors)).leave()
        visitor = _Visitor(self._admit, self._visitors)
        self._visitors[visitor] = None
        return visitor

    def _admit(self, ticket: bytes) -> CarriedConnection | None:
        if self._is_draining or not self._tickets.redeem(ticket):
            return None
        connection = CarriedConnection(self._handlers)
        self._connections.add(connection)
        connection.ended.add_done_callback(lambda _: self._connections.discard(connection))
        return connection


class _Visitor(asyncio.Protocol):
    """A connection that has shown no ticket yet. It gives way to another protocol once it has.

    Args:
        admit: Gives that for a good ticket.
        visitors: All of its kind, which it takes itself out of.
    """

    def __init__(self, admit: Callable[[bytes], CarriedConnection | None], visitors: dict["_Visitor", None]) -> None:
        self._admit, self._visitors = admit, visitors
        self._shown = b""
        self._transport: asyncio.Transport | None = None
        self._leaving = asyncio.get_running_loop().call_later(VISIT_SECONDS, self.leave)

    def leave(self) -> None:
        """Ends the visit, and the connection."""
        self._end()
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self not in self._visitors:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._shown += data
        if len(self._shown) < TICKET_BYTES or self._transport is None or self not in self._visitors:
            return
        connection = self._admit(self._shown[:TICKET_BYTES])
        if connection is None:
            self.leave()
            return
        self._end()
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)
        self._transport.write(SIGN)
        if len(self._shown) > TICKET_BYTES:
            connection.data_received(self._shown[TICKET_BYTES:])

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        self._leaving.cancel()
        self._visitors.pop(self, None)


async def listening_sockets(host: str) -> Sequence[socket.socket]:
    """Sockets that listen at all addresses of a host, on one port.

    Raises:
        OSError: there is none that can be listened at.
    """
    if host in _WILDCARDS and socket.has_dualstack_ipv6():
        # As gRPC does: at all addresses of either kind, whichever is named.
        return [socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)]
    found = await asyncio.get_running_loop().getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    for family, address in dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found):
        port = sockets[0].getsockname()[1] if sockets else 0
        # Of a name's addresses one is enough: who connects tries all of them.
        with suppress(OSError):
            sockets.append(socket.create_server((address, port), family=family, backlog=_BACKLOG))
    if not sockets:
        raise OSError(f"cannot listen at {host}")
    return sockets
