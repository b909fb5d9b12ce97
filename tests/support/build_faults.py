"""Builds whose compiler, jail or service is killed in their middle, and what must hold afterwards."""

import asyncio
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import httpx
import psutil

from bench.sources import SOURCES
from tests.support.platform import Platform
from tests.support.processes import descendants

# How long a function may wait for an edit that must be sent again.
_PATIENCE_SECONDS: Final = 60
_KINDS: Final[Mapping[str, str]] = {
    "plain": "assemblyscript",
    "json": "assemblyscript",
    **{one: one for one in SOURCES if one not in {"plain", "json"}},
}
# Only a newer version may keep one from becoming READY.
_ALLOWED: Final = {"", "SUPERSEDED"}


class Building:
    """Functions in every language that the platform has, each edited again as soon as its build has ended."""

    def __init__(self, platform: Platform, seed: int) -> None:
        self._platform = platform
        self._random = random.Random(seed)
        there = {one["id"] for one in platform.http.get("/languages").json()["languages"] if one["available"]}
        self.names: Final[Sequence[str]] = [f"build-{kind}" for kind, language in _KINDS.items() if language in there]
        self.accepted = Counter[str]()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._edit, args=(name,)) for name in self.names]

    def __enter__(self) -> "Building":
        for name in self.names:
            self._platform.create(name, self._source(name), language=_KINDS[name.removeprefix("build-")])
            self.accepted[name] += 1
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _source(self, name: str) -> str:
        return SOURCES[name.removeprefix("build-")].replace("NUMBER", str(self._random.getrandbits(30)))

    def _edit(self, name: str) -> None:
        with self._platform.client(40) as client:
            while not self._stop.wait(0.05):
                with suppress(httpx.HTTPError):
                    if client.get(f"/functions/{name}").json()["status"] in ("READY", "FAILED"):
                        client.put(f"/functions/{name}", json={"source": self._source(name)}).raise_for_status()
                        self.accepted[name] += 1


def kill_builds(platform: Platform, seed: int, rounds: int, say: Callable[[str], None]) -> None:
    """Kills one process that has a part in building, a round. The same seed makes the same choices, as far as the same processes run."""
    chance = random.Random(seed)
    for number in range(1, rounds + 1):
        time.sleep(chance.uniform(0.3, 2))
        name, process = _choose(platform, chance)
        say(f"round {number}: SIGKILL to {name}")
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)


def _choose(platform: Platform, chance: random.Random) -> tuple[str, psutil.Process]:
    """The service, a jail, or what runs in one; a service that has just been killed has none of these yet."""
    kind = chance.choice(("the compiler service", "a jail", "a compiler", "a compiler"))
    while kind != "the compiler service":
        with suppress(psutil.NoSuchProcess):
            below = [one for one in descendants(platform.process("compiler").pid) if _is_jail(one) == (kind == "a jail")]
            if below:
                return kind, chance.choice(below)
        time.sleep(0.1)
    return kind, platform.process("compiler")


def _is_jail(process: psutil.Process) -> bool:
    try:
        return process.name() == "bwrap"
    except psutil.Error:
        return False


def check_builds(platform: Platform, building: Building, *, seconds: float) -> None:
    """Holds the platform against what it accepted, once it had that long to come to rest.

    Raises:
        AssertionError: a version hangs, failed though its source is good, or was built twice; or a message is left over.
    """
    for name in building.names:
        latest = platform.settled(name, seconds)
        assert latest["status"] == "READY", f"{name}: {latest['compileError']}"
        versions = _versions(platform, name)
        assert len(versions) >= building.accepted[name]
        assert [one["version"] for one in versions if one["status"] not in ("READY", "FAILED")] == []
        assert {one["failureReason"] for one in versions} <= _ALLOWED, name
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while any(platform.queue_lengths().values()) and time.monotonic() < give_up:
        time.sleep(0.2)
    assert set(platform.queue_lengths().values()) == {0}
    assert asyncio.run(_built_twice(platform)) == []


def _versions(platform: Platform, name: str) -> Sequence[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    token = ""
    while True:
        body = platform.http.get(f"/functions/{name}/versions", params={"pageSize": 1000, "pageToken": token}).raise_for_status().json()
        found += body["versions"]
        token = body["nextPageToken"]
        if not token:
            return found


async def _built_twice(platform: Platform) -> list[Any]:
    """Builds that have ended more than once."""
    async with platform.database() as connection:
        rows = await connection.fetch(
            """
            SELECT message ->> 'function_id' AS id, message ->> 'version' AS version, message ->> 'build' AS build, count(*)
            FROM pgmq.a_compilation_results WHERE message ->> 'type' = 'FINISHED' GROUP BY 1, 2, 3 HAVING count(*) > 1
            """
        )
    return [tuple(row) for row in rows]
