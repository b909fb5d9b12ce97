"""Who calls through the gateway: browsers by cookie, programs by key, and what services get to see of it."""

import itertools
from collections.abc import Iterator
from http.cookies import SimpleCookie
from typing import Any, Final

import grpc
import httpx
import jwt
import pytest
from google.protobuf import empty_pb2, timestamp_pb2
from kiln.auth.v1 import auth_pb2, auth_pb2_grpc
from kiln.executor.v1 import executor_pb2, executor_pb2_grpc
from kiln.registry.v1 import registry_pb2, registry_pb2_grpc

from libs.common import status
from libs.common.access.access_tokens import verify
from libs.common.access.credentials import Kind, new_credential
from libs.common.access.principal import Principal
from libs.common.errors import InvalidArgument, Unauthenticated, Unavailable
from tests.integration.gateway.conftest import Gateway, GuardedGateway
from tests.support.access import SERVICE_SECRET
from tests.support.callers import ADMIN, dev
from tests.support.services import Call, fail

COOKIE: Final = "kiln_session"
LARGE: Final = "x" * 100_000


def echo(message: Any, _: Any) -> executor_pb2.Execution:
    return executor_pb2.Execution(id="e", status=executor_pb2.Execution.COMPLETED, output_text=message.input_text)


def found(message: Any, _: Any) -> registry_pb2.Function:
    return registry_pb2.Function(id=message.id, name="f")


def session(gateway: GuardedGateway, principal: Principal | None = None) -> str:
    """The token of somebody's session."""
    return gateway.auth.key(principal or dev(session="s"), Kind.SESSION)


def cookie(token: str) -> dict[str, str]:
    return {"cookie": f"{COOKIE}={token}"}


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def forwarded(gateway: GuardedGateway, call: Call) -> Principal:
    """Whose access token a service got."""
    scheme, _, text = str(call.metadata["authorization"]).partition(" ")
    assert scheme == "Bearer"
    return verify(text, gateway.auth.signer.public).principal


def reason_of(answer: httpx.Response) -> str:
    found: str = answer.json()["error"]["details"][0]["reason"]
    return found


def execute(gateway: Gateway, headers: dict[str, str], value: Any = 1) -> httpx.Response:
    return gateway.http.post("/functions/f/execute", json={"input": value}, headers=headers)


# Sessions of browsers


def sign_in(gateway: GuardedGateway, **request: Any) -> httpx.Response:
    return gateway.http.post("/auth/login", json={"name": "root", "password": "correct horse battery staple"}, **request)


def begun(token: str) -> Any:
    ends = timestamp_pb2.Timestamp(seconds=2_000_000_000)
    return lambda *_: auth_pb2.LoginResponse(caller=auth_pb2.Caller(name="root"), expires_at=ends, session_token=token)


def test_a_session_is_a_cookie_that_no_script_can_read_and_no_part_of_the_body(guarded: GuardedGateway) -> None:
    token = new_credential(Kind.SESSION).text
    guarded.auth.services.on("Login", begun(token))

    answer = sign_in(guarded)

    (header,) = answer.headers.get_list("set-cookie")
    (morsel,) = SimpleCookie(header).values()
    assert (answer.status_code, morsel.key, morsel.value) == (200, COOKIE, token)
    assert (morsel["httponly"], morsel["samesite"], morsel["path"], morsel["domain"]) == (True, "Lax", "/", "")
    assert answer.json() == {"caller": answer.json()["caller"], "expiresAt": "2033-05-18T03:33:20Z"}
    assert token not in answer.text


def test_the_cookie_that_is_set_is_the_one_that_is_understood(guarded: GuardedGateway) -> None:
    user = dev()
    guarded.auth.services.on("Login", begun(session(guarded, user)))
    guarded.services.on("GetFunction", found)

    with httpx.Client(base_url=f"http://{guarded.http_address}", trust_env=False) as browser:
        browser.post("/auth/login", json={"name": "root", "password": "x"})
        answer = browser.get("/functions/f")

    assert answer.status_code == 200
    assert forwarded(guarded, guarded.services.calls[-1]) == user


