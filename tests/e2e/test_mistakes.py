"""What clients get wrong, and what they are told."""

import base64
import json
from typing import Any

import pytest

from tests.support.platform import ECHO, Platform, error_of

GOOD = {"name": "never-made", "language": "assemblyscript", "source": ECHO}


def refusal(platform: Platform, method: str, path: str, **request: Any) -> tuple[int, str, str]:
    """Status, the error's word and its message."""
    answer = platform.http.request(method, path, **request)
    error = error_of(answer)
    return answer.status_code, error["status"], error["message"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({**GOOD, "name": 7}, "name"),
        ({**GOOD, "name": None}, "name"),
        ({**GOOD, "source": ""}, "source"),
        ({**GOOD, "source": " \n"}, "source"),
        ({**GOOD, "source": "a\0b"}, "source"),
        ({**GOOD, "source": ["a"]}, "source"),
        ({**GOOD, "language": ""}, "language"),
        ({**GOOD, "language": "cobol"}, "assemblyscript"),
        ({**GOOD, "description": "x" * 1001}, "description"),
        ({**GOOD, "limits": {"timeoutMs": 0}}, "limits.timeoutMs"),
        ({**GOOD, "limits": {"timeoutMs": 60_001}}, "limits.timeoutMs"),
        ({**GOOD, "limits": {"timeoutMs": "soon"}}, "limits.timeoutMs"),
        ({**GOOD, "limits": {"timeoutMs": 1.5}}, "limits.timeoutMs"),
        ({**GOOD, "limits": {"memoryMb": 513}}, "limits.memoryMb"),
        ({**GOOD, "limits": {"memoryMb": -1}}, "limits.memoryMb"),
        ({**GOOD, "limits": {"maxOutputBytes": 5 << 20}}, "limits.maxOutputBytes"),
        ({**GOOD, "limits": {"maxConcurrency": 0}}, "limits.maxConcurrency"),
        ({**GOOD, "limits": {"maxConcurrency": 1001}}, "limits.maxConcurrency"),
        ({**GOOD, "limits": {"speed": 1}}, "limits.speed"),
        ({**GOOD, "limits": []}, "limits"),
        ({**GOOD, "colour": "red"}, "colour"),
        # A function is one source, and how it is compiled is Kiln's business.
        ({**GOOD, "files": {"asconfig.json": "{}"}}, "files"),
        ({**GOOD, "asconfig.json": "{}"}, "asconfig.json"),
        ({**GOOD, "sources": {"../x": "a"}}, "sources"),
        ({**GOOD, "path": "../../etc/passwd"}, "path"),
        ({**GOOD, "flags": ["--transform", "./evil.mjs"]}, "flags"),
        ({**GOOD, "source": {"build.zig": "a", "function.zig": "b"}}, "source"),
        ({**GOOD, "compile_error": "x"}, "compile_error"),
        ({**GOOD, "id": "x"}, "id"),
    ],
)
def test_a_bad_field_is_named(platform: Platform, body: dict[str, Any], field: str) -> None:
    status, word, message = refusal(platform, "POST", "/functions", json=body)

    assert (status, word) == (400, "INVALID_ARGUMENT")
    assert field in message
    assert platform.http.get("/functions/never-made").status_code == 404


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "name"),
        ("{", "line 1"),
        ('{"name": "a",\n "source": }', "line 2"),
        ("[]", "object"),
        ("null", "object"),
        ("{} {}", "line 1"),
        ('{"name":"a","name":"b"}', "name"),
        ('{"name": NaN}', "line 1"),
        ("\ufeff{}", "line 1"),
    ],
)
def test_what_is_no_json_object_is_refused_with_the_place(platform: Platform, text: str, place: str) -> None:
    status, word, message = refusal(platform, "POST", "/functions", content=text.encode(), headers={"content-type": "application/json"})

    assert (status, word) == (400, "INVALID_ARGUMENT")
    assert place in message


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"input": nope}', "line 1"),
        ('{"input": {"a": 1,}}', "line 1"),
        ('{"input": 1, "input": 2}', "input"),
        ('{"input": "\x01"}', "line 1"),
        ('{"input": ' + "[" * 513 + "]" * 513 + "}", "512"),
        ('{"version": 0}', "version"),
        ('{"version": "x"}', "version"),
        ('{"versions": 1}', "versions"),
        ('{"inputText": "e30="}', "inputText"),
        ('{"payloadForm": "VALUE"}', "payloadForm"),
    ],
)
def test_a_bad_call_is_refused_before_anything_runs(functions: Platform, text: str, word: str) -> None:
    before = functions.http.get("/functions/echo/executions?pageSize=1").json()["executions"]

    status, _, message = refusal(
        functions, "POST", "/functions/echo/execute", content=text.encode(), headers={"content-type": "application/json"}
    )

    assert status == 400
    assert word in message
    assert functions.http.get("/functions/echo/executions?pageSize=1").json()["executions"] == before


