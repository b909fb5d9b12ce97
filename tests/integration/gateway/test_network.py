"""A gateway whose ways to the services are slow, or fall silent without a word."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest
from kiln.executor.v1 import executor_pb2, executor_pb2_grpc
from kiln.registry.v1 import registry_pb2

from libs.local.ports import free_ports
from tests.support.processes import running_process
from tests.support.proxy import Proxy, proxied_address
from tests.support.services import Services, running_services
from tests.support.waiting import until

SLOW_SECONDS: Final = 0.5
CALLS: Final = 30
CONNECT_SECONDS: Final = 1


class Way:
    """A gateway's way to a service: for gRPC, and for calls that are carried."""

    def __init__(self, *proxies: Proxy) -> None:
        self._proxies = proxies

    @property
    def connections(self) -> int:
        return sum(proxy.connections for proxy in self._proxies)

    def delay(self, seconds: float) -> None:
        for proxy in self._proxies:
            proxy.delay_seconds = seconds

    async def mend(self) -> None:
        for proxy in self._proxies:
            await proxy.mend()

    async def cut(self) -> None:
        for proxy in self._proxies:
            await proxy.cut()

    async def fall_silent(self) -> None:
        for proxy in self._proxies:
            await proxy.fall_silent()


@dataclass(frozen=True)
class Networked:
    """A gateway, clients of it, its ways to the registry and the executor, and these."""

    http: httpx.AsyncClient
    stub: Any
    to_registry: Way
    to_executor: Way
    registry: Services
    services: Services

    def execute(self, number: int) -> Awaitable[httpx.Response]:
        return self.http.post("/functions/echo/execute", json={"input": number})

    def read(self) -> Awaitable[httpx.Response]:
        return self.http.get("/functions/echo")

    def reached(self) -> Counter[str]:
        """How often each RPC has come through."""
        return Counter(call.name for call in (*self.registry.calls, *self.services.calls))

    async def works(self) -> bool:
        return (await self.execute(0)).status_code == 200


@pytest.fixture
async def networked(home: Path) -> AsyncIterator[Networked]:
    async with networked_gateway(home / "networked.log") as made:
        yield made


@asynccontextmanager
async def networked_gateway(log: Path) -> AsyncIterator[Networked]:
    """A gateway whose ways are in the hand of the test while the block runs."""
    http, door = (f"127.0.0.1:{port}" for port in free_ports(2))
    with running_services() as (registry_behind, registry), running_services() as (executor_behind, services):
        services.on("ExecuteFunction", echo)
        registry.on("GetFunction", lambda message, _: registry_pb2.Function(id=message.id))
        async with (
            way(registry_behind, registry) as (registry_address, to_registry),
            way(executor_behind, services) as (executor_address, to_executor),
            grpc.aio.insecure_channel(door) as channel,
            httpx.AsyncClient(base_url=f"http://{http}", timeout=60, trust_env=False) as client,
        ):
            settings = {
                "KILN_HTTP_ADDRESS": http,
                "KILN_GRPC_ADDRESS": door,
                "KILN_REGISTRY_ADDRESS": registry_address,
                "KILN_COMPILER_ADDRESS": registry_address,
                "KILN_EXECUTOR_ADDRESS": executor_address,
                "KILN_AUTH_ADDRESS": registry_address,
                "KILN_GATEWAY_CONNECT_SECONDS": str(CONNECT_SECONDS),
            }
            # In a thread, since this loop serves its ways.
            starting = running_process("gateway", door, log, **settings)
            await asyncio.to_thread(starting.__enter__)
            try:
                yield Networked(client, executor_pb2_grpc.ExecutorStub(channel), to_registry, to_executor, registry, services)
            finally:
                await asyncio.to_thread(starting.__exit__, None, None, None)


@asynccontextmanager
async def way(address: str, services: Services) -> AsyncIterator[tuple[str, Way]]:
    """The address of services behind proxies while the block runs, and these."""
    async with (
        proxied_address(address) as (through, for_grpc),
        proxied_address(f"127.0.0.1:{services.carried_port}") as (_, for_carried),
    ):
        services.carried_port = for_carried.port
        yield through, Way(for_grpc, for_carried)


def echo(message: Any, _: Any) -> executor_pb2.Execution:
    return executor_pb2.Execution(id="e", status=executor_pb2.Execution.COMPLETED, output_text=message.input_text)


async def test_a_slow_way_makes_calls_late_and_no_call_is_made_twice(networked: Networked) -> None:
    networked.to_executor.delay(SLOW_SECONDS)
    networked.to_registry.delay(SLOW_SECONDS)

    executed = await asyncio.gather(*(networked.execute(number) for number in range(CALLS)))
    read = await asyncio.gather(*(networked.read() for _ in range(CALLS)))

    assert [one.json()["output"] for one in executed] == list(range(CALLS))
    assert [one.status_code for one in read] == [200] * CALLS
    assert networked.reached() == {"ExecuteFunction": CALLS, "GetFunction": CALLS}


async def test_a_deadline_holds_on_a_way_that_fell_silent_and_other_services_are_reached_all_the_same(networked: Networked) -> None:
    assert await networked.works()
    await networked.to_executor.fall_silent()

    silent = [networked.stub.ExecuteFunction(executor_pb2.ExecuteFunctionRequest(id="echo"), timeout=1) for _ in range(CALLS)]
    ended = asyncio.gather(*silent, return_exceptions=True)
    read = await asyncio.gather(*(networked.read() for _ in range(CALLS)))
    refusals = await asyncio.wait_for(ended, 20)

    assert [one.status_code for one in read] == [200] * CALLS
    assert {one.code() for one in refusals if isinstance(one, grpc.aio.AioRpcError)} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert networked.reached()["ExecuteFunction"] == 1


async def test_calls_whose_way_fell_silent_are_unavailable_once_it_is_cut_and_have_run_once(networked: Networked) -> None:
    release = threading.Event()

    def wait(message: Any, context: Any) -> executor_pb2.Execution:
        release.wait(20)
        return echo(message, context)

    networked.services.on("ExecuteFunction", wait)
    calls = [asyncio.ensure_future(networked.execute(number)) for number in range(CALLS)]
    await until(lambda: networked.reached()["ExecuteFunction"] == CALLS)
    await networked.to_executor.fall_silent()
    release.set()
    await asyncio.sleep(SLOW_SECONDS)
    assert not any(call.done() for call in calls)

    await networked.to_executor.cut()
    answers = await asyncio.wait_for(asyncio.gather(*calls), 20)

    assert {one.status_code for one in answers} == {503}
    assert networked.reached()["ExecuteFunction"] == CALLS


async def test_a_service_that_takes_connections_and_says_nothing_is_unavailable_and_is_found_again(networked: Networked) -> None:
    await networked.to_executor.cut()
    await networked.to_executor.fall_silent()

    answers = await asyncio.gather(*(networked.execute(number) for number in range(CALLS)))
    reads = await asyncio.gather(*(networked.http.get("/executions/0") for _ in range(CALLS)))

    assert {one.status_code for one in (*answers, *reads)} == {503}
    assert {one.json()["error"]["details"][0]["reason"] for one in answers} == {"SERVICE_UNREACHABLE"}
    # One channel tries to connect, however many calls wait for it.
    assert networked.to_executor.connections < CALLS / 2

    await networked.to_executor.cut()
    await networked.to_executor.mend()
    await until(networked.works)
