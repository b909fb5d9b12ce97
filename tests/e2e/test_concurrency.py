"""A function may have so many runs at once, and no more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.e2e.functions import SOURCES
from tests.support.platform import Platform, error_of
from tests.support.waiting import until


@asynccontextmanager
async def runs_of(platform: Platform, name: str, count: int) -> AsyncIterator[None]:
    """While the block runs, so many calls of a function do; then their callers go away."""
    base_url = f"http://{platform.http_address}"
    async with httpx.AsyncClient(base_url=base_url, headers=platform.headers, timeout=60, trust_env=False) as client:
        calls = [asyncio.create_task(client.post(f"/functions/{name}/execute", json={"input": 15_000})) for _ in range(count)]
        try:
            await until(lambda: len(executions(platform, name, status="RUNNING")) == count)
            yield
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)


def executions(platform: Platform, name: str, **wanted: str) -> list[dict[str, Any]]:
    """A function's runs."""
    found: list[dict[str, Any]] = platform.http.get(f"/functions/{name}/executions", params=wanted).json()["executions"]
    return found


async def test_a_function_has_no_more_runs_at_once_than_it_may_until_that_is_changed(functions: Platform) -> None:
    source, limits = SOURCES["slow"]
    functions.deploy("narrow", source, limits=limits | {"maxConcurrency": 2})

    async with runs_of(functions, "narrow", 2):
        refused = functions.http.post("/functions/narrow/execute", json={"input": 0})
        other = functions.execute("echo", "others go on")
        changed = functions.update("narrow", limits={"maxConcurrency": 3})
        third = functions.execute("narrow", 0)

    error = error_of(refused)
    assert (refused.status_code, error["status"], refused.headers["retry-after"]) == (429, "RESOURCE_EXHAUSTED", "1")
    assert error["details"][0]["reason"] == "TOO_MANY_CONCURRENT_CALLS"
    assert "2 runs" in error["message"]
    assert "limits.maxConcurrency" in error["message"]
    assert changed["limits"]["maxConcurrency"] == 3
    assert [one["status"] for one in (other, third)] == ["COMPLETED"] * 2
    assert len(executions(functions, "narrow")) == 3
