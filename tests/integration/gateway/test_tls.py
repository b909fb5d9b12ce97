"""TLS as clients meet it: real ones, of HTTP and of gRPC, that trust an authority of the test's own."""

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest
from google.protobuf import empty_pb2
from kiln.auth.v1 import auth_pb2
from kiln.executor.v1 import executor_pb2, executor_pb2_grpc
from kiln.registry.v1 import registry_pb2, registry_pb2_grpc

from libs.common.access.credentials import Kind
from libs.local.ports import free_ports
from tests.support.access import SERVICE_SECRET, PlayedAuth, playing_auth
from tests.support.callers import dev
from tests.support.processes import ROOT, environment, running_process, running_secure_process
from tests.support.services import Services, running_services
from tests.support.tls import Authority, serial_of

HEADER_SECONDS: Final = 1
COOKIE: Final = "__Host-kiln"
LARGE: Final = b'"' + b"x" * 3_000_000 + b'"'


@dataclass(frozen=True)
class SecureGateway:
    """A gateway that speaks TLS, and asks who calls.

    Attributes:
        http, door: Ports.
        files: Its certificate and key.
        log: What it says.
    """

    http: int
    door: int
    files: tuple[Path, Path]
    authority: Authority
    services: Services
    auth: PlayedAuth
    log: Path

    def client(self) -> httpx.Client:
        """A browser."""
        return httpx.Client(base_url=f"https://127.0.0.1:{self.http}", verify=self.authority.context(), timeout=20, trust_env=False)

    @contextmanager
    def channel(self, host: str = "127.0.0.1") -> Iterator[grpc.Channel]:
        """A program's way to the front door."""
        with grpc.secure_channel(f"{host}:{self.door}", self.authority.credentials()) as channel:
            yield channel

    def hold(self, chain: bytes, key: bytes) -> None:
        """Renews it, as a program of an authority's does."""
        for file, content in zip(self.files, (chain, key), strict=True):
            file.with_suffix(".new").write_bytes(content)
            file.with_suffix(".new").replace(file)

    def serials(self) -> list[int]:
        """Of the certificates that new connections get: of HTTP with a name and without, and of gRPC."""
        return [self._serial(self.http, "localhost"), self._serial(self.http, None), self._serial(self.door, None)]

    def _serial(self, port: int, name: str | None) -> int:
        context = self.authority.context()
        context.check_hostname = name is not None
        context.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection(("127.0.0.1", port), 10) as raw, context.wrap_socket(raw, server_hostname=name) as connection:
            return serial_of(connection.getpeercert(binary_form=True) or b"")


@pytest.fixture(scope="module")
def shared(home: Path) -> Iterator[SecureGateway]:
    authority, (http, door) = Authority(), free_ports(2)
    cert, key = home / "gateway-cert.pem", home / "gateway-key.pem"
    for file, content in zip((cert, key), authority.issue(), strict=True):
        file.write_bytes(content)
    with running_services() as (address, services), playing_auth() as (auth_address, auth):
        settings = {
            "KILN_AUTH": "on",
            "KILN_SERVICE_SECRET": SERVICE_SECRET,
            "KILN_AUTH_ADDRESS": auth_address,
            "KILN_HTTP_ADDRESS": f"127.0.0.1:{http}",
            "KILN_GRPC_ADDRESS": f"127.0.0.1:{door}",
            "KILN_REGISTRY_ADDRESS": address,
            "KILN_COMPILER_ADDRESS": address,
            "KILN_EXECUTOR_ADDRESS": address,
            "KILN_GATEWAY_HEADER_SECONDS": str(HEADER_SECONDS),
            "KILN_TLS_CERT_FILE": str(cert),
            "KILN_TLS_KEY_FILE": str(key),
        }
        log = home / "secure-gateway.log"
        with running_secure_process("gateway", f"127.0.0.1:{door}", log, authority.credentials(), settings):
            yield SecureGateway(http, door, (cert, key), authority, services, auth, log)


@pytest.fixture
def secure(shared: SecureGateway) -> Iterator[SecureGateway]:
    yield shared
    shared.services.forget()
    shared.auth.forget()


def found(message: Any, _: Any) -> registry_pb2.Function:
    return registry_pb2.Function(id=message.id, name="f")


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


# Clients


def test_rest_is_served_by_tls_and_says_that_it_stays_so(secure: SecureGateway) -> None:
    secure.services.on("GetFunction", found)

    with secure.client() as client:
        answers = [client.get("/functions/f", headers=bearer(secure.auth.key(dev()))), client.get("/nowhere"), client.get("/health")]
        answers.append(client.get("/" + "x" * 40_000))

    assert [answer.status_code for answer in answers] == [200, 404, 200, 431]
    assert {answer.headers["strict-transport-security"] for answer in answers} == {"max-age=31536000"}


