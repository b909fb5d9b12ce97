"""REST in front of services: what they get, and what the caller gets back."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import grpc
import httpx
import pytest
from google.protobuf import empty_pb2
from google.rpc import error_details_pb2
from kiln.executor.v1 import executor_pb2
from kiln.registry.v1 import registry_pb2

from libs.common.errors import InvalidArgument, ResourceExhausted, Unavailable
from tests.integration.gateway.conftest import Gateway
from tests.support.services import fail

RESERVED = ("connection", "host", "content-length")


def echo(message: Any, _: Any) -> executor_pb2.Execution:
    return executor_pb2.Execution(id="e", status=executor_pb2.Execution.COMPLETED, output_text=message.input_text)


@pytest.mark.parametrize(
    "text",
    [
        '{"b":1,"a":2}',
        "9223372036854775807",
        "18446744073709551616",
        "1.10",
        "-0.0",
        '"\\u0000"',
        '"\\ud83d\\ude00 😀"',
        '"\\ud800"',
        "[" * 512 + "]" * 512,
        '{ "spaces" : [ 1 , 2 ] }',
        '{"k":1,"k":2}',
        "null",
        "1e400",
        pytest.param("1" * 200_000, id="200,000 digits"),
    ],
)
def test_a_payload_passes_both_ways_as_it_is(gateway: Gateway, text: str) -> None:
    gateway.services.on("ExecuteFunction", echo)

    answer = gateway.http.post(
        "/functions/echo/execute", content=f'{{"input":{text}}}'.encode(), headers={"content-type": "application/json"}
    )

    (call,) = gateway.services.calls
    assert answer.status_code == 200
    assert call.message.input_text == text.encode()
    assert f'"output":{text}'.encode() in answer.content


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b'{"input":' + b"[" * 1100 + b"]" * 1100 + b"}", 400, id="depth 1,100"),
        pytest.param(b'{"input":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, id="depth 100,000"),
        pytest.param(b'{"input":' + b'{"a":' * 100_000, 400, id="depth 100,000, unfinished"),
        pytest.param(b"[" * 1_000_000, 400, id="nothing but brackets"),
        pytest.param(b'{"version":' + b"1" * 200_000 + b"}", 400, id="200,000 digits"),
        pytest.param(b'{"input":1,"input":2}', 400, id="twice"),
        pytest.param(b'{"input":1,"inp\\u0075t":2}', 400, id="twice, once in escapes"),
        pytest.param(b'{"input":NaN}', 400, id="NaN"),
        pytest.param(b'{"input":"\xed\xa0\x80"}', 400, id="half of a surrogate pair as bytes"),
        pytest.param(b'\xef\xbb\xbf{"input":1}', 400, id="byte order mark"),
        pytest.param('{"input":1}'.encode("utf-16"), 400, id="UTF-16"),
        pytest.param(b'{"input":"\x00"}', 400, id="a raw NUL"),
        pytest.param(b'{"input":"' + b"x" * (13 << 20) + b'"}', 413, id="13 MiB"),
    ],
)
def test_a_hostile_body_is_refused_before_any_service_is_asked(gateway: Gateway, body: bytes, code: int) -> None:
    gateway.services.on("ExecuteFunction", echo)

    answer = gateway.http.post("/functions/echo/execute", content=body, headers={"content-type": "application/json"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (code, code)
    assert gateway.services.calls == []


def test_a_call_carries_the_request_id_and_an_execution_of_the_gateways_own(gateway: Gateway) -> None:
    gateway.services.on("ExecuteFunction", echo)
    forged = {
        "x-request-id": "mine-7",
        "x-execution-id": "forged",
        "x-user-id": "root",
        "x-forwarded-for": "10.0.0.1",
        "forwarded": "for=10.0.0.1",
        "x-http-method-override": "DELETE",
    }

    answer = gateway.http.post("/functions/echo/execute", json={"input": 1}, headers=forged)

    (call,) = gateway.services.calls
    assert answer.headers["x-request-id"] == call.metadata["x-request-id"] == "mine-7"
    assert UUID(str(call.metadata["x-execution-id"])).version == 7
    assert not {"x-user-id", "x-forwarded-for", "forwarded", "x-http-method-override"} & call.metadata.keys()
    assert call.name == "ExecuteFunction"


@pytest.mark.parametrize("identity", ["", "with space", "x" * 200, 'a"b', "é"])
def test_a_request_id_that_may_not_stand_in_a_log_is_replaced(gateway: Gateway, identity: str) -> None:
    answer = gateway.http.get("/health", headers={b"x-request-id": identity.encode()})

    assert UUID(answer.headers["x-request-id"]).version == 7


def test_a_refusal_is_told_in_the_words_of_rest(gateway: Gateway) -> None:
    refused = InvalidArgument.of("limits.timeout_ms", "must be at most 60000")
    gateway.services.on("CreateFunction", lambda _, context: fail(context, refused))

    answer = gateway.http.post("/functions", json={"name": "a"}, headers={"x-request-id": "mine"})

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert error["message"] == "limits.timeoutMs: must be at most 60000"
    kinds = {detail["@type"].rpartition(".")[2]: detail for detail in error["details"]}
    assert kinds["BadRequest"]["fieldViolations"] == [{"field": "limits.timeoutMs", "description": "must be at most 60000"}]
    assert kinds["RequestInfo"]["requestId"] == "mine"
    assert kinds["ErrorInfo"]["domain"] == "kiln"


def test_a_limit_tells_when_to_come_back(gateway: Gateway) -> None:
    gateway.services.on("GetFunction", lambda _, context: fail(context, ResourceExhausted("full", reason="FULL", retry_after=2.2)))

    answer = gateway.http.get("/functions/a")

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")


def test_what_a_foreign_failure_says_stays_inside(gateway: Gateway) -> None:
    def raises(_: Any, __: Any) -> None:
        raise RuntimeError("canary: password=hunter2")

    gateway.services.on("GetFunction", raises)

    answer = gateway.http.get("/functions/a")

    assert answer.status_code == 500
    assert answer.json()["error"]["status"] == "INTERNAL"
    assert "hunter2" not in answer.text


def test_a_delete_answers_with_nothing(gateway: Gateway) -> None:
    gateway.services.on("DeleteFunction", lambda _, __: empty_pb2.Empty())

    answer = gateway.http.delete("/functions/a")

    assert (answer.status_code, answer.content) == (204, b"")


def test_an_entity_tag_travels_as_a_header_both_ways(gateway: Gateway) -> None:
    gateway.services.on("UpdateFunction", lambda message, _: registry_pb2.Function(id="a", etag=message.etag + "1"))

    answer = gateway.http.put("/functions/a", json={"description": "x"}, headers={"if-match": '"7"'})

    assert gateway.services.calls[0].message.etag == "7"
    assert answer.headers["etag"] == '"71"'


def test_head_is_a_get_without_a_body(gateway: Gateway) -> None:
    gateway.services.on("GetFunction", lambda _, __: registry_pb2.Function(id="a"))

    answer = gateway.http.head("/functions/a")

    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 100


def test_a_problem_document_is_given_to_who_asks_for_one(gateway: Gateway) -> None:
    answer = gateway.http.get("/nowhere", headers={"accept": "application/problem+json, application/json"})

    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["status"], answer.json()["reason"]) == (404, "NO_SUCH_PATH")


@pytest.mark.parametrize(
    ("rpc", "method", "path", "expected"),
    [
        ("GetFunction", "GET", "/functions/a", 3),
        ("CreateFunction", "POST", "/functions", 1),
        ("ExecuteFunction", "POST", "/functions/a/execute", 1),
    ],
)
def test_only_what_may_happen_twice_is_sent_again(gateway: Gateway, rpc: str, method: str, path: str, expected: int) -> None:
    gateway.services.on(rpc, lambda _, context: fail(context, Unavailable("gone", reason="BROKEN")))

    answer = gateway.http.request(method, path, json={} if method == "POST" else None)

    assert answer.status_code == 503
    assert len(gateway.services.calls) == expected


def test_a_service_that_fails_gets_little_more_to_do_than_it_has(gateway: Gateway) -> None:
    gateway.services.on("GetFunction", lambda _, context: fail(context, Unavailable("gone", reason="BROKEN")))

    with ThreadPoolExecutor(4) as pool:
        statuses = set(pool.map(lambda _: gateway.http.get("/functions/a").status_code, range(200)))

    assert statuses == {503}
    assert 200 < len(gateway.services.calls) <= 1.2 * 200 + 10
    # It works again, and what is spared comes back with the calls.
    gateway.services.on("GetFunction", lambda *_: registry_pb2.Function())
    assert {gateway.http.get("/functions/a").status_code for _ in range(60)} == {200}


def test_a_service_that_only_starts_is_waited_for(gateway: Gateway) -> None:
    def starting(message: Any, context: grpc.ServicerContext) -> Any:
        if len(gateway.services.calls) < 3:
            fail(context, Unavailable("starting", reason="STARTING"))
        return echo(message, context)

    gateway.services.on("ExecuteFunction", starting)

    answer = gateway.http.post("/functions/a/execute", json={"input": 1})

    assert answer.status_code == 200
    assert len({call.metadata["x-execution-id"] for call in gateway.services.calls}) == 1


def test_who_goes_away_ends_the_call(gateway: Gateway) -> None:
    ended = threading.Event()

    def hang(_: Any, context: grpc.ServicerContext) -> executor_pb2.Execution:
        context.add_callback(ended.set)
        ended.wait(20)
        return executor_pb2.Execution()

    gateway.services.on("ExecuteFunction", hang)

    with pytest.raises(httpx.ReadTimeout):
        gateway.http.post("/functions/a/execute", json={"input": 1}, timeout=0.5)

    assert ended.wait(5)


def test_calls_beyond_the_limit_are_refused_and_tell_when_to_come_back(gateway: Gateway) -> None:
    release = threading.Event()

    def wait(message: Any, context: grpc.ServicerContext) -> Any:
        release.wait(20)
        return echo(message, context)

    gateway.services.on("ExecuteFunction", wait)

    def call(_: int) -> httpx.Response:
        return httpx.post(f"http://{gateway.http_address}/functions/a/execute", json={"input": 1}, timeout=30, trust_env=False)

    with ThreadPoolExecutor(8) as callers:
        served = [callers.submit(call, number) for number in range(8)]
        give_up = time.monotonic() + 10
        while len(gateway.services.calls) < 8 and time.monotonic() < give_up:
            time.sleep(0.01)
        refused = call(0)
        release.set()

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["error"]["details"][0]["reason"] == "TOO_MANY_CALLS"
    assert [one.result().status_code for one in served] == [200] * 8
    assert len(gateway.services.calls) == 8


def test_the_error_details_of_a_service_come_through(gateway: Gateway) -> None:
    gateway.services.on("GetFunction", lambda _, context: fail(context, InvalidArgument.of("id", "is bad", reason="BAD_ID")))

    details = gateway.http.get("/functions/a").json()["error"]["details"]

    assert details[0] == {
        "@type": f"type.googleapis.com/{error_details_pb2.ErrorInfo.DESCRIPTOR.full_name}",
        "reason": "BAD_ID",
        "domain": "kiln",
    }


def test_a_body_may_come_in_pieces(gateway: Gateway) -> None:
    gateway.services.on("ExecuteFunction", echo)
    body = b'{"input":"%s"}' % (b"x" * 100_000)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[at : at + 1000] for at in range(0, len(body), 1000)))
    lines = [
        "POST /functions/a/execute HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
        "Connection: close",
    ]
    head = "".join(f"{line}\r\n" for line in [*lines, ""]).encode()
    host, _, port = gateway.http_address.partition(":")

    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head + chunks + b"0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"x" * 100_000 in answer
