"""What one more function takes of memory, where its native code is held for all workers and where a worker holds it ready."""

import asyncio
import inspect
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from bench.cold import CASES, Case
from bench.figures import table
from libs.common import logs
from services.compiler.hot import HotProcesses
from services.compiler.jails import Jails
from services.compiler.languages import Bounds, Compiled, Failed, languages
from services.executor.sandbox import Call, Sandbox
from services.executor.sandbox.engine import MAX_LOADED_MODULES
from services.executor.sandbox.sealed import Sealed
from services.executor.settings import Settings
from tests.support.engines import Preparer, running

_BOUNDS: Final = Bounds(wall_seconds=60, cpu_seconds=60, memory_bytes=1 << 30, output_bytes=1 << 18, artifact_bytes=8 << 20)
_HELD_BYTES: Final[int] = Settings.model_fields["executor_code_cache_mb"].default << 20
_READY_BYTES: Final[int] = inspect.signature(Sandbox).parameters["worker_code_bytes"].default
_WORKERS: Final[int] = Settings.model_fields["executor_workers"].default
# From this size on the sandbox holds code in a file, unless it is set to hold more than by default.
_SEALED_BYTES: Final = _HELD_BYTES // 256
# What files in memory are called: the sandbox's with native code, and Wasmtime's with what a memory begins with.
_CODE: Final = "/memfd:native"
_IMAGE: Final = "/memfd:wasm-memory-image"


@dataclass(frozen=True, slots=True)
class _Function:
    """What is held and loaded many times, each time as another function: each has bytes or a file of its own, and they share nothing."""

    abi: str
    wasm_bytes: int
    code: bytes
    input: bytes


def measure(rounds: int) -> Iterator[str]:
    """A table by function, from so many of each, or as many as a worker holds ready."""
    logs.configure("bench", "warning")
    preparer = Preparer()
    rows = []
    for case, built in asyncio.run(_built()):
        code = preparer.compile(built.abi.name, built.wasm)
        function = _Function(built.abi.name, len(built.wasm), code, orjson.dumps(case.input))
        ready = min(MAX_LOADED_MODULES, _READY_BYTES // len(code))
        # A process for each, so that nothing is left of another.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes:
            held = processes.submit(_held_bytes, function, min(rounds, ready)).result()
            loaded, called = processes.submit(_worker_bytes, function, min(rounds, ready)).result()
        sizes = map(_kibibytes, (function.wasm_bytes, len(code), held, loaded, called))
        counts = (int((1 << 30) / (held + _WORKERS * called)), _HELD_BYTES // len(code), ready)
        rows.append([case.name, *sizes, *(f"{count:,}" for count in counts)])
    sizes_head = ["module", "native code", "held for all workers", "a worker, loaded", "a worker, called"]
    counts_head = [
        f"in 1 GiB with {_WORKERS} workers",
        f"held, of {_HELD_BYTES >> 20} MiB",
        f"ready in a worker, of {_READY_BYTES >> 20} MiB",
    ]
    yield table(["function", *sizes_head, *counts_head], rows)


async def _built() -> Sequence[tuple[Case, Compiled]]:
    """Modules of the cases whose language is there."""
    found = []
    async with HotProcesses(Jails("auto"), spare=0) as hot:
        known = languages(hot)
        for case in CASES:
            if known[case.language].toolchain().available:
                built = await known[case.language].compile(case.source.replace("NUMBER", "7").encode(), _BOUNDS)
                if isinstance(built, Failed):
                    raise SystemExit(f"{case.name} does not compile: {built.diagnostics}")
                found.append((case, built))
    return found


def _held_bytes(function: _Function, count: int) -> float:
    """What one takes of the process that holds its code for the workers."""
    # The first fill what room the process has from before.
    held = [_as_held(function.code) for _ in range(count)]
    before = _own_bytes(_CODE)
    held += [_as_held(function.code) for _ in range(count)]
    return (_own_bytes(_CODE) - before) / count


def _worker_bytes(function: _Function, count: int) -> tuple[float, float]:
    """What one takes of a worker besides: once it is loaded, and once it has been called too."""
    with running() as runner:

        def load(name: str) -> None:
            code = _as_held(function.code)
            if isinstance(code, Sealed):
                with open(os.dup(code.descriptor), "rb", buffering=0) as file:
                    runner.load_file(name, function.abi, file)
            else:
                runner.load(name, function.abi, code)

        def call(name: str) -> None:
            outcome = runner.run(Call(name, function.abi, function.input))
            if outcome is None or outcome.error:
                raise SystemExit(f"it does not run: {outcome}")

        # What is there once, and the two memories that the pool keeps.
        first, names = [f"first {number}" for number in range(2)], [str(number) for number in range(count - 2)]
        figures = []
        for act, those in ((load, first), (call, first), (load, names), (call, names)):
            for name in those:
                act(name)
            figures.append(_own_bytes(_IMAGE))
        _, before, loaded, called = figures
        return (loaded - before) / len(names), (called - before) / len(names)


def _as_held(code: bytes) -> bytes | Sealed:
    """A copy, as the sandbox holds it."""
    return Sealed(code) if len(code) >= _SEALED_BYTES else bytes(bytearray(code))


def _own_bytes(name: str) -> int:
    """This process's memory: its share of what is mapped, and files in memory of this name, as large as they are; others are others'."""
    shares = dict(line.split(":", 1) for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:])
    size = sum(int(shares[kind].split()[0]) << 10 for kind in ("Pss_Anon", "Pss_File"))
    for descriptor in os.listdir("/proc/self/fd"):
        # The one by which they are listed is gone.
        with suppress(FileNotFoundError):
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith(name):
                size += os.fstat(int(descriptor)).st_blocks * 512
    return size


def _kibibytes(size: float) -> str:
    return f"{size / 1024:,.0f} KiB"