def test_the_page_at_the_root_shows_commands_that_speak_tls(secure: SecureGateway) -> None:
    with secure.client() as client:
        page, described = client.get("/", headers={"accept": "text/html"}), client.get("/openapi.json").json()

    assert f"curl https://127.0.0.1:{secure.http}/functions" in page.text
    assert f"grpcurl 127.0.0.1:{secure.door} list" in page.text
    assert described["components"]["securitySchemes"]["session"]["name"] == COOKIE


def test_large_bodies_pass_both_ways_on_a_connection_that_is_kept(secure: SecureGateway) -> None:
    secure.services.on("ExecuteFunction", lambda message, _: executor_pb2.Execution(output_text=message.input_text))
    headers = {**bearer(secure.auth.key(dev())), "content-type": "application/json"}

    with secure.client() as client:
        for more in ({}, {}, {"connection": "close"}):
            answer = client.post("/functions/f/execute", content=b'{"input":' + LARGE + b"}", headers={**headers, **more})
            assert answer.status_code == 200
            assert LARGE in answer.content


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_front_door_is_served_by_tls_with_calls_and_streams(secure: SecureGateway, host: str) -> None:
    secure.services.on("GetFunction", found)
    secure.services.on("ExecuteStream", lambda messages, _: (executor_pb2.Execution(id=message.id) for message in messages))
    metadata = list(bearer(secure.auth.key(dev())).items())

    with secure.channel(host) as channel:
        registry: Any = registry_pb2_grpc.RegistryStub(channel)
        executor: Any = executor_pb2_grpc.ExecutorStub(channel)
        function = registry.GetFunction(registry_pb2.GetFunctionRequest(id="f"), metadata=metadata, timeout=10)
        requests = (executor_pb2.ExecuteStreamRequest(id=str(number)) for number in range(3))
        answers = [one.id for one in executor.ExecuteStream(requests, metadata=metadata, timeout=10)]

    assert (function.name, answers) == ("f", ["0", "1", "2"])


def test_who_does_not_trust_the_authority_gets_no_connection(secure: SecureGateway) -> None:
    stranger = Authority()

    with httpx.Client(verify=stranger.context(), trust_env=False) as client, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY"):
        client.get(f"https://127.0.0.1:{secure.http}/health")
    with grpc.secure_channel(f"127.0.0.1:{secure.door}", stranger.credentials()) as channel:
        registry: Any = registry_pb2_grpc.RegistryStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            registry.GetFunction(registry_pb2.GetFunctionRequest(id="f"), timeout=10)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize("port", ["http", "door"])
def test_nothing_older_than_tls_1_2_is_spoken(secure: SecureGateway, port: str) -> None:
    context = secure.authority.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_alpn_protocols(["h2"] if port == "door" else ["http/1.1"])

    with (
        socket.create_connection(("127.0.0.1", getattr(secure, port)), 10) as raw,
        pytest.raises(ssl.SSLError, match=r"EOF|PROTOCOL_VERSION"),
    ):
        context.wrap_socket(raw, server_hostname="localhost")


# Cookies


