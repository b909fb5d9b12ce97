"""Prebuilt modules: deployed by REST and by gRPC, run, refused with what they lack, and edited to and from source."""

import base64
import os
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from kiln.executor.v1 import executor_pb2, executor_pb2_grpc
from kiln.registry.v1 import registry_pb2, registry_pb2_grpc

from tests.e2e.test_functions import answering as text_answering
from tests.integration.executor.guests import ECHO, TRAPPING, answering, guest, module
from tests.support.platform import Platform, error_of

MAX_BYTES = 8 << 20


def post(platform: Platform, name: str, wasm: bytes | str, **more: Any) -> httpx.Response:
    """Creates a function from a module by REST."""
    return platform.http.post("/functions", json={"name": name, "language": "wasm", "wasm": encoded(wasm), **more})


def encoded(wasm: bytes | str) -> str:
    return wasm if isinstance(wasm, str) else base64.b64encode(wasm).decode()


def deployed(platform: Platform, name: str, wasm: bytes) -> dict[str, Any]:
    """A new function from a module, once its build has ended."""
    answer = post(platform, name, wasm)
    assert answer.status_code == 201, answer.text
    return platform.settled(name)


def padded(wasm: bytes, size: int) -> bytes:
    """A module with a custom section that makes it so many bytes."""
    content = b"\3pad" + os.urandom(size - len(wasm) - 10)
    length = len(content)
    return wasm + b"\0" + bytes([*(length >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)), length >> 28]) + content


def test_a_module_in_base64_runs_and_is_not_answered_back(platform: Platform) -> None:
    created = post(platform, "by-rest", ECHO.wasm, description="prebuilt")

    function = platform.settled("by-rest")
    version = platform.http.get("/functions/by-rest/versions/1").json()
    assert (created.status_code, created.json()["status"]) == (201, "PENDING")
    assert (function["status"], function["language"], function["liveVersion"]) == ("READY", "wasm", 1)
    assert (version["artifactDigest"], version["artifactBytes"]) == (f"sha256:{ECHO.digest}", len(ECHO.wasm))
    assert all(not {"source", "wasm"} & one.keys() for one in (created.json(), function, version))
    assert platform.execute("by-rest", {"name": "Ada"})["output"] == {"name": "Ada"}


def test_a_module_in_bytes_runs(platform: Platform) -> None:
    with platform.channel() as channel:
        registry: Any = registry_pb2_grpc.RegistryStub(channel)
        executor: Any = executor_pb2_grpc.ExecutorStub(channel)

        registry.CreateFunction(registry_pb2.CreateFunctionRequest(name="by-grpc", language="wasm", wasm=ECHO.wasm), timeout=10)
        assert platform.settled("by-grpc")["status"] == "READY"
        ran = executor.ExecuteFunction(executor_pb2.ExecuteFunctionRequest(id="by-grpc", input_text=b'{"b":1.10}'), timeout=10)

    assert ran.output_text == b'{"b":1.10}'


def test_a_module_of_the_largest_size_runs(platform: Platform) -> None:
    function = deployed(platform, "largest", padded(ECHO.wasm, MAX_BYTES))

    assert function["status"] == "READY", function["compileError"]
    assert platform.http.get("/functions/largest/versions/1").json()["artifactBytes"] == MAX_BYTES
    assert platform.execute("largest", 1)["output"] == 1


def test_a_module_that_is_too_large_is_413_in_rest_and_named_in_grpc(platform: Platform) -> None:
    wasm = padded(ECHO.wasm, MAX_BYTES + 1)

    answer = post(platform, "too-large", wasm)
    with platform.channel() as channel:
        registry: Any = registry_pb2_grpc.RegistryStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            registry.CreateFunction(registry_pb2.CreateFunctionRequest(name="too-large", language="wasm", wasm=wasm), timeout=10)

    error: Any = caught.value
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in rpc_status.from_call(error).details)
    assert (answer.status_code, error_of(answer)["message"].startswith("wasm: ")) == (413, True)
    assert (error.code(), info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "WASM_TOO_LARGE")
    assert platform.http.get("/functions/too-large").status_code == 404


def test_the_starter_is_taken_as_it_is_listed(platform: Platform) -> None:
    (language,) = (one for one in platform.http.get("/languages").json()["languages"] if one["id"] == "wasm")

    post(platform, "from-starter", language["starter"])

    assert (language["available"], platform.settled("from-starter")["status"]) == (True, "READY")
    assert platform.execute("from-starter", {"a": [1]})["output"] == {"a": [1]}


def test_a_fault_of_a_module_is_its_own(platform: Platform) -> None:
    deployed(platform, "trapping", TRAPPING.wasm)

    execution = platform.execute("trapping", 1)

    assert (execution["status"], execution["error"]["type"]) == ("FAILED", "TRAP")


