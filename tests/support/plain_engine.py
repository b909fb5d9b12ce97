"""The plain way to run a call, through wasmtime-py's own classes and without a pool: the oracle of the fast one."""

import ctypes
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from wasmtime import (
    Caller,
    Engine,
    Func,
    FuncType,
    Global,
    InstancePre,
    Linker,
    Memory,
    MemoryType,
    Module,
    Store,
    Trap,
    TrapCode,
    ValType,
    WasmtimeError,
)

from libs.common.abi import MAX_TABLE_ELEMENTS
from services.executor.sandbox import Call, ErrorType, Frame, GuestError, Outcome
from services.executor.sandbox.abi import GUEST_ABIS, Answer, GuestAbi
from services.executor.sandbox.engine import guest_config, printable
from services.executor.sandbox.guest import PAGE_BYTES, GuestMemory, Trapped
from services.executor.sandbox.host import STACK_OVERFLOW, GuestStopped, Host, Sources, out_of_memory, stopped_because
from services.executor.sandbox.watch import Watch

_MAX_FRAMES = 16
_MAX_NAME_CHARACTERS = 200
_TYPES: dict[str, Callable[[], ValType]] = {"i32": ValType.i32, "i64": ValType.i64, "f32": ValType.f32, "f64": ValType.f64}
_WORDS = {
    TrapCode.UNREACHABLE: "unreachable executed",
    TrapCode.MEMORY_OUT_OF_BOUNDS: "out of bounds memory access",
    TrapCode.TABLE_OUT_OF_BOUNDS: "out of bounds table access",
    TrapCode.INDIRECT_CALL_TO_NULL: "indirect call to a null table entry",
    TrapCode.BAD_SIGNATURE: "indirect call to a function of another type",
    TrapCode.INTEGER_OVERFLOW: "integer overflow",
    TrapCode.INTEGER_DIVISION_BY_ZERO: "integer divide by zero",
    TrapCode.BAD_CONVERSION_TO_INTEGER: "conversion of a float that no integer can hold",
}


class PlainMemory(GuestMemory):
    """A memory reached through its store or the caller of a host function."""

    def __init__(self, access: Store | Caller, memory: Memory) -> None:
        self._access = access
        self._memory = memory

    def locate(self) -> tuple[int, int]:
        return ctypes.addressof(self._memory.data_ptr(self._access).contents), self._memory.data_len(self._access)


class PlainGuest:
    """An instance."""

    def __init__(self, store: Store, exports: Mapping[str, object]) -> None:
        self._store = store
        self._exports = exports
        self.memory = PlainMemory(store, cast(Memory, exports["memory"]))

    def exports(self, name: str) -> bool:
        return name in self._exports

    def number(self, name: str) -> int | None:
        found = self._exports.get(name)
        value = found.value(self._store) if isinstance(found, Global) else None
        return value if isinstance(value, int) else None

    def call(self, name: str, *arguments: int) -> int:
        try:
            return cast(int, cast(Func, self._exports[name])(self._store, *arguments))
        except Trap as trap:
            raise _trapped(trap) from None

    def run(self, name: str) -> None:
        self.call(name)


@dataclass(frozen=True)
class _Program:
    abi: GuestAbi
    prepared: InstancePre
    min_memory_bytes: int


