"""A warm call through REST, against `GET /health` of the same gateway, which crosses the same server and asks every service."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import httpx

from bench.figures import p50, p95, ratio, seconds, table
from bench.platform import create, credential, settle

_NAME: Final = "bench-echo"
_SOURCE: Final = "export function handle(input: string): string { return input; }"
_INPUT: Final = {"order": 17, "lines": [{"sku": "a-1", "quantity": 3}]}

Call = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


def measure(client: httpx.Client, rounds: int) -> Iterator[str]:
    """A table by number of connections."""
    create(client, _NAME, _SOURCE)
    settle(client, _NAME)
    rows = []
    for connections in (1, 8):
        ours, ours_rate = asyncio.run(_times(client, connections, rounds, _execute))
        theirs, theirs_rate = asyncio.run(_times(client, connections, rounds, _health))
        for name, pick in (("p50", p50), ("p95", p95)):
            rows.append([f"{connections}, {name}", seconds(pick(ours)), seconds(pick(theirs)), ratio(pick(ours), pick(theirs))])
        rows.append([f"{connections}, calls a second", f"{ours_rate:.0f}", f"{theirs_rate:.0f}", ratio(ours_rate, theirs_rate)])
    yield table(["connections", "execute", "`GET /health`", "ratio"], rows)


async def _times(like: httpx.Client, connections: int, rounds: int, call: Call) -> tuple[list[float], float]:
    """Seconds of each call, and calls a second of all."""
    times: list[float] = []

    async def one_after_the_other() -> None:
        async with httpx.AsyncClient(base_url=like.base_url, headers=credential(like), timeout=60) as client:
            await call(client)
            for _ in range(rounds):
                began = time.perf_counter()
                await call(client)
                times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(connections)))
    return times, len(times) / (time.perf_counter() - began)


async def _execute(client: httpx.AsyncClient) -> httpx.Response:
    answer = await client.post(f"/functions/{_NAME}/execute", json={"input": _INPUT})
    if answer.json()["output"] != _INPUT:
        raise SystemExit(f"not an echo: {answer.text}")
    return answer


async def _health(client: httpx.AsyncClient) -> httpx.Response:
    return (await client.get("/health")).raise_for_status()
