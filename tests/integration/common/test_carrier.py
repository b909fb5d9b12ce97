"""Calls that are carried mean what they mean by themselves."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio
from kiln.carrier.v1 import carrier_pb2
from kiln.registry.v1 import registry_pb2, registry_pb2_grpc
from structlog.testing import capture_logs

from libs.common import status
from libs.common.access.guard import OpenGuard
from libs.common.carried import CarriedConnection
from libs.common.carrier import Carrier
from libs.common.errors import InvalidArgument
from libs.common.interceptors import ServerInterceptor
from libs.common.request import request_id
from libs.common.server import Server, start_server
from libs.local.ports import free_ports
from tests.support.audit import KeptAuditLog
from tests.support.carrying import visiting
from tests.support.waiting import until

GET = "/kiln.registry.v1.Registry/GetFunction"
# One such answer fits into a frame, and all of four do not.
LARGE = 5 << 20
NOT_SENT = "failed to connect to all addresses"
BROKE_OFF = "the connection to the service broke off while it served the call; what came of it is not known"
RegistryServicer: Any = registry_pb2_grpc.RegistryServicer


class Registry(RegistryServicer):  # type: ignore[misc]
    """Answers `GetFunction` with the id that it is asked for, with much for `large`; those that begin with `slow` not before they may."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.began: list[str] = []
        self.request_ids: list[str] = []
        self.cancelled: list[str] = []

    async def GetFunction(self, request: Any, context: Any) -> registry_pb2.Function:  # noqa: N802 - gRPC's name
        self.began.append(request.id)
        self.request_ids.append(request_id.get())
        if request.id == "bad":
            raise InvalidArgument.of("id", "is bad", reason="BAD_ID")
        if request.id.startswith("slow"):
            try:
                await self.may_answer.wait()
            except asyncio.CancelledError:
                self.cancelled.append(request.id)
                raise
        return registry_pb2.Function(id=request.id, source="x" * LARGE if "large" in request.id else None)


@dataclass
class Carried:
    """A server, and a carrier to it."""

    registry: Registry
    server: Server
    channel: grpc.aio.Channel
    carrier: Carrier

    async def call(self, identity: str, *, seconds: float = 10, method: str = GET) -> bytes:
        message = registry_pb2.GetFunctionRequest(id=identity).SerializeToString()
        return await self.carrier.call(method, message, seconds=seconds, metadata=[("x-request-id", f"request-{identity}")])

    async def get(self, identity: str, **more: Any) -> str:
        return registry_pb2.Function.FromString(await self.call(identity, **more)).id

    async def refusal(self, identity: str, **more: Any) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(identity, **more)
        return caught.value


@pytest_asyncio.fixture
async def carried() -> AsyncIterator[Carried]:
    """A server that takes four calls at once."""
    registry, address = Registry(), f"127.0.0.1:{free_ports(1)[0]}"
    server = await start_server(
        address,
        [lambda server: registry_pb2_grpc.add_RegistryServicer_to_server(registry, server)],
        services=[],
        around=ServerInterceptor(OpenGuard(), max_concurrent=4, audit_log=KeptAuditLog()),
    )
    async with grpc.aio.insecure_channel(address) as channel:
        carrier = Carrier(channel, address, None)
        yield Carried(registry, server, channel, carrier)
        await carrier.close()
    await server.stop(0)


async def test_a_call_is_answered_and_has_its_metadata_with_it(carried: Carried) -> None:
    answer = await carried.call("one")

    assert registry_pb2.Function.FromString(answer).id == "one"
    assert carried.registry.request_ids == ["request-one"]


