"""A gateway that browsers find by TLS, which a proxy in front of it speaks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from kiln.auth.v1 import auth_pb2
from kiln.executor.v1 import executor_pb2

from libs.common.access.credentials import Kind
from tests.integration.gateway.conftest import GuardedGateway, running_guarded_gateway
from tests.support.callers import dev

HOST: Final = "kiln.example.com"
COOKIE: Final = "__Host-kiln"


@pytest.fixture(scope="module")
def proxied(home: Path) -> Iterator[GuardedGateway]:
    with running_guarded_gateway(home / "proxied-gateway.log", KILN_AUTH_PUBLIC_URL=f"https://{HOST}") as gateway:
        yield gateway


def test_a_session_is_a_cookie_that_travels_by_tls_alone(proxied: GuardedGateway) -> None:
    token = proxied.auth.key(dev(session="s"), Kind.SESSION)
    proxied.auth.services.on("Login", lambda *_: auth_pb2.LoginResponse(caller=auth_pb2.Caller(name="root"), session_token=token))

    begun = proxied.http.post("/auth/login", json={"name": "root", "password": "x"}, headers={"host": HOST})

    assert begun.headers.get_list("set-cookie") == [f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax; Secure"]


@pytest.mark.parametrize(("scheme", "status"), [("https", 200), ("http", 403)])
def test_a_page_that_came_in_the_clear_is_none_of_kilns_own(proxied: GuardedGateway, scheme: str, status: int) -> None:
    proxied.services.on("ExecuteFunction", lambda *_: executor_pb2.Execution())
    session = f"{COOKIE}={proxied.auth.key(dev(session='s'), Kind.SESSION)}"

    answer = proxied.http.post("/functions/f/execute", json={}, headers={"cookie": session, "host": HOST, "origin": f"{scheme}://{HOST}"})

    assert answer.status_code == status


def test_what_is_shown_is_how_it_is_reached(proxied: GuardedGateway) -> None:
    page = proxied.http.get("/", headers={"accept": "text/html", "host": HOST})
    described = proxied.http.get("/openapi.json").json()

    assert f"curl https://{HOST}/functions" in page.text
    assert f"grpcurl -plaintext {HOST}:" in page.text
    assert described["components"]["securitySchemes"]["session"]["name"] == COOKIE
    assert "strict-transport-security" not in page.headers