def test_who_signs_out_gives_the_cookie_back(guarded: GuardedGateway) -> None:
    guarded.auth.services.on("Logout", lambda *_: empty_pb2.Empty())

    answer = guarded.http.post("/auth/logout", headers={**cookie(session(guarded)), "sec-fetch-site": "same-origin"})

    (header,) = answer.headers.get_list("set-cookie")
    (morsel,) = SimpleCookie(header).values()
    assert (answer.status_code, answer.content) == (204, b"")
    assert (morsel.key, morsel.value, morsel["max-age"], morsel["path"], morsel["httponly"]) == (COOKIE, "", "0", "/", True)


@pytest.mark.parametrize(
    "headers",
    [cookie(new_credential(Kind.SESSION).text), cookie("no-session"), bearer(new_credential(Kind.SESSION).text), {}],
    ids=["ended", "no session's", "a program's", "none"],
)
def test_who_signs_out_of_a_session_that_has_ended_gives_the_cookie_back_as_well(guarded: GuardedGateway, headers: dict[str, str]) -> None:
    guarded.auth.services.on("Logout", lambda _, context: fail(context, Unauthenticated("who?", reason="NO_CREDENTIAL")))

    answers = [guarded.http.post("/auth/logout", headers={**headers, "sec-fetch-site": "same-origin"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204]
    assert all(answer.headers["set-cookie"].startswith(f"{COOKIE}=; ") for answer in answers)


@pytest.mark.parametrize(
    "authorization",
    [f"Bearer {new_credential(Kind.API_KEY).text}", "Basic cm9vdDpyb290", "Bearer x"],
    ids=["an unknown key", "a password", "no token"],
)
def test_who_signs_out_with_something_else_that_is_not_valid_is_told_so(guarded: GuardedGateway, authorization: str) -> None:
    guarded.auth.services.on("Logout", lambda _, context: fail(context, Unauthenticated("no", reason="BAD_TOKEN")))

    answer = guarded.http.post("/auth/logout", headers={"authorization": authorization})

    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_no_page_of_another_site_signs_a_browser_out(guarded: GuardedGateway) -> None:
    answer = guarded.http.post("/auth/logout", headers={**cookie(new_credential(Kind.SESSION).text), "sec-fetch-site": "cross-site"})

    assert (answer.status_code, reason_of(answer)) == (403, "CROSS_SITE")
    assert "set-cookie" not in answer.headers


def test_a_login_that_is_too_large_to_be_carried_is_refused_before_auth_hears_of_it(guarded: GuardedGateway) -> None:
    guarded.auth.services.on("Login", begun("new"))

    answer = guarded.http.post("/auth/login", json={"name": LARGE, "password": "x"})
    with grpc.insecure_channel(guarded.grpc_address) as channel:
        stub: Any = auth_pb2_grpc.AuthStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Login(auth_pb2.LoginRequest(name="root", password=LARGE), timeout=10)

    error: Any = caught.value
    assert (answer.status_code, reason_of(answer)) == (413, "REQUEST_TOO_LARGE")
    assert (error.code(), status.from_rpc_error(error).reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")
    assert "Login" not in [call.name for call in guarded.auth.services.calls]


def test_who_is_not_signed_in_gets_no_cookie(guarded: GuardedGateway) -> None:
    guarded.auth.services.on("Login", lambda _, context: fail(context, Unauthenticated("no", reason="BAD_CREDENTIALS")))

    answer = sign_in(guarded)

    assert (answer.status_code, reason_of(answer)) == (401, "BAD_CREDENTIALS")
    assert "set-cookie" not in answer.headers


def test_no_other_answer_sets_a_cookie(guarded: GuardedGateway) -> None:
    guarded.services.on("GetFunction", found)
    guarded.auth.services.on("RevokeApiKey", lambda *_: empty_pb2.Empty())
    headers = bearer(guarded.auth.key(dev()))

    answers = [
        guarded.http.get("/functions/f", headers=headers),
        guarded.http.delete("/api-keys/k", headers=headers),
        guarded.http.get("/"),
    ]

    assert [answer.status_code for answer in answers] == [200, 204, 200]
    assert not any("set-cookie" in answer.headers for answer in answers)


@pytest.mark.parametrize("presented", ["cookie", "authorization"])
def test_a_session_that_has_ended_keeps_nobody_from_signing_in_again(guarded: GuardedGateway, presented: str) -> None:
    guarded.auth.services.on("Login", begun("new"))
    ended = new_credential(Kind.SESSION).text
    headers = {"cookie": cookie(ended), "authorization": bearer(ended)}[presented]

    answer = sign_in(guarded, headers={**headers, "sec-fetch-site": "same-origin"})

    assert answer.status_code == 200
    assert f"{COOKIE}=new" in answer.headers["set-cookie"]
    assert guarded.auth.exchanges == []


@pytest.mark.parametrize(
    "around",
    ["{}", "a=b; {}", "{}; a=b", 'x={{"json":1}}; {}', "a b=c; {}; d", "novalue; {}", 'x="a;b"; {}', "x[]=1;{}", "é=é; {}", "=; ;;{};"],
)
def test_a_session_is_found_whatever_other_cookies_there_are(guarded: GuardedGateway, around: str) -> None:
    guarded.services.on("GetFunction", found)
    user = dev(session="s")

    header = around.format(f"{COOKIE}={session(guarded, user)}")
    answer = guarded.http.get("/functions/f", headers={b"cookie": header.encode()})

    assert answer.status_code == 200
    assert forwarded(guarded, guarded.services.calls[-1]) == user


@pytest.mark.parametrize("name", ["kiln_session2", "xkiln_session", "KILN_SESSION", "kiln-session"])
def test_a_cookie_of_another_name_is_nobodys(guarded: GuardedGateway, name: str) -> None:
    guarded.services.on("GetFunction", found)

    guarded.http.get("/functions/f", headers={"cookie": f"{name}={session(guarded)}"})

    assert "authorization" not in guarded.services.calls[-1].metadata


def test_what_a_program_says_itself_counts_more_than_a_cookie(guarded: GuardedGateway) -> None:
    guarded.services.on("GetFunction", found)
    program, browser = dev(), dev(session="s")

    guarded.http.get("/functions/f", headers={**cookie(session(guarded, browser)), **bearer(guarded.auth.key(program))})

    assert forwarded(guarded, guarded.services.calls[-1]) == program


# Pages of other sites

OWN: Final = "http://{host}"
FROM: Final[dict[str, tuple[dict[str, str], bool]]] = {
    "nobody says": ({}, False),
    "same-origin": ({"sec-fetch-site": "same-origin"}, True),
    "typed by the user": ({"sec-fetch-site": "none"}, True),
    "same-site": ({"sec-fetch-site": "same-site"}, False),
    "cross-site": ({"sec-fetch-site": "cross-site"}, False),
    "an unknown word": ({"sec-fetch-site": "whatever"}, False),
    "its own origin": ({"origin": OWN}, True),
    "its own origin, and cross-site": ({"origin": OWN, "sec-fetch-site": "cross-site"}, False),
    "another origin": ({"origin": "https://evil.example"}, False),
    "another port": ({"origin": "http://127.0.0.1:1"}, False),
    "another origin that begins alike": ({"origin": OWN + ".evil.example"}, False),
    "its own name as a user": ({"origin": OWN + "@evil.example"}, False),
    "a null origin": ({"origin": "null"}, False),
    "no origin at all": ({"origin": "x"}, False),
    "a referer alone": ({"referer": OWN + "/"}, False),
}


def headers_from(gateway: Gateway, headers: dict[str, str]) -> dict[str, str]:
    return {name: value.format(host=gateway.http_address) for name, value in headers.items()}


@pytest.mark.parametrize("where", FROM)
@pytest.mark.parametrize(("method", "path"), [("POST", "/functions/f/execute"), ("PUT", "/functions/f"), ("DELETE", "/functions/f")])
def test_only_a_page_of_kilns_own_changes_anything_by_cookie(guarded: GuardedGateway, where: str, method: str, path: str) -> None:
    guarded.services.on("ExecuteFunction", echo)
    guarded.services.on("UpdateFunction", found)
    guarded.services.on("DeleteFunction", lambda *_: empty_pb2.Empty())
    headers, goes = FROM[where]

    content = None if method == "DELETE" else b"{}"
    sent = {**cookie(session(guarded)), **headers_from(guarded, headers), **({"content-type": "application/json"} if content else {})}
    answer = guarded.http.request(method, path, content=content, headers=sent)

    assert answer.is_success is goes, answer.text
    assert len(guarded.services.calls) == goes
    if not goes:
        assert (answer.status_code, reason_of(answer)) == (403, "CROSS_SITE")


@pytest.mark.parametrize("where", FROM)
def test_a_program_with_a_key_goes_wherever_it_says_that_it_is(guarded: GuardedGateway, where: str) -> None:
    guarded.services.on("ExecuteFunction", echo)

    answer = execute(guarded, {**bearer(guarded.auth.key(dev())), **headers_from(guarded, FROM[where][0])})

    assert answer.status_code == 200


@pytest.mark.parametrize("where", FROM)
def test_reading_by_cookie_goes_from_anywhere(guarded: GuardedGateway, where: str) -> None:
    guarded.services.on("GetFunction", found)

    answer = guarded.http.get("/functions/f", headers={**cookie(session(guarded)), **headers_from(guarded, FROM[where][0])})

    assert answer.status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""])
def test_a_form_is_no_json_wherever_it_comes_from(guarded: GuardedGateway, kind: str) -> None:
    guarded.services.on("ExecuteFunction", echo)
    headers = {**cookie(session(guarded)), "content-type": kind}

    own = guarded.http.post("/functions/f/execute", content=b'{"input":1}', headers={**headers, "sec-fetch-site": "same-origin"})
    others = guarded.http.post("/functions/f/execute", content=b'{"input":1}', headers={**headers, "origin": "https://evil.example"})

    assert (own.status_code, others.status_code) == (415, 403)
    assert guarded.services.calls == []


@pytest.mark.parametrize("where", FROM)
def test_no_page_of_another_site_signs_a_browser_in(guarded: GuardedGateway, where: str) -> None:
    guarded.auth.services.on("Login", begun("new"))
    headers, goes = FROM[where]
    # A program says nothing, and has no cookie.
    goes = goes or where in ("nobody says", "a referer alone")

    for more in ({}, {"authorization": "Basic cm9vdDpyb290"}):
        guarded.http.cookies.clear()
        answer = sign_in(guarded, headers={**headers_from(guarded, headers), **more})

        assert (answer.status_code == 200) is goes
        assert ("set-cookie" in answer.headers) is goes


def test_a_browser_is_not_told_that_other_sites_may_call(guarded: GuardedGateway) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST", "access-control-request-headers": "authorization"}

    answer = guarded.http.options("/functions/f/execute", headers=asked)

    assert not [name for name in answer.headers if name.startswith("access-control-")]


# What services get


def everything(calls: list[Call]) -> str:
    return "\n".join(f"{call.name} {call.message} {call.metadata}" for call in calls)


@pytest.mark.parametrize("value", ["small", LARGE], ids=["carried", "by itself"])
@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_a_key_is_exchanged_once_and_no_service_but_auth_sees_it(guarded: GuardedGateway, value: str, scheme: str) -> None:
    guarded.services.on("ExecuteFunction", echo)
    user = dev()
    key = guarded.auth.key(user)

    answers = [execute(guarded, {"authorization": scheme + key}, value) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert [forwarded(guarded, call) for call in guarded.services.calls] == [user] * 3
    assert key not in everything(guarded.services.calls)
    (asked,) = guarded.auth.exchanges
    assert (asked.message.credential, asked.message.address) == (key, "127.0.0.1")
    assert str(asked.metadata["authorization"]).count(".") == 2
    assert SERVICE_SECRET not in everything(guarded.auth.services.calls)


def test_a_session_is_exchanged_once_and_no_service_but_auth_sees_it(guarded: GuardedGateway) -> None:
    guarded.services.on("GetFunction", found)
    token = session(guarded)

    for _ in range(3):
        guarded.http.get("/functions/f", headers=cookie(token))

    assert token not in everything(guarded.services.calls)
    assert len(guarded.auth.exchanges) == 1


def test_a_token_of_a_trusted_issuer_is_exchanged_once_and_no_service_but_auth_sees_it(guarded: GuardedGateway) -> None:
    guarded.services.on("ExecuteFunction", echo)
    user = dev()
    token = jwt.encode({"iss": "https://id.example.com"}, "a secret of thirty-two characters", algorithm="HS256", headers={"typ": "at+jwt"})
    guarded.auth.principals[token] = user

    answers = [execute(guarded, bearer(token)) for _ in range(3)]
    refused = [execute(guarded, bearer(jwt.encode({"iss": "x"}, "y" * 32))) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert [forwarded(guarded, call) for call in guarded.services.calls] == [user] * 3
    assert token not in everything(guarded.services.calls)
    assert len(guarded.auth.exchanges) == 2
    assert {(answer.status_code, reason_of(answer)) for answer in refused} == {(401, "BAD_CREDENTIALS")}


def test_the_front_door_does_the_same(guarded: GuardedGateway) -> None:
    guarded.services.on("ExecuteFunction", echo)
    guarded.services.on("ExecuteStream", lambda messages, _: (executor_pb2.Execution(id=message.id) for message in messages))
    user = dev()
    key = guarded.auth.key(user)

    with grpc.insecure_channel(guarded.grpc_address) as channel:
        stub: Any = executor_pb2_grpc.ExecutorStub(channel)
        for text in (b"1", b'"' + LARGE.encode() + b'"'):
            stub.ExecuteFunction(
                executor_pb2.ExecuteFunctionRequest(id="f", input_text=text), metadata=list(bearer(key).items()), timeout=10
            )
        requests = iter([executor_pb2.ExecuteStreamRequest(id="f")])
        assert [one.id for one in stub.ExecuteStream(requests, metadata=list(bearer(key).items()), timeout=10)] == ["f"]

    assert [forwarded(guarded, call) for call in guarded.services.calls] == [user] * 3
    assert key not in everything(guarded.services.calls)
    assert len(guarded.auth.exchanges) == 1


def test_nobody_stays_nobody(guarded: GuardedGateway) -> None:
    guarded.services.on("GetFunction", found)

    guarded.http.get("/functions/f")

    (call,) = guarded.services.calls
    assert "authorization" not in call.metadata
    assert guarded.auth.exchanges == []


def test_an_access_token_is_passed_on_as_it_is(guarded: GuardedGateway) -> None:
    guarded.services.on("GetFunction", found)
    token = guarded.auth.token(dev())

    guarded.http.get("/functions/f", headers=bearer(token))

    assert guarded.services.calls[-1].metadata["authorization"] == f"Bearer {token}"
    assert guarded.auth.exchanges == []


FORGED: Final = {
    "x-user-id": "root",
    "x-kiln-caller-address": "203.0.113.9",
    "x-kiln-caller-agent": "forged",
    "x-forwarded-for": "203.0.113.9",
    "x-forwarded-user": "root",
    "forwarded": "for=203.0.113.9",
}


def test_what_anyone_says_of_who_or_where_they_are_reaches_no_service(guarded: GuardedGateway) -> None:
    guarded.services.on("GetFunction", found)
    guarded.auth.services.on("GetCaller", lambda *_: auth_pb2.Caller(name="me"))
    headers = {**bearer(guarded.auth.key(dev())), **FORGED, "user-agent": "a program"}

    guarded.http.get("/functions/f", headers=headers)
    guarded.http.get("/auth/whoami", headers=headers)
    with grpc.insecure_channel(guarded.grpc_address, options=[("grpc.primary_user_agent", "a program")]) as channel:
        registry: Any = registry_pb2_grpc.RegistryStub(channel)
        auth: Any = auth_pb2_grpc.AuthStub(channel)
        of_grpc = [(name, value) for name, value in {**headers, "cookie": "kiln_session=x"}.items() if name != "user-agent"]
        registry.GetFunction(registry_pb2.GetFunctionRequest(id="f"), metadata=of_grpc, timeout=10)
        auth.GetCaller(auth_pb2.GetCallerRequest(), metadata=of_grpc, timeout=10)

    to_auth = [call.metadata for call in guarded.auth.services.calls if call.name == "GetCaller"]
    assert [one["x-kiln-caller-address"] for one in to_auth] == ["127.0.0.1"] * 2
    assert all(str(one["x-kiln-caller-agent"]).startswith("a program") for one in to_auth)
    for metadata in [*to_auth, *(call.metadata for call in guarded.services.calls)]:
        assert not {"x-user-id", "x-forwarded-for", "x-forwarded-user", "forwarded", "cookie"} & metadata.keys()
    for call in guarded.services.calls:
        assert not {"x-kiln-caller-address", "x-kiln-caller-agent"} & call.metadata.keys()
    assert "203.0.113.9" not in everything([*guarded.auth.services.calls, *guarded.services.calls])


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_service_that_writes_a_call_down_is_told_where_its_caller_is(guarded: GuardedGateway, size: int) -> None:
    guarded.services.on("UpdateFunction", found)
    headers = {**bearer(guarded.auth.key(ADMIN)), **FORGED}

    guarded.http.put("/functions/f", json={"source": "x" * size}, headers=headers)
    with grpc.insecure_channel(guarded.grpc_address) as channel:
        registry: Any = registry_pb2_grpc.RegistryStub(channel)
        registry.UpdateFunction(registry_pb2.UpdateFunctionRequest(id="f", source="x" * size), metadata=tuple(headers.items()), timeout=10)

    assert [call.metadata["x-kiln-caller-address"] for call in guarded.services.calls] == ["127.0.0.1"] * 2
    assert [call.is_carried for call in guarded.services.calls] == [True] * 2


@pytest.mark.parametrize("agent", ["é", "\u2028", "a\tb", "x" * 5000])
def test_any_program_may_call_itself_what_it_likes(guarded: GuardedGateway, agent: str) -> None:
    guarded.auth.services.on("Login", begun("new"))

    answer = sign_in(guarded, headers={b"user-agent": agent.encode()})

    assert answer.status_code == 200
    (call,) = [call for call in guarded.auth.services.calls if call.name == "Login"]
    assert all(" " <= character <= "~" for character in str(call.metadata["x-kiln-caller-agent"]))


# Refusals


@pytest.mark.parametrize(
    "headers",
    [
        bearer(new_credential(Kind.API_KEY).text),
        bearer("kiln_mistyped"),
        cookie(new_credential(Kind.SESSION).text),
        bearer(new_credential(Kind.API_KEY).text[:-1] + "!"),
    ],
    ids=["unknown key", "no key", "unknown session", "mistyped key"],
)
@pytest.mark.parametrize("accept", ["application/json", "application/problem+json"])
def test_who_is_not_known_is_told_so_and_no_service_is_asked(guarded: GuardedGateway, headers: dict[str, str], accept: str) -> None:
    guarded.services.on("GetFunction", found)

    answer = guarded.http.get("/functions/f", headers={**headers, "accept": accept})

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="kiln"'
    assert "BAD_CREDENTIALS" in answer.text
    assert guarded.services.calls == []


def test_a_service_that_wants_a_credential_is_passed_on(guarded: GuardedGateway) -> None:
    guarded.services.on("GetFunction", lambda _, context: fail(context, Unauthenticated("who?", reason="NO_CREDENTIAL")))

    answer = guarded.http.get("/functions/f")

    assert (answer.status_code, reason_of(answer)) == (401, "NO_CREDENTIAL")
    assert answer.headers["www-authenticate"] == 'Bearer realm="kiln"'


@pytest.mark.parametrize("value", ["small", LARGE], ids=["carried", "by itself"])
@pytest.mark.parametrize(
    "authorization", [b"Bearer \xc3\xa9", b"\xff\xfe", b"Bearer kiln_\xe9", b"Basic x", b"Bearer", b"Bearer " + b"x" * 14_000]
)
def test_an_authorization_that_is_none_is_no_fault_of_kilns(guarded: GuardedGateway, value: str, authorization: bytes) -> None:
    guarded.services.on("ExecuteFunction", lambda _, context: fail(context, Unauthenticated("who?", reason="BAD_TOKEN")))

    answer = guarded.http.post("/functions/f/execute", json={"input": value}, headers={b"authorization": authorization})

    assert answer.status_code == 401, answer.text


def test_while_auth_is_away_who_is_not_known_yet_is_asked_to_come_back(guarded: GuardedGateway) -> None:
    guarded.services.on("GetFunction", found)
    known, unknown = guarded.auth.key(dev()), guarded.auth.key(dev())
    guarded.http.get("/functions/f", headers=bearer(known))
    guarded.auth.services.on("ExchangeCredential", lambda _, context: fail(context, Unavailable("away", retry_after=1)))

    answers = [guarded.http.get("/functions/f", headers=bearer(key)) for key in (known, unknown)]

    assert [answer.status_code for answer in answers] == [200, 503]
    assert answers[1].headers["retry-after"] == "1"


# Callers that changed in the same moment


class Refusing:
    """`ExecuteFunction` of a service that heard of a change before the gateway did."""

    def __init__(self, times: int, reason: str = "STALE_TOKEN") -> None:
        self.times, self.reason = times, reason
        self.runs = 0

    def __call__(self, message: Any, context: Any) -> executor_pb2.Execution:
        if self.times:
            self.times -= 1
            fail(context, Unauthenticated("changed", reason=self.reason))
        self.runs += 1
        return echo(message, context)


@pytest.mark.parametrize("value", ["small", LARGE], ids=["carried", "by itself"])
def test_a_token_that_is_no_longer_true_is_exchanged_anew_and_nothing_runs_twice(guarded: GuardedGateway, value: str) -> None:
    service, user = Refusing(1), dev()
    guarded.services.on("ExecuteFunction", service)

    answer = execute(guarded, bearer(guarded.auth.key(user)), value)

    first, second = guarded.services.calls
    assert (answer.status_code, answer.json()["output"], service.runs) == (200, value, 1)
    assert len(guarded.auth.exchanges) == 2
    assert [forwarded(guarded, call) for call in (first, second)] == [user, user]
    assert first.metadata["x-execution-id"] == second.metadata["x-execution-id"]


def test_the_front_door_exchanges_anew_as_well(guarded: GuardedGateway) -> None:
    service = Refusing(1)
    guarded.services.on("ExecuteFunction", service)
    key = guarded.auth.key(dev())

    with grpc.insecure_channel(guarded.grpc_address) as channel:
        stub: Any = executor_pb2_grpc.ExecutorStub(channel)
        request = executor_pb2.ExecuteFunctionRequest(id="f", input_text=b"1")
        answer = stub.ExecuteFunction(request, metadata=list(bearer(key).items()), timeout=10)

    assert (answer.output_text, service.runs, len(guarded.auth.exchanges)) == (b"1", 1, 2)


def test_it_is_tried_anew_once_and_no_more(guarded: GuardedGateway) -> None:
    service = Refusing(100)
    guarded.services.on("ExecuteFunction", service)

    answer = execute(guarded, bearer(guarded.auth.key(dev())))

    assert (answer.status_code, reason_of(answer)) == (401, "STALE_TOKEN")
    assert (len(guarded.services.calls), len(guarded.auth.exchanges), service.runs) == (2, 2, 0)


def test_no_other_refusal_is_tried_anew(guarded: GuardedGateway) -> None:
    service = Refusing(1, "BAD_TOKEN")
    guarded.services.on("ExecuteFunction", service)

    answer = execute(guarded, bearer(guarded.auth.key(dev())))

    assert (answer.status_code, len(guarded.services.calls), service.runs) == (401, 1, 0)


def test_who_was_revoked_in_that_moment_is_told(guarded: GuardedGateway) -> None:
    key = guarded.auth.key(dev())

    def refuse(_: Any, context: Any) -> executor_pb2.Execution:
        guarded.auth.principals.clear()
        fail(context, Unauthenticated("changed", reason="STALE_TOKEN"))

    guarded.services.on("ExecuteFunction", refuse)

    answer = execute(guarded, bearer(key))

    assert (answer.status_code, reason_of(answer)) == (401, "BAD_CREDENTIALS")
    assert len(guarded.services.calls) == 1


def test_a_token_that_a_program_sent_itself_is_its_own_to_renew(guarded: GuardedGateway) -> None:
    service = Refusing(1)
    guarded.services.on("ExecuteFunction", service)

    answer = execute(guarded, bearer(guarded.auth.token(dev())))

    assert (answer.status_code, reason_of(answer)) == (401, "STALE_TOKEN")
    assert len(guarded.services.calls) == 1


STALE: Final = Unauthenticated("changed", reason="STALE_TOKEN")


def stream_through(gateway: GuardedGateway, count: int) -> list[str]:
    """What a stream of some messages answers, by their ids."""
    requests = (executor_pb2.ExecuteStreamRequest(id=str(number)) for number in range(count))
    with grpc.insecure_channel(gateway.grpc_address) as channel:
        stub: Any = executor_pb2_grpc.ExecutorStub(channel)
        answers = stub.ExecuteStream(requests, metadata=list(bearer(gateway.auth.key(dev())).items()), timeout=20)
        return [one.id for one in answers]


def stream_refusal(gateway: GuardedGateway) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        stream_through(gateway, 3)
    error: Any = caught.value
    return status.from_rpc_error(error).reason


def echo_stream(messages: Any, _: Any) -> Iterator[executor_pb2.Execution]:
    for message in messages:
        yield executor_pb2.Execution(id=message.id)


@pytest.mark.parametrize("count", [0, 1, 100])
def test_a_stream_that_was_not_admitted_is_begun_anew_and_nothing_that_was_sent_is_lost(guarded: GuardedGateway, count: int) -> None:
    guarded.services.on("ExecuteStream", echo_stream)
    guarded.services.refuse_streams(STALE)

    assert stream_through(guarded, count) == [str(number) for number in range(count)]
    assert len(guarded.auth.exchanges) == 2


def test_a_stream_is_begun_anew_once_and_no_more(guarded: GuardedGateway) -> None:
    guarded.services.on("ExecuteStream", echo_stream)
    guarded.services.refuse_streams(*[STALE] * 3)

    assert stream_refusal(guarded) == "STALE_TOKEN"
    assert len(guarded.auth.exchanges) == 2


def test_a_stream_that_is_refused_for_another_reason_is_not_begun_anew(guarded: GuardedGateway) -> None:
    guarded.services.on("ExecuteStream", echo_stream)
    guarded.services.refuse_streams(Unauthenticated("no", reason="BAD_TOKEN"))

    assert stream_refusal(guarded) == "BAD_TOKEN"
    assert len(guarded.auth.exchanges) == 1


def test_a_stream_that_ends_after_it_was_admitted_is_not_begun_anew(guarded: GuardedGateway) -> None:
    def run_and_end(messages: Any, context: Any) -> Iterator[executor_pb2.Execution]:
        yield from itertools.islice(echo_stream(messages, context), 3)
        fail(context, STALE)

    guarded.services.on("ExecuteStream", run_and_end)

    assert stream_refusal(guarded) == "STALE_TOKEN"
    assert [call.name for call in guarded.services.calls] == ["ExecuteStream"]


def test_a_change_that_is_heard_makes_the_gateway_ask_again(guarded: GuardedGateway) -> None:
    guarded.services.on("GetFunction", found)
    user = dev()
    key = guarded.auth.key(user)
    guarded.http.get("/functions/f", headers=bearer(key))
    changed = guarded.auth.principals[key] = Principal(user.id, user.name, user.role, frozenset({"a-new-group"}))

    guarded.auth.change(user.id)

    for _ in range(200):
        guarded.http.get("/functions/f", headers=bearer(key))
        if forwarded(guarded, guarded.services.calls[-1]) == changed:
            return
    raise AssertionError("the gateway goes on with what was true before")


# Where nobody is asked


@pytest.mark.parametrize("name", ["localhost", "LocalHost:8080", "127.0.0.1", "127.8.8.8:1", "[::1]", "[::1]:8080"])
def test_where_auth_is_off_this_machine_is_called_by_its_own_names(gateway: Gateway, name: str) -> None:
    gateway.services.on("GetFunction", found)

    assert gateway.http.get("/functions/f", headers={"host": name}).status_code == 200


@pytest.mark.parametrize("name", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", ""])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/functions/f"), ("POST", "/functions/f/execute"), ("GET", "/"), ("OPTIONS", "/functions")]
)
def test_where_auth_is_off_no_page_whose_name_was_made_to_lead_here_calls(gateway: Gateway, name: str, method: str, path: str) -> None:
    gateway.services.on("GetFunction", found)
    gateway.services.on("ExecuteFunction", echo)

    answer = gateway.http.request(method, path, headers={"host": name, "origin": f"http://{name}", "sec-fetch-site": "same-origin"})

    assert (answer.status_code, reason_of(answer)) == (403, "HOST_NOT_LOOPBACK")
    assert gateway.services.calls == []


def test_where_it_is_asked_who_calls_a_gateway_has_any_name(guarded: GuardedGateway) -> None:
    guarded.services.on("GetFunction", found)

    assert guarded.http.get("/functions/f", headers={**bearer(guarded.auth.key(dev())), "host": "kiln.example"}).status_code == 200


def test_where_auth_is_off_nobody_needs_anything_and_nothing_is_exchanged(gateway: Gateway) -> None:
    gateway.services.on("ExecuteFunction", echo)

    answers = [execute(gateway, headers) for headers in ({}, bearer("kiln_x"), bearer(new_credential(Kind.API_KEY).text))]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert {call.name for call in gateway.services.calls} == {"ExecuteFunction"}


def test_an_error_of_a_service_is_passed_on_whoever_calls(guarded: GuardedGateway) -> None:
    guarded.services.on("GetFunction", lambda _, context: fail(context, InvalidArgument.of("id", "is bad")))

    with grpc.insecure_channel(guarded.grpc_address) as channel:
        stub: Any = registry_pb2_grpc.RegistryStub(channel)
        metadata = list(bearer(guarded.auth.key(dev())).items())
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetFunction(registry_pb2.GetFunctionRequest(id="f"), metadata=metadata, timeout=10)

    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(status.from_rpc_error(error), InvalidArgument)
