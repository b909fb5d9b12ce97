"""Requests in REST become messages and answers become JSON, by the annotations of Kiln's own protos."""

from typing import Any

import orjson
import pytest
from google.protobuf.message import Message
from kiln.executor.v1 import executor_pb2
from kiln.registry.v1 import registry_pb2

from libs.common.errors import InvalidArgument
from libs.common.status import to_proto
from services.gateway import descriptors
from services.gateway.exchange import Request
from services.gateway.problems import answer_of, in_rest_words
from services.gateway.transcoder import Binding
from services.gateway.writing import header_values, to_json

JSON = {"content-type": "application/json"}


def bound(rpc: str, *, body: bytes = b"", query: bytes = b"", headers: dict[str, str] = JSON, **variables: str) -> Any:
    """The message that an RPC gets for a request."""
    method = next(one for one in descriptors.public_methods() if one.name == rpc)
    rule = descriptors.http_rule(method)
    assert rule
    return Binding(method, rule).message(Request(query, headers, variables, body, rule.method, "127.0.0.1"))


def refusal(rpc: str, **request: Any) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        bound(rpc, **request)
    return caught.value


def test_a_body_fills_a_message() -> None:
    message = bound(
        "CreateFunction", body=b'{"name": "a", "language": "l", "source": "s\\u0000", "limits": {"timeoutMs": 5, "memoryMb": "7"}}'
    )

    limits = registry_pb2.Limits(timeout_ms=5, memory_mb=7)
    assert message == registry_pb2.CreateFunctionRequest(name="a", language="l", source="s\0", limits=limits)


@pytest.mark.parametrize("text", [b"AGFzbfv/", b"AGFzbfv\\/", b"AGFzbfv_"])
def test_bytes_are_base64_of_either_alphabet(text: bytes) -> None:
    assert bound("CreateFunction", body=b'{"wasm": "' + text + b'"}').wasm == b"\0asm\xfb\xff"


@pytest.mark.parametrize("text", [b"18446744073709551616", b"1.10", b'{"b":1,"a":2}', b'"\\ud800"', b"[1, 2 ]", b"null", b"{}"])
def test_input_is_the_text_that_was_sent(text: bytes) -> None:
    message = bound("ExecuteFunction", body=b'{"version": 3, "input": ' + text + b" }", id="greet")

    expected = executor_pb2.ExecuteFunctionRequest(id="greet", input_text=text, version=3, payload_form=executor_pb2.TEXT)
    assert message == expected


@pytest.mark.parametrize("odd", [b'"\\ud800"', b"[" * 513 + b"]" * 513], ids=["half of a pair", "nested too deep"])
def test_inputs_are_the_texts_that_were_sent_and_whether_one_is_too_deep_the_executor_says(odd: bytes) -> None:
    texts = [b"18446744073709551616", b'{"b":1,"a":1.10}', b"null", odd]

    message = bound("ExecuteBatch", body=b'{"inputs": [' + b" , ".join(texts) + b'], "version": 3}', id="greet")

    assert message == executor_pb2.ExecuteBatchRequest(id="greet", input_texts=texts, version=3, payload_form=executor_pb2.TEXT)


def test_without_a_body_the_input_is_absent() -> None:
    message = bound("ExecuteFunction", headers={}, id="greet")

    assert message.WhichOneof("given") is None
    assert not message.HasField("version")


def test_a_null_is_an_absent_member() -> None:
    message = bound("UpdateFunction", body=b'{"description": null, "source": "", "limits": {}}', id="a")

    assert not message.HasField("description")
    assert message.HasField("source")
    assert message.HasField("limits")


def test_a_query_fills_a_message() -> None:
    query = b"pageSize=7&status=FAILED&errorType=TIMEOUT&version=2&startedAfter=2026-01-31T12:00:00Z&pageToken=a%2Bb"

    message = bound("ListExecutions", query=query, headers={}, id="a")

    assert (message.page_size, message.status, message.error_type, message.version) == (7, executor_pb2.Execution.FAILED, 3, 2)
    assert (message.started_after.seconds, message.page_token) == (1769860800, "a+b")


def test_a_header_fills_its_field() -> None:
    message = bound("UpdateFunction", body=b"{}", headers={**JSON, "if-match": 'W/"7"'}, id="a")

    assert message.etag == "7"


