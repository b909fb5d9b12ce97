"""The port for carried calls is open to who has a ticket, and stays so whatever others do there."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
import pytest_asyncio
from kiln.carrier.v1 import carrier_pb2
from kiln.registry.v1 import registry_pb2, registry_pb2_grpc

from libs.common import carrier_servicer
from libs.common.access.guard import OpenGuard
from libs.common.carrier import Carrier
from libs.common.carrier_servicer import MAX_VISITORS, TICKET_BYTES, Tickets, listening_sockets
from libs.common.frames import FRAME_BYTES, MAX_FRAME_BYTES
from libs.common.interceptors import ServerInterceptor
from libs.common.server import start_server
from libs.local.ports import free_ports
from tests.support.audit import KeptAuditLog
from tests.support.carrying import opened, visiting

GET = "/kiln.registry.v1.Registry/GetFunction"
RegistryServicer: Any = registry_pb2_grpc.RegistryServicer


class Registry(RegistryServicer):  # type: ignore[misc]
    """Answers with as much as fits into a frame."""

    def __init__(self) -> None:
        self.answered = 0

    async def GetFunction(self, request: Any, context: Any) -> registry_pb2.Function:  # noqa: N802 - gRPC's name
        self.answered += 1
        return registry_pb2.Function(id=request.id, source="x" * FRAME_BYTES)


class Served:
    """A server, and a channel to it."""

    def __init__(self, address: str, channel: grpc.aio.Channel, registry: Registry) -> None:
        self.address, self.channel, self.registry = address, channel, registry

    async def get_by_another(self) -> None:
        """A call over a carrier of its own."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            carrier = Carrier(channel, self.address, None)
            assert await carrier.call(GET, b"", seconds=5, metadata=())
            await carrier.close()


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    registry, address = Registry(), f"127.0.0.1:{free_ports(1)[0]}"
    server = await start_server(
        address,
        [lambda server: registry_pb2_grpc.add_RegistryServicer_to_server(registry, server)],
        services=[],
        around=ServerInterceptor(OpenGuard(), max_concurrent=1000, audit_log=KeptAuditLog()),
    )
    async with grpc.aio.insecure_channel(address) as channel:
        yield Served(address, channel, registry)
    await server.stop(0)


async def test_who_shows_a_ticket_is_let_in(served: Served) -> None:
    async with visiting(served) as visit:
        await visit.let_in()

        visit.send(carrier_pb2.CarryRequest(calls=[carrier_pb2.Call(number=7, method=GET)]))

        assert [(answer.number, answer.code) for answer in (await visit.answers()).answers] == [(7, 0)]


async def test_a_ticket_may_come_in_pieces_and_with_calls_behind_it(served: Served) -> None:
    async with visiting(served) as visit:
        visit.writer.write(visit.opened.ticket[:5])
        await asyncio.sleep(0.05)
        visit.writer.write(visit.opened.ticket[5:])
        visit.send(carrier_pb2.CarryRequest(calls=[carrier_pb2.Call(number=7, method=GET)]))

        assert await asyncio.wait_for(visit.reader.readexactly(4), 5) == bytes(4)
        assert [answer.number for answer in (await visit.answers()).answers] == [7]


async def test_who_shows_none_is_shut_out_soon(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier_servicer, "VISIT_SECONDS", 0.2)
    async with visiting(served) as silent, visiting(served) as slow:
        slow.writer.write(slow.opened.ticket[:-1])

        assert await silent.is_shut_out(5)
        assert await slow.is_shut_out(5)


