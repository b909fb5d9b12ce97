"""The plainest host of the `assemblyscript` ABI, so that tests can see what a compiled function does."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import wasmtime

from libs.common.abi import ASSEMBLYSCRIPT

STRING_CLASS: Final = 2


@dataclass(frozen=True, slots=True)
class Abort:
    """Where a guest gave up, in its own words."""

    message: str
    file: str
    line: int
    column: int


@dataclass(slots=True)
class Run:
    """What one call did. `output` is None when the guest did not return."""

    output: str | None = None
    abort: Abort | None = None
    exit_code: int | None = None
    logs: list[str] = field(default_factory=list)


class _Ended(Exception):
    """The guest asked to end."""


class _Host:
    """The imports, for one instance."""

    def __init__(self) -> None:
        self.run = Run()
        self.memory: wasmtime.Memory | None = None
        self.store: wasmtime.Store | None = None

    def text(self, pointer: int) -> str:
        """The string at a pointer; null is empty."""
        assert self.memory
        assert self.store
        if pointer == 0:
            return ""
        size = int.from_bytes(self.memory.read(self.store, pointer - 4, pointer), "little")
        return self.memory.read(self.store, pointer, pointer + size).decode("utf-16-le")

    def abort(self, message: int, file: int, line: int, column: int) -> None:
        self.run.abort = Abort(self.text(message), self.text(file), line, column)
        raise _Ended

    def exit(self, code: int) -> None:
        self.run.exit_code = code
        raise _Ended

    def log(self, message: int) -> None:
        self.run.logs.append(self.text(message))

    def trace(self, message: int, *_numbers: float) -> None:
        self.log(message)

    def check(self, condition: int, message: int) -> None:
        if not condition:
            self.log(message)

    def function(self, name: str) -> Callable[..., Any]:
        """The host's side of one import."""
        special: dict[str, Callable[..., Any]] = {
            "abort": self.abort,
            "process.exit": self.exit,
            "trace": self.trace,
            "console.assert": self.check,
            "seed": lambda: 0.5,
            "Date.now": lambda: 1_700_000_000_000.0,
            "performance.now": lambda: 1.5,
        }
        return special.get(name, self.log)


def _engine(memory_bytes: int) -> tuple[wasmtime.Engine, wasmtime.Store]:
    config = wasmtime.Config()
    config.wasm_simd = False
    config.wasm_relaxed_simd = False
    config.wasm_threads = False
    config.wasm_tail_call = False
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    store.set_limits(memory_size=memory_bytes)
    return engine, store


def call(wasm: bytes, text: str, *, memory_bytes: int = 64 * 1024 * 1024) -> Run:
    """Runs `handle` on one input in a fresh instance, with the proposals off that Kiln leaves off."""
    engine, store = _engine(memory_bytes)
    linker = wasmtime.Linker(engine)
    host = _Host()
    host.store = store
    for (module, name), signature in ASSEMBLYSCRIPT.imports.items():
        kinds = [[getattr(wasmtime.ValType, kind)() for kind in side] for side in (signature.params, signature.results)]
        linker.define_func(module, name, wasmtime.FuncType(*kinds), host.function(name))
    with contextlib.suppress(_Ended):
        instance = linker.instantiate(store, wasmtime.Module(engine, wasm))
        host.run.output = _handle(instance, store, host, text)
    return host.run


def _handle(instance: wasmtime.Instance, store: wasmtime.Store, host: _Host, text: str) -> str:
    exports: Any = instance.exports(store)
    host.memory = exports["memory"]
    encoded = text.encode("utf-16-le")
    pointer = exports["__pin"](store, exports["__new"](store, len(encoded), STRING_CLASS))
    exports["memory"].write(store, encoded, pointer)
    return host.text(exports["handle"](store, pointer))
