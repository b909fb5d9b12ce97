"""Real clients of other makes: grpcurl and a stub generated for Python, at the front door."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from kiln.executor.v1 import executor_pb2, executor_pb2_grpc
from kiln.registry.v1 import registry_pb2, registry_pb2_grpc

from tests.support.platform import ECHO, Platform

GRPCURL = str(Path(sys.executable).with_name("grpcurl"))


def grpcurl(platform: Platform, *arguments: str, data: object = None) -> subprocess.CompletedProcess[str]:
    """Runs grpcurl against the front door, with data if there is some."""
    given = ["-d", json.dumps(data)] if data is not None else []
    options = ["-plaintext", "-H", f"authorization: Bearer {platform.key}", "-max-time", "20", *given]
    command = [GRPCURL, *options, platform.grpc_address, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=40)


@pytest.fixture
def channel(platform: Platform) -> Iterator[grpc.Channel]:
    """A channel to the front door."""
    with platform.channel() as opened:
        yield opened


def test_grpcurl_lists_every_public_service_and_no_internal_one(platform: Platform) -> None:
    listed = grpcurl(platform, "list")

    assert listed.stdout.split() == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "kiln.auth.v1.Audit",
        "kiln.auth.v1.Auth",
        "kiln.compiler.v1.Compiler",
        "kiln.executor.v1.Executor",
        "kiln.registry.v1.Environments",
        "kiln.registry.v1.Registry",
    ]


def test_grpcurl_creates_and_runs_a_function(platform: Platform) -> None:
    created = grpcurl(
        platform,
        "kiln.registry.v1.Registry/CreateFunction",
        data={"name": "by-grpcurl", "language": "assemblyscript", "source": ECHO},
    )
    assert json.loads(created.stdout)["status"] == "PENDING", created.stderr
    platform.settled("by-grpcurl")

    ran = grpcurl(platform, "kiln.executor.v1.Executor/ExecuteFunction", data={"id": "by-grpcurl", "input": {"hello": ["world", 1]}})

    assert json.loads(ran.stdout)["output"] == {"hello": ["world", 1]}, ran.stderr


def test_grpcurl_describes_what_is_there(platform: Platform) -> None:
    described = grpcurl(platform, "describe", "kiln.executor.v1.Executor.ExecuteFunction")

    assert "rpc ExecuteFunction ( .kiln.executor.v1.ExecuteFunctionRequest )" in described.stdout


def test_the_health_of_the_front_door_is_that_of_the_services(platform: Platform) -> None:
    checked = grpcurl(platform, "grpc.health.v1.Health/Check", data={"service": "kiln.executor.v1.Executor"})

    assert json.loads(checked.stdout) == {"status": "SERVING"}


@pytest.mark.parametrize("method", ["kiln.registry.v1.RegistryInternal/Watch", "kiln.compiler.v1.CompilerInternal/GetArtifact"])
def test_what_services_ask_each_other_is_not_to_be_had_outside(platform: Platform, method: str) -> None:
    refused = grpcurl(platform, method, data={})

    assert refused.returncode != 0
    assert "does not include" in refused.stderr or "Unimplemented" in refused.stderr or "not found" in refused.stderr.lower()


def test_a_generated_stub_reads_errors_with_their_details(channel: grpc.Channel) -> None:
    stub: Any = registry_pb2_grpc.RegistryStub(channel)

    with pytest.raises(grpc.RpcError) as caught:
        stub.CreateFunction(registry_pb2.CreateFunctionRequest(name="No!", language="assemblyscript", source=ECHO), timeout=10)

    error: Any = caught.value
    status = rpc_status.from_call(error)
    bad, info = error_details_pb2.BadRequest(), error_details_pb2.ErrorInfo()
    for detail in status.details:
        detail.Unpack(bad)
        detail.Unpack(info)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert bad.field_violations[0].field == "name"
    assert (info.domain, info.reason) == ("kiln", "INVALID_ARGUMENT")


def test_a_generated_stub_passes_text_exactly_and_values_conveniently(functions: Platform, channel: grpc.Channel) -> None:
    stub: Any = executor_pb2_grpc.ExecutorStub(channel)
    text = b'{"b":18446744073709551616,"a":1.10}'

    exact = stub.ExecuteFunction(executor_pb2.ExecuteFunctionRequest(id="echo", input_text=text), timeout=10)
    value = struct_pb2.Value(list_value=struct_pb2.ListValue(values=[struct_pb2.Value(number_value=1)]))
    handy = stub.ExecuteFunction(executor_pb2.ExecuteFunctionRequest(id="echo", input=value), timeout=10)

    assert (exact.output_text, exact.WhichOneof("given")) == (text, None)
    assert handy.output == value
    record = stub.GetExecution(executor_pb2.GetExecutionRequest(id=exact.id, payload_form=executor_pb2.TEXT), timeout=10)
    assert (record.input_text, record.output_text) == (text, text)


def test_a_stubs_deadline_ends_the_run_behind_it(functions: Platform, channel: grpc.Channel) -> None:
    stub: Any = executor_pb2_grpc.ExecutorStub(channel)

    with pytest.raises(grpc.RpcError) as caught:
        stub.ExecuteFunction(executor_pb2.ExecuteFunctionRequest(id="slow", input_text=b"15000"), timeout=0.5)

    error: Any = caught.value
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    while (record := functions.http.get("/functions/slow/executions").json()["executions"][0])["status"] != "FAILED":
        pass
    assert record["error"]["type"] == "CANCELLED"