@pytest.mark.parametrize(
    ("rpc", "request_", "field"),
    [
        ("CreateFunction", {"body": b'{"name": "a", "name": "b"}'}, "name"),
        ("CreateFunction", {"body": b'{"colour": 1}'}, "colour"),
        ("CreateFunction", {"body": b'{"limits": {"timeout_ms": 1}}'}, "limits.timeout_ms"),
        ("CreateFunction", {"body": b'{"limits": {"timeoutMs": 1, "timeoutMs": 1}}'}, "limits.timeoutMs"),
        ("CreateFunction", {"body": b'{"limits": []}'}, "limits"),
        ("CreateFunction", {"body": b'{"name": 1}'}, "name"),
        ("CreateFunction", {"body": b'{"limits": {"timeoutMs": 2147483648}}'}, "limits.timeoutMs"),
        ("CreateFunction", {"body": b'{"limits": {"timeoutMs": true}}'}, "limits.timeoutMs"),
        ("CreateFunction", {"body": b'{"wasm": "AGFzbQ=?"}'}, "wasm"),
        ("CreateFunction", {"body": b'{"wasm": "AGFzbQE\\u00e9"}'}, "wasm"),
        ("CreateFunction", {"body": b'{"wasm": "A"}'}, "wasm"),
        ("CreateFunction", {"body": b'{"wasm": [0, 97]}'}, "wasm"),
        ("CreateFunction", {"body": b"{}", "query": b"name=a"}, "name"),
        ("UpdateFunction", {"body": b'{"id": "b"}', "id": "a"}, "id"),
        ("UpdateFunction", {"body": b'{"etag": "7"}', "id": "a"}, "etag"),
        ("GetVersion", {"id": "a", "version": "x"}, "version"),
        ("GetVersion", {"id": "a", "version": "1.5"}, "version"),
        ("GetVersion", {"id": "a", "version": "\u0661"}, "version"),
        ("ListFunctions", {"query": b"pageSize=1&pageSize=2"}, "pageSize"),
        ("ListFunctions", {"query": b"page_size=1"}, "page_size"),
        ("ListFunctions", {"query": b"pageSize="}, "pageSize"),
        ("ListExecutions", {"query": b"status=DONE", "id": "a"}, "status"),
        ("ListExecutions", {"query": b"startedAfter=yesterday", "id": "a"}, "startedAfter"),
        ("ListExecutions", {"query": b"id=b", "id": "a"}, "id"),
        ("ExecuteFunction", {"body": b'{"input": "\xff"}', "id": "a"}, "input"),
        ("ExecuteFunction", {"body": b'{"inputText": "e30="}', "id": "a"}, "inputText"),
        ("ExecuteFunction", {"body": b'{"payloadForm": 1}', "id": "a"}, "payloadForm"),
        ("ExecuteBatch", {"body": b'{"inputs": 1}', "id": "a"}, "inputs"),
        ("ExecuteBatch", {"body": b'{"inputTexts": []}', "id": "a"}, "inputTexts"),
        ("ExecuteFunction", {"body": b'{"input": ' + b"[" * 513 + b"]" * 513 + b"}", "id": "a"}, "input"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name_in_rest(rpc: str, request_: dict[str, Any], field: str) -> None:
    error = refusal(rpc, **request_)

    assert [violation.field for violation in error.violations] == [field]
    assert error.message.startswith(f"{field}: ")


@pytest.mark.parametrize(
    "body", [b"{", b"nope", b'{"name": NaN}', b"\xff", b'{"name": "\x01"}', b'{"name": "\\ud800"}', b'{"name": "\xff"}']
)
def test_a_body_that_is_no_json_is_said_so(body: bytes) -> None:
    assert refusal("CreateFunction", body=body).reason == "NOT_JSON"


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"'])
def test_a_body_that_is_no_object_is_said_so(body: bytes) -> None:
    assert refusal("CreateFunction", body=body).message == "the body must be a JSON object"


@pytest.mark.parametrize(
    "headers",
    [{}, {"content-type": "text/plain"}, {"content-type": "application/json; charset=utf-16"}, {**JSON, "content-encoding": "gzip"}],
)
def test_a_body_of_another_kind_is_said_so(headers: dict[str, str]) -> None:
    assert refusal("CreateFunction", body=b"{}", headers=headers).reason == "UNSUPPORTED_MEDIA_TYPE"


def test_a_call_that_takes_no_body_refuses_one() -> None:
    assert refusal("GetFunction", body=b"{}", id="a").message == "this call takes no body"


@pytest.mark.parametrize("query", [b"pageToken=%ff", b"&".join(b"k%d=1" % number for number in range(101))])
def test_a_query_that_cannot_be_read_is_refused(query: bytes) -> None:
    assert "the query" in refusal("ListFunctions", query=query, headers={}).message


def written(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(to_json(message))
    return found


def test_an_answer_writes_its_defaults_out() -> None:
    assert written(executor_pb2.ListExecutionsResponse()) == {"executions": [], "nextPageToken": ""}


def test_an_answer_leaves_out_what_is_absent() -> None:
    execution = executor_pb2.Execution(
        id="e", status=executor_pb2.Execution.COMPLETED, output_text=b'{"b": 1.10, "a": 18446744073709551616}'
    )
    execution.created_at.FromJsonString("2026-01-31T12:00:00.5Z")

    text = to_json(execution)

    found = orjson.loads(text)
    assert b'"output":{"b": 1.10, "a": 18446744073709551616}' in text
    assert (found["status"], found["createdAt"], found["logs"]) == ("COMPLETED", "2026-01-31T12:00:00.500Z", [])
    assert not {"input", "error", "refusal", "durationUs", "completedAt", "outputText"} & found.keys()


def test_the_refusal_of_one_of_several_looks_like_the_answer_of_a_call_that_failed() -> None:
    refused = InvalidArgument.of("input", "is bad", reason="BAD_INPUT")

    found = written(executor_pb2.Execution(refusal=to_proto(refused, "r1")))["refusal"]

    assert {"error": found} == orjson.loads(answer_of(refused, "r1", {}).body)
    assert (found["code"], found["status"], found["message"]) == (400, "INVALID_ARGUMENT", "input: is bad")


def test_an_enum_of_a_later_version_stays_a_number() -> None:
    assert written(executor_pb2.Execution(status=99))["status"] == 99  # type: ignore[arg-type]


def test_a_header_of_an_answer_is_quoted_as_http_has_it() -> None:
    assert header_values(registry_pb2.Function(etag="7")) == [("ETag", '"7"')]


def test_a_services_refusal_names_fields_as_rest_knows_them() -> None:
    descriptor: Any = registry_pb2.CreateFunctionRequest.DESCRIPTOR
    told = in_rest_words(InvalidArgument.of("limits.timeout_ms", "must be less"), descriptor)

    assert told.message == "limits.timeoutMs: must be less"
    assert isinstance(told, InvalidArgument)
    assert told.violations[0].field == "limits.timeoutMs"
