"""Calls that browsers make by going there: over an identity provider and back."""

from http.cookies import Morsel, SimpleCookie
from typing import Any, Final

import httpx
import pytest
from kiln.auth.v1 import auth_pb2

from libs.common.errors import PermissionDenied, Unauthenticated
from tests.integration.gateway.conftest import GuardedGateway
from tests.support.services import fail

PAGE: Final = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", "sec-fetch-site": "cross-site"}
AWAY: Final = "https://id.example.com/authorize?state=s"


def cookies_of(answer: httpx.Response) -> dict[str, "Morsel[str]"]:
    return {name: morsel for header in answer.headers.get_list("set-cookie") for name, morsel in SimpleCookie(header).items()}


def test_a_browser_is_sent_to_the_provider_with_a_cookie_for_the_way_back(guarded: GuardedGateway) -> None:
    guarded.auth.services.on("BeginOidcLogin", lambda *_: auth_pb2.BeginOidcLoginResponse(location=AWAY, login="sealed"))

    answer = guarded.http.get("/auth/oidc/acme/login", headers=PAGE)

    assert (answer.status_code, answer.headers["location"], answer.content) == (302, AWAY, b"")
    assert answer.headers["cache-control"] == "no-store"
    cookie = cookies_of(answer)["kiln_login"]
    assert cookie.value == "sealed"
    assert (cookie["path"], cookie["max-age"], cookie["samesite"], cookie["httponly"]) == ("/auth/oidc", "600", "Lax", True)
    assert guarded.auth.services.calls[-1].message.provider == "acme"


def test_the_way_back_takes_the_cookie_in_and_gives_a_session_for_it(guarded: GuardedGateway) -> None:
    guarded.auth.services.on("CompleteOidcLogin", lambda *_: auth_pb2.CompleteOidcLoginResponse(location="/", session_token="token"))

    # Providers add what they like.
    answer = guarded.http.get(
        "/auth/oidc/acme/callback?state=s&code=c&session_state=x&a.b=1&login=forged&provider=other",
        headers={**PAGE, "cookie": "other=1; kiln_login=sealed; kiln_session=old"},
    )

    asked = guarded.auth.services.calls[-1].message
    assert (asked.provider, asked.state, asked.code, asked.login) == ("acme", "s", "c", "sealed")
    assert (answer.status_code, answer.headers["location"]) == (302, "/")
    cookies = cookies_of(answer)
    assert cookies["kiln_session"].value == "token"
    assert (cookies["kiln_login"].value, cookies["kiln_login"]["max-age"]) == ("", "0")
    assert "token" not in answer.text


@pytest.mark.parametrize(
    "query", ["state=s&state=t&code=c", "code=%ff", "&".join(f"a{number}=1" for number in range(200))], ids=["twice", "no UTF-8", "many"]
)
def test_an_answer_that_cannot_be_read_is_a_bad_request(guarded: GuardedGateway, query: str) -> None:
    answer = guarded.http.get(f"/auth/oidc/acme/callback?{query}")

    assert answer.status_code == 400
    assert not guarded.auth.services.calls


def test_people_read_on_the_page_why_they_are_not_signed_in_and_programs_in_json(guarded: GuardedGateway) -> None:
    refusal = PermissionDenied("Acme did not sign <you> in: access was denied", reason="LOGIN_DENIED")
    guarded.auth.services.on("CompleteOidcLogin", lambda _, context: fail(context, refusal))
    path = "/auth/oidc/acme/callback?state=s&error=access_denied"

    page, told = guarded.http.get(path, headers=PAGE), guarded.http.get(path)

    assert (page.status_code, page.headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert '<p role="status">Acme did not sign &lt;you&gt; in: access was denied</p>' in page.text
    assert 'id="login"' in page.text
    assert (told.status_code, told.json()["error"]["details"][0]["reason"]) == (403, "LOGIN_DENIED")
    assert not page.headers.get_list("set-cookie")


def test_a_fault_of_the_platform_tells_people_no_more_than_programs(guarded: GuardedGateway) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a secret")

    guarded.auth.services.on("BeginOidcLogin", broken)

    answer = guarded.http.get("/auth/oidc/acme/login", headers={**PAGE, "x-request-id": "mine-7"})

    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "mine-7" in answer.text


def test_a_call_that_sends_nobody_on_answers_browsers_as_ever(guarded: GuardedGateway) -> None:
    guarded.auth.services.on("Login", lambda _, context: fail(context, Unauthenticated("no", reason="BAD_CREDENTIALS")))

    answer = guarded.http.post("/auth/login", json={"name": "a", "password": "b"}, headers={"accept": "text/html", "origin": "null"})

    assert answer.headers["content-type"] == "application/json"
