"""The first call of a function after its executor restarts, against warm calls of the same executor."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx
import psutil

from bench.figures import p50, p95, seconds, table
from bench.platform import create, running, settle
from bench.sources import SOURCES

_WARM_CALLS: Final = 10
_UP_SECONDS: Final = 60
# Longer than what is written behind a call takes.
_KEPT_SECONDS: Final = 1.0
_PICKS: Final = (("p50", p50), ("p95", p95))
# Workers get at the start what fits into this much, the newest functions first, so many at once. Behind these there is no room for that
# which is called, and the call itself has its code read.
_HARDLY_ANYTHING_AHEAD: Final = {"KILN_EXECUTOR_CODE_CACHE_MB": "1"}
_NEWER: Final = 2


@dataclass(frozen=True, slots=True)
class Case:
    """One function.

    Attributes:
        name: For the table.
        language: Its id, and its name here.
        source: What it is made from.
        input: What it is called with.
        is_large: Whether its native code is more than is read ahead in the second table.
    """

    name: str
    language: str
    source: str
    input: Any
    is_large: bool = False


CASES: Final = (
    Case("AssemblyScript, plain", "assemblyscript", SOURCES["plain"], "the longest word"),
    Case("C++, JSON", "cpp", SOURCES["cpp"], ["a", "few", "words"]),
    Case("Go, JSON", "go", SOURCES["go"], ["a", "few", "words"], is_large=True),
)


def measure(rounds: int) -> Iterator[str]:
    """A table of what is read before the executor serves, and one of what the call itself has read."""
    yield _table("first call after a restart", rounds, large_only=False)
    yield _table("the same, read by the call itself", rounds, large_only=True, **_HARDLY_ANYTHING_AHEAD)


def _table(title: str, rounds: int, *, large_only: bool, **settings: str) -> str:
    rows = []
    with running(**settings) as client:
        there = {one["id"] for one in client.get("/languages").json()["languages"] if one["available"]}
        for case in CASES:
            if case.language in there and case.is_large >= large_only:
                for number in range(1 + large_only * _NEWER):
                    name = f"{case.language}-{number}" if number else case.language
                    create(client, name, case.source.replace("NUMBER", str(7 + number)), language=case.language)
                    settle(client, name)
                _call(client, case)
                rows += _rows(case, *_measured(client, case, rounds))
    return table([title, "first", "warm", "above", "of which cold"], rows)


def _measured(client: httpx.Client, case: Case, rounds: int) -> tuple[list[float], list[float], int]:
    """Seconds of first calls and of warm ones, and how many of the first said that they had waited for code."""
    first: list[float] = []
    warm: list[float] = []
    cold = 0
    for _ in range(rounds):
        time.sleep(_KEPT_SECONDS)
        _restart(client)
        took, execution = _call(client, case)
        first.append(took)
        cold += execution["coldStart"]
        warm += [_call(client, case)[0] for _ in range(_WARM_CALLS)]
    return first, warm, cold


def _rows(case: Case, first: Sequence[float], warm: Sequence[float], cold: int) -> list[list[str]]:
    return [
        [
            f"{case.name}, {name}",
            seconds(pick(first)),
            seconds(pick(warm)),
            f"{(pick(first) - pick(warm)) * 1000:.1f} ms",
            f"{cold} of {len(first)}",
        ]
        for name, pick in _PICKS
    ]


def _call(client: httpx.Client, case: Case) -> tuple[float, dict[str, Any]]:
    began = time.perf_counter()
    answer = client.post(f"/functions/{case.language}/execute", json={"input": case.input})
    took = time.perf_counter() - began
    execution: dict[str, Any] = answer.raise_for_status().json()
    if execution["status"] != "COMPLETED":
        raise SystemExit(f"{case.name} does not run: {execution['errorMessage']}")
    return took, execution


def _restart(client: httpx.Client) -> None:
    """Kills the executor, and returns as soon as there is another that serves."""
    before = _executor()
    os.kill(before.pid, 9)
    deadline = time.monotonic() + _UP_SECONDS
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError, LookupError):
            if _executor().pid != before.pid and client.get("/health").json()["status"] == "UP":
                return
        time.sleep(0.02)
    raise SystemExit("the executor does not come back")


def _executor() -> psutil.Process:
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.cmdline()[-2:] == ["-m", "services.executor"]:
                return process
    raise LookupError("no executor")