def test_a_session_is_a_cookie_of_this_host_alone_and_by_tls_alone(secure: SecureGateway) -> None:
    token = secure.auth.key(dev(session="s"), Kind.SESSION)
    secure.auth.services.on("Login", lambda *_: auth_pb2.LoginResponse(caller=auth_pb2.Caller(name="root"), session_token=token))
    secure.auth.services.on("Logout", lambda *_: empty_pb2.Empty())
    secure.services.on("GetFunction", found)

    with secure.client() as browser:
        begun = browser.post("/auth/login", json={"name": "root", "password": "x"})
        read = browser.get("/functions/f")
        ended = browser.post("/auth/logout", headers={"sec-fetch-site": "same-origin"})

    assert begun.headers.get_list("set-cookie") == [f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax; Secure"]
    assert read.status_code == 200
    assert "authorization" in secure.services.calls[-1].metadata
    assert ended.headers.get_list("set-cookie") == [f"{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=0"]


def test_the_cookie_of_plain_http_is_nobodys(secure: SecureGateway) -> None:
    secure.services.on("GetFunction", found)

    with secure.client() as browser:
        browser.get("/functions/f", headers={"cookie": f"kiln_session={secure.auth.key(dev(session='s'), Kind.SESSION)}"})

    assert "authorization" not in secure.services.calls[-1].metadata


@pytest.mark.parametrize(("scheme", "status"), [("https", 200), ("http", 403)])
def test_a_page_that_came_in_the_clear_is_none_of_kilns_own(secure: SecureGateway, scheme: str, status: int) -> None:
    secure.services.on("ExecuteFunction", lambda *_: executor_pb2.Execution())
    headers = {"cookie": f"{COOKIE}={secure.auth.key(dev(session='s'), Kind.SESSION)}", "origin": f"{scheme}://127.0.0.1:{secure.http}"}

    with secure.client() as browser:
        answer = browser.post("/functions/f/execute", json={}, headers=headers)

    assert answer.status_code == status


# Who speaks something else


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff"]
)
@pytest.mark.parametrize("port", ["http", "door"])
def test_what_is_no_tls_ends_the_connection_in_time(secure: SecureGateway, port: str, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", getattr(secure, port)), 15) as connection:
        connection.sendall(said)
        answer = _all(connection)

    assert b"HTTP" not in answer
    with secure.client() as client:
        assert client.get("/health").status_code == 200


def test_a_handshake_that_does_not_move_on_ends(secure: SecureGateway) -> None:
    began = time.monotonic()

    with (
        socket.create_connection(("127.0.0.1", secure.http), 15) as silent,
        socket.create_connection(("127.0.0.1", secure.http), 15) as half,
    ):
        half.sendall(_hello()[:50])

        assert (_all(silent), _all(half)) == (b"", b"")

    assert HEADER_SECONDS / 2 < time.monotonic() - began < HEADER_SECONDS + 5


def test_a_request_that_does_not_move_on_is_answered_as_ever(secure: SecureGateway) -> None:
    context = secure.authority.context()

    with (
        socket.create_connection(("127.0.0.1", secure.http), 15) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET /health HTTP/1.1\r\nHost:")
        answer = _all(connection)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b"}")


def _all(connection: socket.socket) -> bytes:
    """What comes until the other side ends the connection, in whichever way."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def _hello() -> bytes:
    """How a client of TLS begins."""
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


# Renewal


def test_new_connections_get_a_renewed_certificate_and_old_ones_go_on(secure: SecureGateway) -> None:
    secure.services.on("GetFunction", found)
    metadata = list(bearer(secure.auth.key(dev())).items())
    request = registry_pb2.GetFunctionRequest(id="f")
    chain, key = secure.authority.issue()

    with secure.client() as client, secure.channel() as channel, closing(client):
        registry: Any = registry_pb2_grpc.RegistryStub(channel)
        client.get("/health")
        registry.GetFunction(request, metadata=metadata, timeout=10)
        secure.hold(chain, key)
        _until(lambda: secure.serials() == [serial_of(chain)] * 3)
        assert client.get("/health").status_code == 200
        assert registry.GetFunction(request, metadata=metadata, timeout=10).name == "f"

    with secure.channel() as channel:
        anew: Any = registry_pb2_grpc.RegistryStub(channel)
        assert anew.GetFunction(request, metadata=metadata, timeout=10).name == "f"


def test_a_renewal_that_cannot_be_used_leaves_the_old_certificate_serving(secure: SecureGateway) -> None:
    before = secure.serials()
    chain, _ = secure.authority.issue()
    _, key = secure.authority.issue()
    kept = tuple(file.read_bytes() for file in secure.files)

    secure.hold(chain, key)
    try:
        _until(lambda: "KILN_TLS_KEY_FILE: is not the key of" in secure.log.read_text())
        assert secure.serials() == before
    finally:
        secure.hold(*kept)


def _until(condition: Any, seconds: float = 15) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.1)


# Starting


def test_a_key_of_another_certificate_stops_the_start_and_is_named(tmp_path: Path) -> None:
    authority, files = Authority(), (tmp_path / "cert", tmp_path / "key")
    files[0].write_bytes(authority.issue()[0])
    files[1].write_bytes(authority.issue()[1])

    assert "KILN_TLS_KEY_FILE: is not the key of" in _refused(KILN_TLS_CERT_FILE=str(files[0]), KILN_TLS_KEY_FILE=str(files[1]))


def test_a_certificate_without_a_key_stops_the_start_and_names_what_is_missing() -> None:
    assert "KILN_TLS_KEY_FILE: is missing" in _refused(KILN_TLS_CERT_FILE="/cert.pem")


def _refused(**variables: str) -> str:
    """What a gateway says that does not start."""
    places = {f"KILN_{name}_ADDRESS": "127.0.0.1:1" for name in ("HTTP", "GRPC", "REGISTRY", "COMPILER", "EXECUTOR")}
    command = [sys.executable, "-m", "services.gateway"]
    run = subprocess.run(
        command, env=environment(KILN_AUTH="off", **places, **variables), cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 78
    return run.stderr


def test_where_credentials_travel_in_the_clear_a_gateway_says_so(home: Path) -> None:
    (http, door), log = free_ports(2), home / "clear-gateway.log"
    settings = {"KILN_AUTH": "on", "KILN_SERVICE_SECRET": SERVICE_SECRET}
    settings |= {"KILN_HTTP_ADDRESS": f"0.0.0.0:{http}", "KILN_GRPC_ADDRESS": f"127.0.0.1:{door}"}

    with running_services() as (address, _):
        settings |= {f"KILN_{name}_ADDRESS": address for name in ("AUTH", "REGISTRY", "COMPILER", "EXECUTOR")}
        with running_process("gateway", f"127.0.0.1:{door}", log, **settings):
            said = log.read_text()

    assert "passwords and API keys travel in the clear" in said
    assert f"0.0.0.0:{http}" in said