class PlainRunner:
    """Runs calls of modules that are known to fit their ABI.

    Args:
        watched: Makes what stops its guests, from what moves its engine's epoch.
        sources: Time and chance for guests.
    """

    def __init__(self, watched: Callable[[Callable[[], None]], Watch], sources: Sources) -> None:
        self._engine = Engine(guest_config())
        self._watch = watched(self._engine.increment_epoch)
        self._sources = sources
        self._linkers = {name: self._new_linker(abi) for name, abi in GUEST_ABIS.items()}
        self._programs: dict[str, _Program] = {}
        self._host: Host | None = None

    def load(self, digest: str, abi: str, wasm: bytes) -> None:
        module = Module(self._engine, wasm)
        memory = next(cast(MemoryType, export.type) for export in module.exports if export.name == "memory")
        self._programs[digest] = _Program(GUEST_ABIS[abi], self._linkers[abi].instantiate_pre(module), memory.limits.min * PAGE_BYTES)

    def run(self, call: Call) -> Outcome:
        program = self._programs[call.digest]
        started = time.perf_counter_ns()
        host = Host(call.limits, lambda: self._watch.reason, self._sources, call.environment)
        output, memory_bytes = self._run_in_store(program, host, program.abi.begin(host, call.input))
        host.streams.close()
        duration_us = (time.perf_counter_ns() - started) // 1000
        return Outcome(output, host.error, tuple(host.logs), host.logs_truncated, duration_us, memory_peak_bytes=memory_bytes)

    def _run_in_store(self, program: _Program, host: Host, answer: Answer) -> tuple[bytes | None, int]:
        memory_limit = host.limits.memory_mb << 20
        if program.min_memory_bytes > memory_limit:
            host.stop(*out_of_memory(host.limits))
            return None, 0
        guest: PlainGuest | None = None
        store = Store(self._engine)
        self._host = host
        try:
            store.set_limits(memory_limit, MAX_TABLE_ELEMENTS, instances=1, tables=1, memories=1)
            store.set_epoch_deadline(1)
            self._watch.begin(host.limits.timeout_ms / 1000)
            guest = PlainGuest(store, program.prepared.instantiate(store).exports(store))
            return answer(guest), guest.memory.size
        except Exception as error:
            host.error = host.error if isinstance(error, GuestStopped) else self._error_of(error, host)
            return None, guest.memory.size if guest else program.min_memory_bytes
        finally:
            self._watch.end()
            self._host = None
            store.close()

    def _error_of(self, error: Exception, host: Host) -> GuestError:
        trapped = _trapped(error) if isinstance(error, Trap) else error
        if isinstance(trapped, Trapped):
            return self._error_of_trap(trapped, host)
        if isinstance(error, WasmtimeError):
            return GuestError(ErrorType.TRAP, "the module cannot be instantiated: it has too many tables or too large ones")
        return GuestError(ErrorType.PLATFORM, f"the sandbox failed: {type(error).__name__}")

    def _error_of_trap(self, trap: Trapped, host: Host) -> GuestError:
        if trap.code is TrapCode.INTERRUPT:
            return GuestError(*stopped_because(self._watch.reason or "TIMEOUT", host.limits))
        stack = tuple(Frame(function=printable(name, _MAX_NAME_CHARACTERS)) for name in trap.functions)
        if trap.code is TrapCode.STACK_OVERFLOW:
            return GuestError(*STACK_OVERFLOW, stack)
        return GuestError(ErrorType.TRAP, _WORDS.get(trap.code, "the function failed") if trap.code else "the function failed", stack)

    def _new_linker(self, abi: GuestAbi) -> Linker:
        linker = Linker(self._engine)
        for (module, name), signature in abi.contract.imports.items():
            kind = FuncType([_TYPES[each]() for each in signature.params], [_TYPES[each]() for each in signature.results])
            linker.define_func(module, name, kind, self._bound(abi.functions[module, name]), access_caller=True)
        return linker

    def _bound(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def act(caller: Caller, *arguments: Any) -> Any:
            host = self._host
            assert host is not None
            try:
                host.check_time()
                return function(host, PlainMemory(caller, cast(Memory, caller.get("memory"))), *arguments)
            except GuestStopped:
                raise
            except Exception as error:
                raise host.stop(ErrorType.PLATFORM, f"a host function failed: {type(error).__name__}") from None

        return act


def _trapped(trap: Trap) -> Trapped:
    try:
        code = trap.trap_code
    except ValueError:
        code = None
    names = [frame.func_name for frame in trap.frames[:_MAX_FRAMES]]
    return Trapped(code, tuple(name for name in names if name))
