"""The one server bootstrap, with a servicer that does what a test says."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from kiln.executor.v1 import executor_pb2_grpc
from kiln.registry.v1 import registry_pb2, registry_pb2_grpc

from libs.common import request
from libs.common.access.guard import OpenGuard
from libs.common.channel import MAX_MESSAGE_BYTES
from libs.common.errors import InvalidArgument, ResourceExhausted
from libs.common.interceptors import ServerInterceptor
from libs.common.server import start_server
from libs.local.ports import free_ports
from tests.support.audit import KeptAuditLog
from tests.support.floods import FLOODS, connected, send_flood

NAME = "kiln.registry.v1.Registry"
Get = Callable[[Any], Awaitable[registry_pb2.Function]]


# The generated classes want every RPC.
RegistryServicer: Any = registry_pb2_grpc.RegistryServicer
ExecutorServicer: Any = executor_pb2_grpc.ExecutorServicer


class Registry(RegistryServicer):  # type: ignore[misc]
    """Answers `GetFunction` as a test says, and remembers what began."""

    def __init__(self) -> None:
        self.get: Get = answer_at_once
        self.began: list[str] = []

    async def GetFunction(self, request: Any, context: Any) -> registry_pb2.Function:  # noqa: N802 - gRPC's name
        """As the test says."""
        self.began.append(request.id)
        return await self.get(request)


async def answer_at_once(request: Any) -> registry_pb2.Function:
    """An answer with the function's id."""
    return registry_pb2.Function(id=request.id)


