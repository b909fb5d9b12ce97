"""Floods of frames and connections that do nothing: others are answered all the while, and work and memory have a bound."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
import httpx
import pytest
from kiln.registry.v1 import registry_pb2, registry_pb2_grpc

from tests.integration.gateway.conftest import Gateway
from tests.support.floods import FLOODS, connected, send_flood
from tests.support.waiting import until

HOSTILE: Final = 8
# Each sends ten thousand frames or more, of which the gateway may make no more work than of so many calls by each door.
CALLS_FOR_A_FLOOD: Final = 200
MORE_BYTES: Final = 192 << 20
# Of the processor, in a second: what a gateway needs that has nothing to do.
REST: Final = 0.2


@dataclass(frozen=True)
class Watched:
    """The gateway, and a caller who means no harm."""

    gateway: Gateway
    stub: Any
    http: httpx.AsyncClient

    async def call(self) -> None:
        """One call by each door, answered."""
        found = await self.stub.GetFunction(registry_pb2.GetFunctionRequest(id="x"), timeout=10)
        answer = await self.http.get("/functions/x")
        assert (found.id, answer.status_code) == ("x", 200)

    def work(self) -> float:
        """Seconds of processor time that the gateway has taken so far."""
        times = self.gateway.process.cpu_times()
        return times.user + times.system

    def memory(self) -> int:
        """Bytes that it has now."""
        held: int = self.gateway.process.memory_info().rss
        return held

    async def work_of_calls(self, count: int) -> float:
        """What so many calls by each door cost it."""
        before = self.work()
        for _ in range(count):
            await self.call()
        return self.work() - before

    async def is_at_rest(self) -> bool:
        before = self.work()
        await asyncio.sleep(1)
        return self.work() - before < REST


@pytest.fixture
async def watched(gateway: Gateway) -> AsyncIterator[Watched]:
    gateway.services.on("GetFunction", lambda message, _: registry_pb2.Function(id=message.id))
    async with (
        grpc.aio.insecure_channel(gateway.grpc_address) as channel,
        httpx.AsyncClient(base_url=f"http://{gateway.http_address}", timeout=20, trust_env=False) as http,
    ):
        yield Watched(gateway, registry_pb2_grpc.RegistryStub(channel), http)


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_costs_little_and_calls_are_answered_while_it_goes_on(watched: Watched, flood: str) -> None:
    def send() -> None:
        with connected(watched.gateway.grpc_address) as hostile:
            send_flood(hostile, FLOODS[flood])

    await watched.call()
    work_of_a_call = await watched.work_of_calls(50) / 50
    reached, work, memory = len(watched.gateway.services.calls), watched.work(), watched.memory()

    calls = 0
    floods = [asyncio.create_task(asyncio.to_thread(send)) for _ in range(HOSTILE)]
    while not all(one.done() for one in floods) or calls < 20:
        await watched.call()
        calls += 1
    await asyncio.gather(*floods)
    await until(watched.is_at_rest)

    # The calls meanwhile cost what calls cost; how many they are, the machine's speed says.
    assert watched.work() - work < (HOSTILE * CALLS_FOR_A_FLOOD + calls) * work_of_a_call
    assert watched.memory() - memory < MORE_BYTES
    # What is taken back at once is mostly not asked of the service behind.
    assert len(watched.gateway.services.calls) - reached - 2 * calls < HOSTILE * CALLS_FOR_A_FLOOD


@pytest.mark.parametrize("door", ["gRPC", "HTTP"])
async def test_a_thousand_connections_that_do_nothing_cost_nothing(watched: Watched, door: str) -> None:
    address = watched.gateway.grpc_address if door == "gRPC" else watched.gateway.http_address
    await watched.call()
    memory = watched.memory()

    idle = await asyncio.to_thread(lambda: [connected(address) for _ in range(1000)])
    try:
        await until(watched.is_at_rest)
        for _ in range(20):
            await watched.call()
        assert watched.memory() - memory < MORE_BYTES
    finally:
        for connection in idle:
            connection.close()