@pytest.mark.parametrize(
    ("wasm", "code", "words"),
    [
        pytest.param(b"\x7fELF\xff\0", "MALFORMED", ["not a WebAssembly module"], id="no module"),
        pytest.param(ECHO.wasm[:-3], "MALFORMED", [], id="half a module"),
        pytest.param(module('(module (memory (export "memory") 1))').wasm, "INVALID_ABI", ['"handle"', "assemblyscript"], id="no handle"),
        pytest.param(guest("(local.get 0)", imports=("fetch",)).wasm, "UNKNOWN_IMPORT", ['"env"."fetch"'], id="unknown import"),
        pytest.param(guest("(local.get 0)", '(func (export "wide") (param v128))').wasm, "INVALID_ABI", ['"wide"', "v128"], id="v128"),
    ],
)
def test_a_module_that_cannot_be_run_fails_and_says_what_is_missing(platform: Platform, wasm: bytes, code: str, words: list[str]) -> None:
    function = deployed(platform, f"unusable-{abs(hash(wasm)) % 10**9}", wasm)

    assert function["status"] == "FAILED"
    (finding,) = function["diagnostics"]
    assert (finding["severity"], finding["line"], finding["column"], finding["code"], finding["excerpt"]) == ("ERROR", 1, 1, code, "")
    assert all(word in finding["message"] for word in words), finding["message"]
    assert function["compileError"] == f"1:1: error {code}: {finding['message']}"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"wasm": None}, "wasm"),
        ({"wasm": ""}, "wasm"),
        ({"wasm": "no base64!"}, "wasm"),
        ({"wasm": 7}, "wasm"),
        ({"source": text_answering("x")}, "source"),
        ({"language": "assemblyscript"}, "wasm"),
        ({"language": "assemblyscript", "source": text_answering("x")}, "wasm"),
        ({"language": "assemblyscript", "wasm": None}, "source"),
    ],
)
def test_a_request_whose_code_does_not_fit_its_language_is_refused(platform: Platform, fields: dict[str, Any], named: str) -> None:
    body = {"name": "never-prebuilt", "language": "wasm", "wasm": encoded(ECHO.wasm), **fields}

    answer = platform.http.post("/functions", json=body)

    assert (answer.status_code, error_of(answer)["status"]) == (400, "INVALID_ARGUMENT")
    assert error_of(answer)["message"].startswith(f"{named}: ")
    assert platform.http.get("/functions/never-prebuilt").status_code == 404


def test_a_function_goes_from_source_to_module_and_back_and_rolls_between_them(platform: Platform) -> None:
    platform.deploy("both", text_answering("text"))

    platform.update("both", language="wasm", wasm=encoded(answering('"module"').wasm))
    module_serves = platform.settled("both"), platform.execute("both")["output"]
    platform.update("both", language="assemblyscript", source=text_answering("text again"))
    text_serves = platform.settled("both"), platform.execute("both")["output"]
    rolled = []
    for version in (2, 1, 3):
        platform.http.post("/functions/both/rollback", json={"version": version}).raise_for_status()
        rolled.append(platform.execute("both")["output"])

    assert ("source" in module_serves[0], module_serves[0]["liveVersion"], module_serves[1]) == (False, 2, "module")
    assert (text_serves[0]["source"], text_serves[0]["liveVersion"], text_serves[1]) == (text_answering("text again"), 3, "text again")
    assert rolled == ["module", "text", "text again"]


def test_an_edit_of_a_module_takes_another_one_and_refuses_half_of_a_change(platform: Platform) -> None:
    deployed(platform, "edited-module", answering("1").wasm)

    same = platform.update("edited-module", wasm=encoded(answering("1").wasm))
    half = platform.http.put("/functions/edited-module", json={"source": text_answering("x")})
    platform.update("edited-module", wasm=encoded(answering("2").wasm))
    function = platform.settled("edited-module")

    assert same["latestVersion"] == 1
    assert (half.status_code, "`language`" in error_of(half)["message"]) == (400, True)
    assert (function["latestVersion"], function["liveVersion"]) == (2, 2)
    assert platform.execute("edited-module")["output"] == 2


def test_a_failed_module_leaves_the_old_one_serving_and_is_built_again_from_its_bytes(platform: Platform) -> None:
    deployed(platform, "kept-module", answering("1").wasm)
    platform.update("kept-module", wasm=encoded(b"no module"))
    failed = platform.settled("kept-module")

    again = platform.http.post("/functions/kept-module/versions/2/build", json={}).json()
    function = platform.settled("kept-module")

    assert (failed["status"], failed["liveVersion"], again["build"]) == ("FAILED", 1, 2)
    assert [one["code"] for one in function["diagnostics"]] == ["MALFORMED"]
    assert platform.execute("kept-module")["output"] == 1
