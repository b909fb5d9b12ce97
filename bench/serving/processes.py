"""Kiln's processes on this machine, and the processor time that they use by the operating system's account."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import psutil

# Part → what the command line of its first process has.
_FIRST: Final = {"gateway": "services.gateway", "executor": "services.executor", "PostgreSQL": "postgres -D"}
_WORKER: Final = "services.executor.sandbox.worker"
PARTS: Final = ("gateway", "executor", "its workers", "PostgreSQL")
# Records reach the database some tens of milliseconds after their calls were answered.
DRAINING_SECONDS: Final = 0.5

T = TypeVar("T")


class Processes:
    """Those of the platform that this process has started."""

    def __init__(self) -> None:
        runner = _child(psutil.Process(), "libs.local")
        self._first = {part: _child(runner, words) for part, words in _FIRST.items()}

    @property
    def executor_address(self) -> str:
        """Where the executor itself serves gRPC, as `host:port`."""
        return self._first["executor"].environ()["KILN_LISTEN_ADDRESS"]

    def of_calls(self) -> Mapping[str, Sequence[int]]:
        """Part → the ids of its processes of Kiln's own that calls go through."""
        executor = self._first["executor"]
        workers = [child.pid for child in executor.children(recursive=True) if _WORKER in child.cmdline()]
        return {"gateway": [self._first["gateway"].pid], "executor": [executor.pid], "its workers": workers}

    def during(self, work: Callable[[], T]) -> tuple[T, Mapping[str, float]]:
        """What some work gives, and the processor seconds that each part used for it, the writing of its records included."""
        before = self._used()
        done = work()
        time.sleep(DRAINING_SECONDS)
        return done, {part: used - before[part] for part, used in self._used().items()}

    def _used(self) -> Mapping[str, float]:
        gateway, executor, postgres = self._first["gateway"], self._first["executor"], self._first["PostgreSQL"]
        own = executor.cpu_times()
        alone = own.user + own.system
        used = (used_with_children(gateway), alone, used_with_children(executor) - alone, used_with_children(postgres))
        return dict(zip(PARTS, used, strict=True))


def used_with_children(first: psutil.Process) -> float:
    """Processor seconds of a process and of all below it, those that have ended included, as their parents are charged with them."""
    total = 0.0
    for process in [*first.children(recursive=True), first]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _child(parent: psutil.Process, words: str) -> psutil.Process:
    for child in parent.children():
        if words in " ".join(child.cmdline()):
            return child
    raise SystemExit(f"there is no process with {words} in its command line")
