"""Connections as HTTP/1.1 has them: what is kept open, what is answered in which order, and how a server ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import pytest

from services.gateway.exchange import Answer, Endpoint, Request
from services.gateway.http1 import Connections
from services.gateway.incoming import Limits
from tests.support.waiting import until

LIMITS: Final = Limits(
    header_seconds=60, body_seconds=60, keep_alive_seconds=60, max_header_bytes=32_768, max_headers=100, max_body_bytes=4 << 20
)
GET: Final = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST: Final = b"POST /%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n"


@dataclass
class Client:
    """One connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
        """The next one: status, headers, body."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)).decode()
        status, *lines = head.strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers.get("content-length", 0)) if has_body else 0
        return int(status.split(" ")[1]), headers, await asyncio.wait_for(self.reader.readexactly(length), 30)

    async def rest(self) -> bytes:
        """What comes until the server hangs up."""
        return await asyncio.wait_for(self.reader.read(), 30)


@dataclass
class Served:
    """What the server was asked, and what it does with it: echo the path and the body, unless a test says otherwise."""

    paths: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: Request) -> Answer:
        self.paths.append(request.path)
        try:
            if request.path == "/gated":
                await self.gate.wait()
            if request.path == "/early":
                return Answer(404, b"{}")
            if request.path == "/large":
                return Answer(200, bytes(8 << 20))
            if request.path == "/bad-header":
                return Answer(200, headers=[("Location", "a\r\nX-Split: b")])
            if request.path == "/cancelled":
                raise asyncio.CancelledError
            if request.arrival:
                await request.arrival()
        except asyncio.CancelledError:
            self.cancelled.append(request.path)
            raise
        return Answer(200, request.path.encode() + request.body)


@dataclass
class Server:
    """A running server, and what it serves."""

    connections: Connections
    served: Served
    connect: Callable[[], Awaitable[Client]]


@asynccontextmanager
async def serving(limits: Limits = LIMITS) -> AsyncIterator[Server]:
    """A server while the block runs."""
    served = Served()
    endpoint: Endpoint = served
    connections = Connections(endpoint, limits, [("x-default", "yes")])
    server = await asyncio.get_running_loop().create_server(connections.new, "127.0.0.1", 0)
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_connection(*server.sockets[0].getsockname())))
        return clients[-1]

    try:
        yield Server(connections, served, connect)
    finally:
        server.close()
        await connections.end(0.01)
        for client in clients:
            client.writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as made:
        yield made


async def test_a_connection_serves_one_request_after_the_other(server: Server) -> None:
    client = await server.connect()

    for path in (b"a", b"b"):
        client.send(GET % path)
        status, headers, body = await client.answer()
        assert (status, body) == (200, b"/" + path)
        assert headers["x-default"] == "yes"
        assert headers["date"].endswith(" GMT")
        assert "connection" not in headers


async def test_requests_sent_at_once_are_answered_in_their_order_and_one_at_a_time(server: Server) -> None:
    client = await server.connect()
    client.send(GET % b"gated" + POST % (b"b", 2, b"") + b"{}" + GET % b"c")
    await until(lambda: server.served.paths == ["/gated"])
    await asyncio.sleep(0.05)
    assert server.served.paths == ["/gated"]

    server.served.gate.set()

    assert [(await client.answer())[2] for _ in range(3)] == [b"/gated", b"/b{}", b"/c"]


async def test_a_request_that_comes_while_another_is_served_waits_for_it(server: Server) -> None:
    client = await server.connect()
    client.send(GET % b"gated")
    await until(lambda: server.served.paths == ["/gated"])
    for piece in (POST % (b"b", 300_000, b""), bytes(100_000), bytes(200_000), GET % b"c"):
        client.send(piece)
        await asyncio.sleep(0.02)
    assert server.served.paths == ["/gated"]

    server.served.gate.set()

    assert [(await client.answer())[2] for _ in range(3)] == [b"/gated", b"/b" + bytes(300_000), b"/c"]


async def test_what_is_wrong_behind_good_requests_ends_the_connection_after_their_answers(server: Server) -> None:
    client = await server.connect()

    client.send(GET % b"a" + GET % b"b" + b"nonsense\r\n\r\n" + GET % b"c")

    first, second = await client.answer(), await client.answer()
    assert (first[2], second[2]) == (b"/a", b"/b")
    assert second[1]["connection"] == "close"
    assert await client.rest() == b""
    assert server.served.paths == ["/a", "/b"]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /a HTTP/1.0\r\n\r\n",
        b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
)
async def test_a_connection_ends_behind_the_answer_where_the_client_says_so(server: Server, request_: bytes) -> None:
    client = await server.connect()

    client.send(request_)

    status, headers, body = await client.answer()
    assert (status, headers["connection"], body) == (200, "close", b"/a")
    assert await client.rest() == b""


async def test_the_answer_to_head_is_that_to_get_without_its_body(server: Server) -> None:
    client = await server.connect()

    client.send(b"HEAD /a HTTP/1.1\r\nHost: localhost\r\n\r\n" + GET % b"b")

    _, headers, _ = await client.answer(has_body=False)
    assert headers["content-length"] == "2"
    assert (await client.answer())[2] == b"/b"


async def test_who_waits_to_be_told_so_sends_a_body_that_somebody_wants(server: Server) -> None:
    client = await server.connect()

    client.send(POST % (b"a", 2, b"Expect: 100-continue\r\n"))
    assert (await client.answer())[0] == 100
    client.send(b"{}")

    assert (await client.answer())[2] == b"/a{}"


async def test_who_waits_to_be_told_so_sends_no_body_that_nobody_wants(server: Server) -> None:
    client = await server.connect()

    client.send(POST % (b"early", 2, b"Expect: 100-continue\r\n"))

    assert (await client.answer())[0] == 404


async def test_a_body_that_comes_behind_the_answer_is_passed_over(server: Server) -> None:
    client = await server.connect()

    client.send(POST % (b"early", 100_000, b""))
    assert (await client.answer())[0] == 404
    client.send(bytes(100_000) + GET % b"b")

    assert (await client.answer())[2] == b"/b"


async def test_what_is_wrong_in_a_body_behind_its_answer_is_not_answered_again(server: Server) -> None:
    client = await server.connect()

    client.send(b"POST /early HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert (await client.answer())[0] == 404
    client.send(b"zz\r\n" + GET % b"b")

    assert await client.rest() == b""
    assert server.served.paths == ["/early"]


async def test_an_answer_to_a_client_that_still_sends_can_be_read(server: Server) -> None:
    client = await server.connect()

    client.send(POST % (b"early", 2_000_000, b"Connection: close\r\n"))
    assert (await client.answer())[0] == 404
    for _ in range(20):
        client.send(bytes(100_000))
        await asyncio.sleep(0)

    assert await client.rest() == b""


async def test_the_call_of_a_client_that_goes_away_ends(server: Server) -> None:
    client = await server.connect()
    client.send(GET % b"gated")
    await until(lambda: server.served.paths == ["/gated"])

    client.writer.close()

    await until(lambda: server.served.cancelled == ["/gated"])


async def test_a_call_that_is_cancelled_elsewhere_leaves_no_client_waiting(server: Server) -> None:
    client = await server.connect()

    client.send(GET % b"cancelled")

    assert await client.rest() == b""


async def test_an_answer_cannot_be_split_by_what_stands_in_a_header(server: Server) -> None:
    client = await server.connect()

    client.send(GET % b"bad-header" + GET % b"b")

    status, headers, body = await client.answer()
    assert status == 500
    assert "x-split" not in {name.lower() for name in headers}
    assert b"INTERNAL" in body
    assert (await client.answer())[2] == b"/b"


async def test_nothing_more_is_served_to_a_client_until_it_has_read(server: Server) -> None:
    client = await server.connect()
    client.send(GET % b"large" + GET % b"large" + GET % b"c")
    await until(lambda: bool(server.served.paths))
    await asyncio.sleep(0.1)
    assert server.served.paths == ["/large"]

    answers = [len((await client.answer())[2]) for _ in range(3)]

    assert answers == [8 << 20, 8 << 20, 2]


async def test_a_connection_is_kept_for_some_time_from_its_last_answer() -> None:
    async with serving(replace(LIMITS, keep_alive_seconds=1)) as server:
        client = await server.connect()
        loop = asyncio.get_running_loop()
        for _ in range(4):
            client.send(GET % b"a")
            await client.answer()
            await asyncio.sleep(0.4)
        last = loop.time()

        assert await client.rest() == b""
        assert loop.time() - last > 0.3


async def test_a_call_may_take_longer_than_a_connection_is_kept_without_one() -> None:
    async with serving(replace(LIMITS, header_seconds=0.2, keep_alive_seconds=0.2)) as server:
        client = await server.connect()
        client.send(GET % b"gated")
        await asyncio.sleep(0.6)
        server.served.gate.set()

        assert (await client.answer())[2] == b"/gated"


async def test_a_server_that_ends_closes_idle_connections_and_lets_calls_in_flight_end(server: Server) -> None:
    idle, busy, sending = [await server.connect() for _ in range(3)]
    busy.send(GET % b"gated")
    sending.send(POST % (b"b", 2, b"") + b"{")
    await until(lambda: sorted(server.served.paths) == ["/b", "/gated"])

    ending = asyncio.create_task(server.connections.end(60))
    assert await idle.rest() == b""
    assert not ending.done()
    server.served.gate.set()
    sending.send(b"}")

    for client, body in ((busy, b"/gated"), (sending, b"/b{}")):
        _, headers, answered = await client.answer()
        assert (headers["connection"], answered) == ("close", body)
        assert await client.rest() == b""
    await asyncio.wait_for(ending, 30)


async def test_a_call_that_does_not_end_in_time_is_cancelled_when_its_server_ends(server: Server) -> None:
    client = await server.connect()
    client.send(GET % b"gated")
    await until(lambda: server.served.paths == ["/gated"])

    await asyncio.wait_for(server.connections.end(0.1), 30)

    await until(lambda: server.served.cancelled == ["/gated"])
    assert await client.rest() == b""