async def test_a_refusal_is_the_same_as_without_a_carrier(carried: Carried) -> None:
    alone = registry_pb2_grpc.RegistryStub(carried.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await alone.GetFunction(registry_pb2.GetFunctionRequest(id="bad"), metadata=(("x-request-id", "request-bad"),))

    refusal = await carried.refusal("bad")

    assert (refusal.code(), refusal.details()) == (caught.value.code(), caught.value.details())
    assert list(refusal.trailing_metadata()) == list(caught.value.trailing_metadata())
    assert list(refusal.initial_metadata()) == list(caught.value.initial_metadata())


async def test_a_slow_call_keeps_no_other_waiting(carried: Carried) -> None:
    slow = asyncio.create_task(carried.get("slow"))

    assert [await carried.get(f"quick-{number}") for number in range(3)] == ["quick-0", "quick-1", "quick-2"]

    assert not slow.done()
    carried.registry.may_answer.set()
    assert await slow == "slow"


async def test_answers_that_are_too_large_together_travel_one_by_one(carried: Carried) -> None:
    names = [f"slow-large-{number}" for number in range(4)]
    calls = [asyncio.create_task(carried.get(name)) for name in names]
    await until(lambda: len(carried.registry.began) == len(names))

    carried.registry.may_answer.set()

    assert await asyncio.gather(*calls) == names


async def test_calls_that_come_together_travel_together(carried: Carried, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = Carrier._next

    def counted(carrier: Carrier, *given: Any) -> carrier_pb2.CarryRequest | None:
        request = plain(carrier, *given)
        sizes.append(len(request.calls) if request else 0)
        return request

    monkeypatch.setattr(Carrier, "_next", counted)

    await asyncio.gather(*(carried.call(str(number)) for number in range(4)))

    assert sum(sizes) == 4
    assert len([size for size in sizes if size]) < 4


async def test_a_caller_that_goes_away_ends_its_call(carried: Carried) -> None:
    slow = asyncio.create_task(carried.get("slow"))
    await until(lambda: carried.registry.began == ["slow"])

    slow.cancel()

    await until(lambda: carried.registry.cancelled == ["slow"])


async def test_a_call_whose_caller_goes_before_it_began_is_not_begun_and_leaves_nothing_behind(carried: Carried) -> None:
    early, late = (
        carrier_pb2.Call(number=number, method=GET, message=registry_pb2.GetFunctionRequest(id=str(number)).SerializeToString())
        for number in (1, 2)
    )

    async with visiting(carried) as visit:
        await visit.let_in()
        visit.send(carrier_pb2.CarryRequest(calls=[early, late], cancelled=[1]))

        assert [one.number for one in (await visit.answers()).answers] == [2]
        assert carried.registry.began == ["2"]
        assert [len(one._calls) for one in _connections(carried.server)] == [0]


async def test_a_call_whose_caller_goes_before_it_was_sent_is_not_sent(carried: Carried) -> None:
    early, late = (asyncio.create_task(carried.get(name)) for name in ("early", "late"))
    await asyncio.sleep(0)

    early.cancel()

    assert await late == "late"
    assert carried.registry.began == ["late"]


async def test_a_deadline_that_passes_is_told_and_ends_the_call(carried: Carried) -> None:
    refusal = await carried.refusal("slow", seconds=0.2)

    assert refusal.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: carried.registry.cancelled == ["slow"])


async def test_carried_calls_count_as_calls(carried: Carried) -> None:
    slow = [asyncio.create_task(carried.get(f"slow-{number}")) for number in range(4)]
    await until(lambda: len(carried.registry.began) == 4)

    refusal = await carried.refusal("one too many")

    assert status.from_rpc_error(refusal).reason == "TOO_MANY_CALLS"
    carried.registry.may_answer.set()
    assert len(await asyncio.gather(*slow)) == 4


async def test_what_is_no_message_and_what_is_no_rpc_are_told(carried: Carried) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as malformed:
        await carried.carrier.call(GET, b"\xff\xff", seconds=5, metadata=[])
    unknown = await carried.refusal("one", method="/kiln.registry.v1.Registry/DoesNotExist")

    assert malformed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert unknown.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_server_that_stops_ends_what_it_has_begun_and_begins_nothing(carried: Carried) -> None:
    slow = asyncio.create_task(carried.get("slow"))
    await until(lambda: carried.registry.began == ["slow"])

    stopping = asyncio.create_task(carried.server.stop(10))
    await asyncio.sleep(0.1)
    refusal = await carried.refusal("late")
    carried.registry.may_answer.set()

    assert status.from_rpc_error(refusal).reason == "STOPPING"
    assert await slow == "slow"
    await asyncio.wait_for(stopping, 5)
    assert carried.registry.began == ["slow"]


async def test_calls_that_were_begun_by_a_service_that_dies_are_told_that_nothing_is_known_of_them(carried: Carried) -> None:
    slow = [asyncio.create_task(carried.refusal(f"slow-{number}")) for number in range(3)]
    await until(lambda: len(carried.registry.began) == 3)

    for connection in _connections(carried.server):
        connection.abort()

    refusals = await asyncio.gather(*slow)
    assert {one.code() for one in refusals} == {grpc.StatusCode.UNAVAILABLE}
    assert {one.details() for one in refusals} == {BROKE_OFF}
    await until(lambda: len(carried.registry.cancelled) == 3)
    assert await carried.get("again") == "again"


async def test_a_service_that_has_stopped_says_what_it_has_not_begun(carried: Carried) -> None:
    assert await carried.get("one") == "one"
    (connection,) = _connections(carried.server)

    # The call is on its way when the service says that it was the last.
    connection.drain()
    connection.all_sent()
    refusal = await carried.refusal("late")

    assert refusal.code() is grpc.StatusCode.UNAVAILABLE
    assert str(refusal.details()).startswith(NOT_SENT)
    assert carried.registry.began == ["one"]


def _connections(server: Server) -> list[CarriedConnection]:
    return list(server._carrier._connections)


async def test_a_server_that_is_gone_is_told_as_such(carried: Carried) -> None:
    await carried.server.stop(0)

    refusal = await carried.refusal("one", seconds=2)

    assert refusal.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_calls_wait_for_one_attempt_at_a_connection_which_fails_them_all_as_not_sent(carried: Carried) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    async with grpc.aio.insecure_channel(address) as channel:
        carrier = Carrier(channel, address, None)
        calls = [carrier.call(GET, b"", seconds=10, metadata=()) for _ in range(3)]

        with capture_logs() as lines:
            failures = await asyncio.gather(*calls, return_exceptions=True)

    assert [str(one.details())[: len(NOT_SENT)] for one in failures if isinstance(one, grpc.aio.AioRpcError)] == [NOT_SENT] * 3
    assert [(line["event"], line["calls"]) for line in lines] == [("carrier_not_opened", 3)]


async def test_an_answer_that_cannot_be_carried_fails_its_call_alone(carried: Carried, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libs.common.carried.MAX_ANSWER_BYTES", LARGE)
    slow = asyncio.create_task(carried.get("slow"))

    refusal = await carried.refusal("large")

    assert status.from_rpc_error(refusal).reason == "ANSWER_TOO_LARGE"
    carried.registry.may_answer.set()
    assert await slow == "slow"


async def test_a_server_that_takes_long_is_not_taken_for_gone(carried: Carried, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libs.common.carrier._LOOK_SECONDS", 0.05)
    slow = asyncio.create_task(carried.get("slow"))

    await asyncio.sleep(0.5)
    carried.registry.may_answer.set()

    assert await slow == "slow"
    assert carried.registry.began == ["slow"]


async def test_a_server_that_says_nothing_any_more_is_found_out(carried: Carried, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libs.common.carrier._LOOK_SECONDS", 0.1)
    await carried.get("one")
    monkeypatch.setattr("libs.common.carried.CarriedConnection.received", lambda *_: None)

    refusal = await asyncio.wait_for(carried.refusal("two"), 5)

    assert (refusal.code(), "broke off" in str(refusal.details())) == (grpc.StatusCode.UNAVAILABLE, True)