@pytest.mark.parametrize("shown", [b"k" * TICKET_BYTES, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", bytes(100_000)])
async def test_who_shows_something_else_is_shut_out_at_once(served: Served, shown: bytes) -> None:
    async with visiting(served) as visit:
        visit.writer.write(shown)

        assert await visit.is_shut_out()


async def test_a_ticket_lets_one_in(served: Served) -> None:
    async with visiting(served) as first:
        await first.let_in()
        async with visiting(served, first.opened) as second:
            second.writer.write(first.opened.ticket)

            assert await second.is_shut_out()


async def test_an_old_ticket_lets_nobody_in(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier_servicer, "TICKET_SECONDS", 0.0)
    async with visiting(served) as visit:
        visit.writer.write(visit.opened.ticket)

        assert await visit.is_shut_out()


def test_of_tickets_that_nobody_shows_the_oldest_make_room() -> None:
    now = 0.0
    tickets = Tickets(lambda: now)
    first = tickets.issue()
    later = [tickets.issue() for _ in range(64)]

    assert not tickets.redeem(first)
    assert tickets.redeem(later[-1])
    assert not tickets.redeem(later[-1])
    now = carrier_servicer.TICKET_SECONDS
    assert not tickets.redeem(later[0])


async def test_a_flood_of_connections_without_a_ticket_keeps_nobody_out_who_has_one(served: Served) -> None:
    told = await opened(served)
    async with AsyncExitStack() as stack:
        flood = [await stack.enter_async_context(visiting(served, told)) for _ in range(3 * MAX_VISITORS)]

        await served.get_by_another()

        # There is room for so many, and the first have gone.
        assert all([await visit.is_shut_out() for visit in flood[:MAX_VISITORS]])
        assert not await flood[-1].is_shut_out(0.05)


UNKNOWN = carrier_pb2.CarryRequest(calls=[carrier_pb2.Call(number=7, method=GET, authorization=5)]).SerializeToString()


@pytest.mark.parametrize(
    "sent",
    [(MAX_FRAME_BYTES + 1).to_bytes(4), b"\xff\xff\xff\xff", b"\0\0\0\2\xff\xff", len(UNKNOWN).to_bytes(4) + UNKNOWN],
    ids=["too large", "far too large", "no message", "a caller that was not told of"],
)
async def test_who_sends_what_is_no_frame_is_shut_out(served: Served, sent: bytes) -> None:
    async with visiting(served) as visit:
        await visit.let_in()

        visit.writer.write(sent)

        assert await visit.is_shut_out()
    await served.get_by_another()


async def test_who_does_not_read_is_not_read_from_either(served: Served) -> None:
    asked = 400
    async with visiting(served) as visit:
        await visit.let_in()
        visit.writer.transport.pause_reading()  # type: ignore[attr-defined]

        for number in range(1, asked + 1):
            visit.send(carrier_pb2.CarryRequest(calls=[carrier_pb2.Call(number=number, method=GET)]))
            await asyncio.sleep(0)
        await asyncio.sleep(0.3)

        answered = served.registry.answered
        await served.get_by_another()
        assert answered < asked
        # Who reads again has all of its answers.
        visit.writer.transport.resume_reading()  # type: ignore[attr-defined]
        numbers: list[int] = []
        while len(numbers) < asked:
            numbers += [answer.number for answer in (await visit.answers()).answers]
        assert sorted(numbers) == list(range(1, asked + 1))


async def test_calls_for_a_service_that_does_not_read_wait_and_leave_nothing_behind() -> None:
    silent = await asyncio.start_server(_never_reads, "127.0.0.1", 0)
    address, server = f"127.0.0.1:{free_ports(1)[0]}", grpc.aio.server()
    server.add_generic_rpc_handlers([_Opening(silent.sockets[0].getsockname()[1])])
    server.add_insecure_port(address)
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        carrier = Carrier(channel, address, None)

        calls = [carrier.call(GET, bytes(64 << 10), seconds=1, metadata=()) for _ in range(400)]
        failures = await asyncio.gather(*calls, return_exceptions=True)

        assert {one.code() for one in failures if isinstance(one, grpc.aio.AioRpcError)} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert not carrier._waiting
        assert not carrier._pending
        link = carrier._link
        assert link
        assert link._transport.get_write_buffer_size() < 2 << 20
        await carrier.close()
    silent.close()
    await server.stop(0)


async def _never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(TICKET_BYTES)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(bytes(4))
    await asyncio.sleep(5)
    writer.transport.abort()


class _Opening(grpc.GenericRpcHandler):
    """Says that calls are carried at a port."""

    def __init__(self, port: int) -> None:
        self._port = port

    def service(self, handler_call_details: Any) -> Any:
        async def open_(request: bytes, context: Any) -> bytes:
            return carrier_pb2.OpenResponse(port=self._port, ticket=bytes(TICKET_BYTES)).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(open_)


@pytest.mark.parametrize(("host", "reached"), [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
async def test_it_listens_where_grpc_does(host: str, reached: str) -> None:
    sockets = await listening_sockets(host)
    try:
        with socket.create_connection((reached, sockets[0].getsockname()[1]), timeout=5) as connection:
            assert connection.getpeername()
        assert len({one.getsockname()[1] for one in sockets}) == 1
    finally:
        for one in sockets:
            one.close()


async def test_what_cannot_be_listened_at_is_told() -> None:
    with pytest.raises(OSError, match="cannot listen at 192"):
        await listening_sockets("192.0.2.1")
