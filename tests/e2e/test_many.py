"""Many calls at once: batches in REST and gRPC, streams in gRPC, at the front door."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2
from kiln.executor.v1 import executor_pb2 as pb
from kiln.executor.v1 import executor_pb2_grpc

from services.executor.settings import Settings
from tests.e2e.functions import SOURCES
from tests.support.platform import Bearing, Platform, error_of
from tests.support.waiting import until

GRPCURL: Final = str(Path(sys.executable).with_name("grpcurl"))
AT_ONCE: Final = Settings.model_fields["executor_batch_workers"].default
DEEP: Final = "[" * 513 + "]" * 513

# Answers with its input after as many milliseconds.
WAITS: Final = """export function handle(input: string): string {
  const until = Date.now() + <i64>parseInt(input);
  while (Date.now() < until) {}
  return input;
}"""


@pytest.fixture(scope="module")
def many(functions: Platform) -> Platform:
    """The platform, with functions for the tests here."""
    functions.deploy("waits", WAITS, limits={"timeoutMs": 20_000})
    functions.deploy("waits-alone", WAITS, limits={"timeoutMs": 20_000, "maxConcurrency": 1})
    return functions


@pytest.fixture
async def stub(many: Platform) -> AsyncIterator[Any]:
    """The executor behind the front door; answers may be as large as the door sends them."""
    async with grpc.aio.insecure_channel(many.grpc_address, options=[("grpc.max_receive_message_length", 16 << 20)]) as channel:
        yield Bearing(executor_pb2_grpc.ExecutorStub(channel), many.headers)


def batch(platform: Platform, name: str, inputs: str, **more: Any) -> list[dict[str, Any]]:
    """The executions that a batch is answered with; the inputs are JSON text."""
    body = "".join([f'{{"inputs": {inputs}', *(f', "{key}": {json.dumps(value)}' for key, value in more.items()), "}"])
    answer = platform.http.post(f"/functions/{name}/executeBatch", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    executions: list[dict[str, Any]] = answer.json()["executions"]
    return executions


def outputs(executions: list[dict[str, Any]]) -> list[Any]:
    return [execution["output"] for execution in executions]


def history(platform: Platform, name: str, **wanted: Any) -> list[dict[str, Any]]:
    """The newest runs of a function."""
    found: list[dict[str, Any]] = platform.http.get(f"/functions/{name}/executions", params={"pageSize": 1000, **wanted}).json()[
        "executions"
    ]
    return found


# Batches


def test_executions_are_in_the_order_of_the_inputs_whatever_ends_first_and_each_is_in_the_history(many: Platform) -> None:
    inputs = [600, 0, 300, 1, 200, 2, 400, 3, 100, *range(4, 20)]

    executions = batch(many, "waits", json.dumps(inputs))

    assert outputs(executions) == inputs
    kept = {one["id"]: one for one in history(many, "waits")}
    for value, execution in zip(inputs, executions, strict=True):
        assert not {"input", "refusal"} & execution.keys()
        assert kept[execution["id"]] == {**execution, "input": value}
        assert execution["status"] == "COMPLETED"
    assert len({execution["id"] for execution in executions}) == len(inputs)


def test_inputs_pass_as_they_are(many: Platform) -> None:
    texts = ["18446744073709551616", "1.10", '{"b":1,"a":2}', '"\\u0000"', "null", "[ 1 , 2 ]", "{}"]

    answer = many.http.post(
        "/functions/echo/executeBatch", content=f'{{"inputs": [{" , ".join(texts)}]}}', headers={"content-type": "application/json"}
    ).text

    places = [answer.find(f'"output":{text}') for text in texts]
    assert places == sorted(places)
    assert -1 not in places


def test_every_input_gets_a_fresh_sandbox(many: Platform) -> None:
    assert outputs(batch(many, "counter", json.dumps([0] * 30))) == [1] * 30


def test_an_input_that_cannot_be_taken_has_a_refusal_in_its_place_and_hurts_no_other(many: Platform) -> None:
    before = len(history(many, "echo"))

    executions = batch(many, "echo", f'[1, {DEEP}, 2, "{"x" * (1 << 20)}", 3]')

    refused = [one for one in executions if "refusal" in one]
    refusals = [one["refusal"] for one in refused]
    assert [one.get("output") for one in executions] == [1, None, 2, None, 3]
    assert refused == [executions[1], executions[3]]
    assert [(one["id"], one["status"], one["errorMessage"]) for one in refused] == [("", "FAILED", one["message"]) for one in refusals]
    assert [(one["code"], one["status"], one["details"][0]["reason"]) for one in refusals] == [
        (400, "INVALID_ARGUMENT", "INPUT_NOT_JSON"),
        (413, "RESOURCE_EXHAUSTED", "INPUT_TOO_LARGE"),
    ]
    assert all(one["message"].startswith("input: ") for one in refusals)
    assert len(history(many, "echo")) == before + 3


def test_a_fault_of_the_users_code_is_a_run_among_others(many: Platform) -> None:
    executions = batch(many, "divide", "[1, 0, 2]")

    assert [one["status"] for one in executions] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert (executions[1]["error"]["type"], "refusal" in executions[1]) == ("TRAP", False)


def test_a_batch_runs_the_version_that_it_names(many: Platform) -> None:
    many.deploy("many-versions", "export function handle(input: string): string { return '1'; }")
    many.update("many-versions", source="export function handle(input: string): string { return '2'; }")
    many.settled("many-versions")

    assert outputs(batch(many, "many-versions", "[0, 0]", version=1)) == [1, 1]
    assert outputs(batch(many, "many-versions", "[0, 0]")) == [2, 2]


def test_a_thousand_inputs_are_taken_at_once(many: Platform) -> None:
    assert outputs(batch(many, "echo", json.dumps([*range(1000)]))) == [*range(1000)]


@pytest.mark.parametrize(
    ("name", "body", "status", "word"),
    [
        ("echo", {"inputs": [0] * 1001}, 400, "inputs: holds 1001; at most 1000"),
        ("echo", {"inputs": []}, 400, "inputs"),
        ("echo", {}, 400, "inputs"),
        ("echo", {"inputs": None}, 400, "inputs"),
        ("echo", {"inputs": {"a": 1}}, 400, "inputs"),
        ("echo", {"inputs": [1], "input": 1}, 400, "input: no such field"),
        ("echo", {"inputs": [1], "inputTexts": ["e30="]}, 400, "inputTexts"),
        ("echo", {"inputs": [1], "version": 0}, 400, "version"),
        ("echo", {"inputs": [1], "version": 99}, 404, "99"),
        ("nobody", {"inputs": [1]}, 404, "nobody"),
    ],
)
def test_a_mistake_in_the_whole_request_is_an_ordinary_error(many: Platform, name: str, body: Any, status: int, word: str) -> None:
    before = history(many, "echo", pageSize=1)

    answer = many.http.post(f"/functions/{name}/executeBatch", json=body)

    assert answer.status_code == status
    assert word in error_of(answer)["message"]
    assert history(many, "echo", pageSize=1) == before


def test_what_no_longer_fits_into_the_answer_has_run_and_is_in_the_history(many: Platform) -> None:
    source, _ = SOURCES["huge"]
    many.deploy("many-large", source, limits={"maxOutputBytes": 4 << 20, "memoryMb": 256})

    executions = batch(many, "many-large", json.dumps([0] * 8))

    untold = [one for one in executions if "refusal" in one]
    assert 0 < len(untold) < 8
    for one in untold:
        refusal = one["refusal"]
        assert (refusal["code"], refusal["details"][0]["reason"]) == (413, "ANSWER_TOO_LARGE")
        assert refusal["details"][0]["metadata"]["execution_id"] == one["id"]
        assert (one["functionName"], one["functionVersion"], one["status"], "output" in one) == ("many-large", 1, "COMPLETED", False)
        kept = many.http.get(f"/executions/{one['id']}").json()
        assert (len(kept["output"]), kept["functionId"], "refusal" in kept) == (3_000_000, one["functionId"], False)


def test_a_batch_of_a_function_that_runs_once_at_a_time_waits_and_is_not_refused(many: Platform) -> None:
    executions = batch(many, "waits-alone", json.dumps([50] * 10))

    assert outputs(executions) == [50] * 10
    runs = sorted(history(many, "waits-alone"), key=lambda one: str(one["startedAt"]))
    assert all(str(before["completedAt"]) <= str(after["startedAt"]) for before, after in pairwise(runs))


async def test_a_batch_whose_caller_goes_away_is_stopped_and_its_rest_not_begun(many: Platform) -> None:
    many.deploy("abandoned", WAITS, limits={"timeoutMs": 20_000})

    async with httpx.AsyncClient(base_url=f"http://{many.http_address}", headers=many.headers, timeout=60, trust_env=False) as client:
        call = asyncio.create_task(client.post("/functions/abandoned/executeBatch", json={"inputs": [15_000] * 30}))
        await until(lambda: len(history(many, "abandoned", status="RUNNING")) == AT_ONCE)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    await until(lambda: not history(many, "abandoned", status="RUNNING"))
    assert [one["error"]["type"] for one in history(many, "abandoned")] == ["CANCELLED"] * AT_ONCE


async def test_single_calls_are_served_beside_a_batch_that_lasts(many: Platform) -> None:
    many.deploy("lasting", WAITS, limits={"timeoutMs": 20_000})

    async with httpx.AsyncClient(base_url=f"http://{many.http_address}", headers=many.headers, timeout=60, trust_env=False) as client:
        calls = [asyncio.create_task(client.post("/functions/lasting/executeBatch", json={"inputs": [15_000] * 30})) for _ in range(3)]
        await until(lambda: len(history(many, "lasting", status="RUNNING")) == AT_ONCE)
        answers = [(await client.post("/functions/echo/execute", json={"input": number})).json() for number in range(20)]
        still_running = len(history(many, "lasting", status="RUNNING"))
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    assert [answer["output"] for answer in answers] == [*range(20)]
    assert still_running == AT_ONCE


async def test_a_batch_in_grpc_takes_values_and_texts_and_answers_in_their_form(stub: Any) -> None:
    texts = await stub.ExecuteBatch(pb.ExecuteBatchRequest(id="echo", input_texts=[b"1.10", b"{", b'{"b":1,"a":2}']), timeout=30)
    values = [struct_pb2.Value(number_value=7), struct_pb2.Value(bool_value=True)]
    handy = await stub.ExecuteBatch(pb.ExecuteBatchRequest(id="echo", inputs=values), timeout=30)
    asked = await stub.ExecuteBatch(pb.ExecuteBatchRequest(id="echo", inputs=values, payload_form=pb.TEXT), timeout=30)

    assert [one.HasField("refusal") for one in texts.executions] == [False, True, False]
    assert [one.output_text for one in texts.executions] == [b"1.10", b"", b'{"b":1,"a":2}']
    assert [one.output for one in handy.executions] == values
    assert [one.output_text for one in asked.executions] == [b"7", b"true"]
    assert all(one.WhichOneof("given") is None for one in [*texts.executions, *handy.executions])
    with pytest.raises(grpc.aio.AioRpcError, match="not some of each"):
        await stub.ExecuteBatch(pb.ExecuteBatchRequest(id="echo", inputs=values, input_texts=[b"1"]), timeout=30)


# Streams


async def asked(*requests: pb.ExecuteStreamRequest) -> AsyncIterator[pb.ExecuteStreamRequest]:
    for request in requests:
        yield request


def request(name: str, text: str, **more: Any) -> pb.ExecuteStreamRequest:
    return pb.ExecuteStreamRequest(id=name, input_text=text.encode(), **more)


def reason_of(execution: pb.Execution) -> str:
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in execution.refusal.details)
    return str(info.reason)


async def test_a_stream_answers_in_the_order_of_its_requests_and_ends_with_them(many: Platform, stub: Any) -> None:
    texts = ["400", "0", "200", "1", "100", *map(str, range(2, 100))]

    executions = [one async for one in stub.ExecuteStream(asked(*(request("waits", text) for text in texts)), timeout=60)]

    assert [one.output_text.decode() for one in executions] == texts
    kept = {one["id"]: one["input"] for one in history(many, "waits")}
    assert [str(kept[one.id]) for one in executions] == texts


async def test_a_request_that_cannot_be_taken_is_answered_alone_and_the_stream_goes_on(many: Platform, stub: Any) -> None:
    requests = [
        request("echo", "1"),
        request("echo", "{"),
        request("nobody", "2"),
        request("echo", "3", version=99),
        request("counter", "4"),
        pb.ExecuteStreamRequest(id="echo"),
        request("trap", "5"),
    ]

    executions = [one async for one in stub.ExecuteStream(asked(*requests), timeout=60)]

    assert [one.HasField("refusal") for one in executions] == [False, True, True, True, *[False] * 3]
    assert [reason_of(one) for one in executions[1:4]] == ["INPUT_NOT_JSON", "FUNCTION_NOT_FOUND", "VERSION_NOT_FOUND"]
    assert [(one.id, one.status) for one in executions[1:4]] == [("", pb.Execution.FAILED)] * 3
    assert [one.output_text for one in (executions[0], executions[4])] == [b"1", b"1"]
    assert executions[5].output.struct_value == struct_pb2.Struct()
    assert executions[6].error.type == pb.ExecutionError.TRAP


async def test_a_stream_stays_open_and_answers_what_is_asked_meanwhile(stub: Any) -> None:
    stream = stub.ExecuteStream()

    for number in range(5):
        await stream.write(request("counter", str(number)))
        assert (await asyncio.wait_for(stream.read(), 30)).output_text == b"1"
        await asyncio.sleep(0.1)
    await stream.done_writing()

    assert await asyncio.wait_for(stream.read(), 30) is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK


async def test_a_stream_takes_no_more_than_it_can_work_on(many: Platform, stub: Any) -> None:
    many.deploy("slow-reader", WAITS, limits={"timeoutMs": 20_000})
    stream = stub.ExecuteStream()
    await stream.write(request("slow-reader", "8000"))
    for _ in range(200):
        await asyncio.wait_for(stream.write(request("slow-reader", "0")), 30)
    await until(lambda: len(history(many, "slow-reader", status="COMPLETED")) == 2 * AT_ONCE - 1)
    begun = len(history(many, "slow-reader"))

    await stream.done_writing()
    executions = [one async for one in stream]

    assert begun == 2 * AT_ONCE
    assert len(executions) == 201


async def test_a_stream_that_is_cancelled_stops_what_runs_for_it(many: Platform, stub: Any) -> None:
    many.deploy("cancelled", WAITS, limits={"timeoutMs": 20_000})
    stream = stub.ExecuteStream()
    for _ in range(3):
        await stream.write(request("cancelled", "15000"))
    await until(lambda: len(history(many, "cancelled", status="RUNNING")) == 3)

    stream.cancel()

    await until(lambda: not history(many, "cancelled", status="RUNNING"))
    assert [one["error"]["type"] for one in history(many, "cancelled")] == ["CANCELLED"] * 3


# grpcurl


def grpcurl(platform: Platform, method: str, data: str) -> Iterator[Any]:
    """Every message that grpcurl prints."""
    options = ["-plaintext", "-H", f"authorization: Bearer {platform.key}", "-max-time", "60", "-d", data]
    command = [GRPCURL, *options, platform.grpc_address, f"kiln.executor.v1.Executor/{method}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=90)
    rest = ran.stdout.strip()
    while rest:
        message, end = json.JSONDecoder().raw_decode(rest)
        yield message
        rest = rest[end:].strip()


def test_grpcurl_sends_a_batch(many: Platform) -> None:
    (answer,) = grpcurl(many, "ExecuteBatch", '{"id": "echo", "inputs": [1, {"a": [true]}, "x"]}')

    assert outputs(answer["executions"]) == [1, {"a": [True]}, "x"]


def test_grpcurl_sends_a_stream(many: Platform) -> None:
    answers = list(grpcurl(many, "ExecuteStream", '{"id": "waits", "input": 200} {"id": "nobody"} {"id": "waits", "input": 0}'))

    assert [answers[0]["output"], answers[2]["output"]] == [200, 0]
    assert answers[1]["refusal"]["code"] == grpc.StatusCode.NOT_FOUND.value[0]