class Server:
    """A running server and a client of it."""

    def __init__(self, address: str, registry: Registry, channel: grpc.aio.Channel) -> None:
        self.address, self.registry, self.channel = address, registry, channel
        self.stub: Any = registry_pb2_grpc.RegistryStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)

    async def refusal(self, message: Any = None, **call: Any) -> grpc.aio.AioRpcError:
        """How `GetFunction` fails."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.stub.GetFunction(message or registry_pb2.GetFunctionRequest(id="x"), **call)
        return caught.value


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    """A server that takes four calls at once."""
    registry, address = Registry(), f"127.0.0.1:{free_ports(1)[0]}"
    running = await start_server(
        address,
        [
            lambda server: registry_pb2_grpc.add_RegistryServicer_to_server(registry, server),
            lambda server: executor_pb2_grpc.add_ExecutorServicer_to_server(ExecutorServicer(), server),
        ],
        services=[NAME],
        around=ServerInterceptor(OpenGuard(), max_concurrent=4, audit_log=KeptAuditLog()),
    )
    async with grpc.aio.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        yield Server(address, registry, channel)
    await running.stop(0)


def details_of(error: grpc.aio.AioRpcError, kind: type[Any]) -> list[Any]:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    found = []
    for packed in status.details if status else ():
        detail = kind()
        if packed.Unpack(detail):
            found.append(detail)
    return found


async def test_a_fault_of_ours_tells_the_request_id_and_nothing_else(server: Server) -> None:
    async def fail(_: Any) -> registry_pb2.Function:
        raise RuntimeError("canary: password=hunter2")

    server.registry.get = fail

    error = await server.refusal(metadata=(("x-request-id", "request-7"),))

    assert error.code() is grpc.StatusCode.INTERNAL
    assert "request-7" in str(error.details())
    told = f"{error.details()} {error.debug_error_string()} {error.trailing_metadata()} {error.initial_metadata()}"
    assert "canary" not in told
    assert "hunter2" not in told
    assert "RuntimeError" not in told


async def test_a_refusal_carries_its_reason_its_fields_and_the_request_id(server: Server) -> None:
    async def refuse(_: Any) -> registry_pb2.Function:
        raise InvalidArgument.of("name", "is bad", reason="BAD_NAME")

    server.registry.get = refuse

    error = await server.refusal(metadata=(("x-request-id", "request-7"),))

    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "name: is bad")
    assert [info.reason for info in details_of(error, error_details_pb2.ErrorInfo)] == ["BAD_NAME"]
    assert [info.request_id for info in details_of(error, error_details_pb2.RequestInfo)] == ["request-7"]
    assert [bad.field_violations[0].field for bad in details_of(error, error_details_pb2.BadRequest)] == ["name"]


async def test_a_limit_tells_when_to_come_back(server: Server) -> None:
    async def refuse(_: Any) -> registry_pb2.Function:
        raise ResourceExhausted("full", retry_after=2.5)

    server.registry.get = refuse

    (retry,) = details_of(await server.refusal(), error_details_pb2.RetryInfo)

    assert (retry.retry_delay.seconds, retry.retry_delay.nanos) == (2, 500_000_000)


async def test_a_call_without_a_deadline_gets_that_of_its_policy(server: Server) -> None:
    left: list[float | None] = []

    async def tell(asked: Any) -> registry_pb2.Function:
        left.append(request.remaining_seconds())
        return registry_pb2.Function(id=asked.id)

    server.registry.get = tell

    await server.stub.GetFunction(registry_pb2.GetFunctionRequest(id="a"))
    await server.stub.GetFunction(registry_pb2.GetFunctionRequest(id="a"), timeout=3600)
    await server.stub.GetFunction(registry_pb2.GetFunctionRequest(id="a"), timeout=3)

    assert left[0] == pytest.approx(10, abs=0.5)
    assert left[1] == pytest.approx(10, abs=0.5)
    assert left[2] == pytest.approx(3, abs=0.5)


async def test_a_call_past_its_deadline_ends_and_its_handler_with_it(server: Server) -> None:
    ended = asyncio.Event()

    async def hang(_: Any) -> registry_pb2.Function:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        raise AssertionError

    server.registry.get = hang

    error = await server.refusal(timeout=0.3)

    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_call_whose_deadline_passed_on_the_way_does_not_begin(server: Server) -> None:
    async def block(_: Any) -> registry_pb2.Function:
        time.sleep(0.6)  # noqa: ASYNC251 - the whole server is busy, so that the next call waits past its deadline
        return registry_pb2.Function()

    server.registry.get = block
    first = asyncio.create_task(server.stub.GetFunction(registry_pb2.GetFunctionRequest(id="first")).wait_for_connection())
    calls = [server.stub.GetFunction(registry_pb2.GetFunctionRequest(id=name), timeout=0.2) for name in ("a", "b", "c")]

    results = await asyncio.gather(*calls, return_exceptions=True)
    await first
    server.registry.get = answer_at_once
    await server.stub.GetFunction(registry_pb2.GetFunctionRequest(id="last"))

    assert all(isinstance(one, grpc.aio.AioRpcError) and one.code() is grpc.StatusCode.DEADLINE_EXCEEDED for one in results)
    assert len(server.registry.began) < 5


async def test_calls_beyond_the_limit_are_refused_at_once_and_health_still_answers(server: Server) -> None:
    release = asyncio.Event()

    async def wait(asked: Any) -> registry_pb2.Function:
        await release.wait()
        return registry_pb2.Function(id=asked.id)

    server.registry.get = wait
    running = [asyncio.ensure_future(server.stub.GetFunction(registry_pb2.GetFunctionRequest(id="x"))) for _ in range(4)]
    async with asyncio.timeout(5):
        while len(server.registry.began) < 4:  # noqa: ASYNC110 - counted by the servicer
            await asyncio.sleep(0.01)

    refusals = await asyncio.gather(*(server.refusal(timeout=5) for _ in range(20)))
    health = await server.health.Check(health_pb2.HealthCheckRequest(service=NAME), timeout=5)
    release.set()

    assert {one.code() for one in refusals} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert {info.reason for one in refusals for info in details_of(one, error_details_pb2.ErrorInfo)} == {"TOO_MANY_CALLS"}
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert len(await asyncio.gather(*running)) == 4
    assert len(server.registry.began) == 4


async def test_a_message_that_is_too_large_is_refused_in_both_directions(server: Server) -> None:
    async def much(_: Any) -> registry_pb2.Function:
        return registry_pb2.Function(source="x" * (MAX_MESSAGE_BYTES + 1))

    sent = await server.refusal(registry_pb2.GetFunctionRequest(id="x" * (MAX_MESSAGE_BYTES + 1)))
    server.registry.get = much
    received = await server.refusal()

    assert sent.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert received.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.registry.began == ["x"]


async def test_metadata_that_is_too_large_is_refused(server: Server) -> None:
    error = await server.refusal(metadata=(("x-much", "x" * 60_000),))

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert server.registry.began == []


async def test_a_message_nested_too_deep_is_refused_and_not_begun(server: Server) -> None:
    value = struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    encoded = value.SerializeToString()
    for _ in range(3000):
        wrapped = b"\x0a" + _varint(len(encoded)) + encoded
        encoded = b"\x32" + _varint(len(wrapped)) + wrapped
    body = b"\x0a\x01x" + b"\x12" + _varint(len(encoded)) + encoded
    execute: Any = server.channel.unary_unary("/kiln.executor.v1.Executor/ExecuteFunction")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await execute(body)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [info.reason for info in details_of(caught.value, error_details_pb2.ErrorInfo)] == ["MALFORMED_REQUEST"]
    await server.stub.GetFunction(registry_pb2.GetFunctionRequest(id="still here"))


async def test_unknown_fields_are_let_pass(server: Server) -> None:
    get: Any = server.channel.unary_unary("/kiln.registry.v1.Registry/GetFunction")

    answer = await get(registry_pb2.GetFunctionRequest(id="x").SerializeToString() + b"\x92\x4e\x03abc")

    assert registry_pb2.Function.FromString(answer).id == "x"


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_of_frames_stops_its_own_connection_and_nobody_elses_calls(server: Server, flood: str) -> None:
    with await asyncio.to_thread(connected, server.address) as hostile:
        flooding = asyncio.create_task(asyncio.to_thread(send_flood, hostile, FLOODS[flood]))
        for _ in range(50):
            assert (await server.stub.GetFunction(registry_pb2.GetFunctionRequest(id="x"), timeout=5)).id == "x"
        await flooding

    assert (await server.stub.GetFunction(registry_pb2.GetFunctionRequest(id="x"), timeout=5)).id == "x"


async def test_a_thousand_idle_connections_do_no_harm(server: Server) -> None:
    idle = await asyncio.to_thread(lambda: [connected(server.address) for _ in range(1000)])

    assert (await server.stub.GetFunction(registry_pb2.GetFunctionRequest(id="x"), timeout=5)).id == "x"
    for connection in idle:
        connection.close()


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
