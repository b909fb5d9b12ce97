"""Hostile HTTP/1.1 over raw sockets: what two readers could understand differently, what is too much, and what is too slow."""

import socket
import time
from collections.abc import Callable

import pytest
from kiln.registry.v1 import registry_pb2

from tests.integration.gateway.conftest import Gateway

SMUGGLED = b"GET /languages HTTP/1.1\r\nHost: localhost\r\n\r\n"
JSON = b"Content-Type: application/json\r\n"


def connect(gateway: Gateway) -> socket.socket:
    host, _, port = gateway.http_address.partition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def holds(gateway: Gateway, port: int) -> bool:
    """Whether the gateway has a connection to a client's port."""
    return any(one.raddr and one.raddr.port == port for one in gateway.process.net_connections("tcp"))


def eventually(look: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether something is so within some time."""
    give_up = time.monotonic() + seconds
    while not look():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


def exchange(gateway: Gateway, *parts: bytes) -> bytes:
    """All that comes back until the server hangs up."""
    with connect(gateway) as connection:
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:
            pass  # it hung up early
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + SMUGGLED,
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello" + SMUGGLED,
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: +4\r\n\r\nhell" + SMUGGLED,
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4, 4\r\n\r\nhell" + SMUGGLED,
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nContent-Length : 4\r\n\r\nhell" + SMUGGLED,
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\n Content-Length: 4\r\n\r\nhell" + SMUGGLED,
        b"GET /languages HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\n folded: 2\r\n\r\n" + SMUGGLED,
        b"GET /languages HTTP/1.1\nHost: localhost\n\n" + SMUGGLED,
        b"GET /languages HTTP/1.1\r\nHost: localhost\nX-A: 1\r\n\r\n" + SMUGGLED,
        b"GET /languages HTTP/1.1\r\nHost: localhost\r\nHost: y\r\n\r\n" + SMUGGLED,
        b"GET /languages HTTP/1.1\r\n\r\n" + SMUGGLED,
        b"GET /languages HTTP/1.1\r\nHost: localhost\r\nX-A: a\0b\r\n\r\n" + SMUGGLED,
        b"GET /languages HTTP/1.1\r\nHost: localhost\r\nX A: 1\r\n\r\n" + SMUGGLED,
        b"GET /lan guages HTTP/1.1\r\nHost: localhost\r\n\r\n" + SMUGGLED,
        b"GET /languages HTTP/2.0\r\nHost: localhost\r\n\r\n" + SMUGGLED,
        b"GET /languages\r\n\r\n" + SMUGGLED,
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + SMUGGLED,
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n" + SMUGGLED,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_has_two_meanings_is_refused_and_nothing_behind_it_is_served(gateway: Gateway, request_: bytes) -> None:
    answer = exchange(gateway, request_)

    assert status_of(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()
    assert gateway.services.calls == []


def test_requests_one_behind_the_other_are_all_served(gateway: Gateway) -> None:
    gateway.services.on("GetFunction", lambda message, _: registry_pb2.Function(id=message.id))
    request = b"GET /functions/%s HTTP/1.1\r\nHost: localhost\r\n\r\n"

    answer = exchange(gateway, request % b"a" + request % b"b" + (request % b"c").replace(b"Host", b"Connection: close\r\nHost"))

    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert [call.message.id for call in gateway.services.calls] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (b"X-A: " + b"x" * 131_072 + b"\r\n", 431),
        (b"".join(b"X-%d: 1\r\n" % number for number in range(2000)), 431),
        (b"X-A: " + b"x" * 33_000 + b"\r\n", 431),
        (b"".join(b"X-%d: 1\r\n" % number for number in range(101)), 431),
        (b"X-A: " + b"x" * 30_000 + b"\r\n", 404),
        (b"".join(b"X-%d: 1\r\n" % number for number in range(90)), 404),
    ],
)
def test_headers_have_a_bound(gateway: Gateway, headers: bytes, expected: int) -> None:
    answer = exchange(gateway, b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + b"\r\n")

    assert status_of(answer) == expected


def test_a_request_line_has_a_bound(gateway: Gateway) -> None:
    assert status_of(exchange(gateway, b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")) == 431


def test_a_body_has_a_bound_that_is_told_before_it_is_sent(gateway: Gateway) -> None:
    answer = exchange(gateway, b"POST /functions HTTP/1.1\r\nHost: localhost\r\n" + JSON + b"Content-Length: 99999999\r\n\r\n")

    assert status_of(answer) == 413


def test_a_body_in_chunks_has_the_same_bound(gateway: Gateway) -> None:
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"

    answer = exchange(
        gateway, b"POST /functions HTTP/1.1\r\nHost: localhost\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n", *([chunk] * 13)
    )

    assert status_of(answer) == 413


@pytest.mark.parametrize("chunks", [b"1;" + b"x" * 102_400 + b"\r\na\r\n", b"1\r\na\r\n" * 1_000_000, b"1;x=y\r\na\r\n" * 100_000])
def test_chunks_that_cost_more_than_what_is_in_them_are_refused(gateway: Gateway, chunks: bytes) -> None:
    answer = exchange(gateway, b"POST /functions HTTP/1.1\r\nHost: localhost\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n", chunks)

    assert status_of(answer) in (400, 431)


def test_a_trailer_is_no_header(gateway: Gateway) -> None:
    gateway.services.on("CreateFunction", lambda _, __: registry_pb2.Function(id="a"))

    answer = exchange(
        gateway,
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n",
        b"2\r\n{}\r\n0\r\nX-Request-Id: from-a-trailer\r\n\r\n",
    )

    assert status_of(answer) == 201
    assert b"from-a-trailer" not in answer


@pytest.mark.parametrize(
    ("first", "drip"),
    [
        (b"", b""),
        (b"GET /languages HTTP/1.1\r\nHost: localhost\r\n", b"X-A: 1\r\n"),
        (b"GET /languages", b"x"),
        (b"POST /functions HTTP/1.1\r\nHost: localhost\r\n" + JSON + b"Content-Length: 1000\r\n\r\n{", b" "),
        (b"POST /functions HTTP/1.1\r\nHost: localhost\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n \r\n"),
    ],
    ids=["says nothing", "headers", "request line", "body", "chunks"],
)
def test_who_sends_too_slowly_is_hung_up_on(gateway: Gateway, first: bytes, drip: bytes) -> None:
    began = time.monotonic()
    answer = b""
    with connect(gateway) as connection:
        connection.sendall(first)
        connection.settimeout(0.2)
        while time.monotonic() - began < 8:
            try:
                piece = connection.recv(65536)
                answer += piece
                if not piece:
                    break
            except TimeoutError:
                pass
            except ConnectionResetError:
                break
            try:
                connection.sendall(drip)
            except OSError:
                break

    assert time.monotonic() - began < 5
    if first:
        assert status_of(answer) == 408
    assert gateway.services.calls == []


def test_who_reads_too_slowly_is_hung_up_on(gateway: Gateway) -> None:
    big = registry_pb2.Function(id="a", source="x" * 4_000_000)
    gateway.services.on("GetFunction", lambda _, __: big)
    with connect(gateway) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /functions/a HTTP/1.1\r\nHost: localhost\r\n\r\n" * 4)
        port = connection.getsockname()[1]

        assert eventually(lambda: holds(gateway, port))
        assert eventually(lambda: not holds(gateway, port))


def test_hundreds_of_slow_clients_hinder_nobody(gateway: Gateway) -> None:
    gateway.services.on("GetFunction", lambda message, _: registry_pb2.Function(id=message.id))
    slow = [connect(gateway) for _ in range(300)]
    for connection in slow:
        connection.sendall(b"GET /functions/a HTTP/1.1\r\nHost:")

    answers = [gateway.http.get("/functions/quick").status_code for _ in range(20)]

    for connection in slow:
        connection.close()
    assert answers == [200] * 20


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PATCH", "PROPFIND"])
def test_other_methods_are_refused(gateway: Gateway, method: str) -> None:
    answer = exchange(gateway, f"{method} /functions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert status_of(answer) in (400, 405)
    assert b"Host: localhost" not in answer


@pytest.mark.parametrize(
    "path",
    [
        "//languages",
        "/./languages",
        "/%2e/languages",
        "/x/%2e%2e/languages",
        "/languages;x",
        "/languages/",
        "/languages.",
        "/LANGUAGES",
        "/languages%00",
        "/languages%0d%0aX: y",
        "http://x/languages/",
    ],
)
def test_a_path_that_means_another_one_to_some_reader_is_not_found(gateway: Gateway, path: str) -> None:
    answer = exchange(gateway, f"GET {path.replace(' ', '%20')} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert status_of(answer) in (400, 404)
    assert gateway.services.calls == []


def test_no_upgrade_is_offered(gateway: Gateway) -> None:
    gateway.services.on("GetFunction", lambda message, _: registry_pb2.Function(id=message.id))
    upgrade = b"GET /functions/a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    answer = exchange(gateway, upgrade + SMUGGLED)

    assert status_of(answer) == 200
    assert answer.count(b"HTTP/1.1 ") == 1