@pytest.mark.parametrize("path", ["/functions", "/functions/echo/executions"])
def test_a_page_token_that_was_made_up_is_refused(functions: Platform, path: str) -> None:
    functions.execute("echo", 1)
    functions.execute("echo", 2)
    token = functions.http.get(f"{path}?pageSize=1").json()["nextPageToken"]
    scope, _ = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    made_up = base64.urlsafe_b64encode(json.dumps([scope, "made up"]).encode()).decode().rstrip("=")

    for refused in ("x", "%00", token[:-2], made_up):
        status, reason, message = refusal(functions, "GET", f"{path}?pageToken={refused}")
        assert (status, reason) == (400, "INVALID_ARGUMENT")
        assert "pageToken" in message


def test_an_input_that_is_too_large_is_413(functions: Platform) -> None:
    assert refusal(functions, "POST", "/functions/echo/execute", json={"input": "x" * (1 << 20)})[0] == 413


@pytest.mark.parametrize(
    "path",
    [
        "/functions/nobody",
        "/functions/No%20Body",
        "/functions/a%2Fb",
        "/functions/%00",
        "/functions/00000000-0000-7000-8000-000000000000",
        "/functions/nobody/versions",
        "/functions/nobody/versions/1",
        "/functions/nobody/executions",
        "/functions/echo/versions/99",
        "/executions/nobody",
        "/executions/00000000-0000-7000-8000-000000000000",
        "/nowhere",
        "/functions/",
        "/functions/echo/execute/now",
    ],
)
def test_what_is_not_there_is_404(functions: Platform, path: str) -> None:
    assert refusal(functions, "GET", path)[:2] == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/functions/nobody/execute", {}),
        ("POST", "/functions/echo/execute", {"version": 99}),
        ("POST", "/functions/nobody/executeBatch", {"inputs": [1]}),
        ("PUT", "/functions/nobody", {"description": "x"}),
        ("POST", "/functions/nobody/rollback", {"version": 1}),
        ("POST", "/functions/nobody/versions/1/build", {}),
        ("POST", "/functions/echo/versions/99/build", {}),
    ],
)
def test_a_call_on_what_is_not_there_is_404(functions: Platform, method: str, path: str, body: dict[str, Any]) -> None:
    assert refusal(functions, method, path, json=body)[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/functions/echo", "PUT"),
        ("DELETE", "/functions", "POST"),
        ("GET", "/functions/echo/execute", "POST"),
        ("TRACE", "/functions", "GET"),
        ("POST", "/health", "GET"),
    ],
)
def test_a_wrong_method_is_405_and_tells_the_right_ones(functions: Platform, method: str, path: str, allowed: str) -> None:
    answer = functions.http.request(method, path)

    assert answer.status_code == 405
    assert allowed in answer.headers["allow"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""])
def test_a_wrong_content_type_is_415(platform: Platform, kind: str) -> None:
    status, _, message = refusal(platform, "POST", "/functions", content=b"{}", headers={"content-type": kind})

    assert status == 415
    assert "application/json" in message


def test_nothing_ready_to_run_is_said_so(functions: Platform) -> None:
    functions.create("unbuilt", "not a function")
    functions.settled("unbuilt")

    status, word, message = refusal(functions, "POST", "/functions/unbuilt/execute", json={})

    assert (status, word) == (400, "FAILED_PRECONDITION")
    assert "compileError" in message


def test_an_error_carries_a_reason_and_the_request_id(platform: Platform) -> None:
    answer = platform.http.get("/functions/nobody", headers={"x-request-id": "mine-1"})

    details = {detail["@type"].rpartition(".")[2]: detail for detail in error_of(answer)["details"]}
    assert details["ErrorInfo"]["reason"] == "FUNCTION_NOT_FOUND"
    assert details["RequestInfo"]["requestId"] == answer.headers["x-request-id"] == "mine-1"


def test_an_error_is_a_problem_document_where_that_is_asked_for(platform: Platform) -> None:
    answer = platform.http.get("/functions/nobody", headers={"accept": "application/problem+json"})

    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["status"], answer.json()["reason"]) == (404, "FUNCTION_NOT_FOUND")
