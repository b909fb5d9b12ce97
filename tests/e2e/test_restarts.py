"""Each process dies alone in the middle of work, and comes back; nothing stays stuck, nothing is lost."""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.functions import SOURCES
from tests.support.platform import Platform, running_platform

SERVICES = ("gateway", "registry", "compiler", "executor", "postgres")


@pytest.fixture(scope="module")
def hurt(home: Path) -> Iterator[Platform]:
    """A platform for this module alone, since its processes die."""
    with running_platform(home / "hurt") as platform:
        platform.deploy("echo", SOURCES["echo"][0])
        platform.deploy("slow", *SOURCES["slow"][:1], limits=SOURCES["slow"][1])
        yield platform


def eventually(look: Callable[[], Any], seconds: float = 60) -> Any:
    """What a look finds once it finds something, whatever it meets before."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            if found := look():
                return found
        except (httpx.HTTPError, AssertionError, KeyError):
            if time.monotonic() > give_up:
                raise
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.1)


def kill(platform: Platform, name: str) -> None:
    """Kills a process and waits until another is there in its place, and the platform has found it."""
    victim = platform.process(name)
    victim.kill()
    eventually(lambda: platform.process(name).pid != victim.pid)
    # Calls go on without the database; lists come out of it alone.
    eventually(lambda: all(platform.http.get(f"/functions{of}").status_code == 200 for of in ("", "/echo/executions")))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_dies_is_back_and_serves_what_was_there(hurt: Platform, name: str) -> None:
    before = hurt.execute("echo", name)

    kill(hurt, name)

    eventually(lambda: hurt.http.get("/health").status_code == 200)
    assert eventually(lambda: hurt.execute("echo", 1))["output"] == 1
    record = hurt.http.get(f"/executions/{before['id']}").json()
    assert (record["input"], record["output"]) == (name, name)


@pytest.mark.parametrize("name", ["registry", "compiler", "postgres", "gateway", "executor"])
def test_a_build_outlives_the_death_of_any_process(hurt: Platform, name: str) -> None:
    built = f"built-beside-{name}"
    hurt.create(built)

    hurt.process(name).kill()

    assert eventually(lambda: hurt.settled(built))["status"] == "READY"
    assert eventually(lambda: hurt.execute(built, 1))["output"] == 1
    assert eventually(lambda: not any(hurt.queue_lengths().values()))


@pytest.mark.parametrize("name", ["executor", "postgres", "registry"])
def test_a_run_that_began_ends_in_the_history(hurt: Platform, name: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(hurt.http.post, "/functions/slow/execute", json={"input": 3000})
        running = eventually(lambda: hurt.http.get("/functions/slow/executions?status=RUNNING").json()["executions"])
        hurt.process(name).kill()
        answer = call.exception() or call.result()

    def ended() -> dict[str, Any] | None:
        record: dict[str, Any] = hurt.http.get(f"/executions/{running[0]['id']}").json()
        return record if record["status"] in ("COMPLETED", "FAILED") else None

    record = eventually(ended)
    if name == "executor":
        assert isinstance(answer, httpx.Response)
        assert answer.status_code == 503
        assert record["error"]["type"] == "PLATFORM"
    else:
        assert (record["status"], record["output"]) == ("COMPLETED", True)


def test_a_function_keeps_running_while_the_registry_and_the_compiler_are_stopped(hurt: Platform) -> None:
    hurt.execute("echo", 0)
    stopped = [hurt.process(name) for name in ("registry", "compiler")]
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    try:
        assert hurt.execute("echo", 1)["output"] == 1
    finally:
        for process in stopped:
            process.send_signal(signal.SIGCONT)
    eventually(lambda: hurt.http.get("/health").status_code == 200)


def test_a_missing_service_is_said_plainly_and_not_waited_for_without_end(hurt: Platform) -> None:
    registry = hurt.process("registry")
    registry.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        health = hurt.http.get("/health")
        seconds = time.monotonic() - began
    finally:
        registry.send_signal(signal.SIGCONT)

    assert (health.status_code, health.json()["services"]["registry"]["status"]) == (503, "DOWN")
    assert health.json()["services"]["executor"]["status"] == "UP"
    assert seconds < 5
    eventually(lambda: hurt.http.get("/health").status_code == 200)
