"""Wasmtime: which WebAssembly Kiln runs, how it is made native, and one call in a fresh store.

The guest's types are looked at only in modules that this engine's settings let through: those have no vector types, at whose
mere sight wasmtime-py aborts the process.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import wasmtime
from wasmtime import (
    Caller,
    Config,
    Engine,
    ExportType,
    FuncType,
    InstancePre,
    Linker,
    Memory,
    Module,
    Store,
    Trap,
    TrapCode,
    ValType,
    WasmtimeError,
)

from libs.common.abi import MAX_TABLE_ELEMENTS, Signature
from services.executor.sandbox.abi import GUEST_ABIS, Answer, GuestAbi
from services.executor.sandbox.guest import PAGE_BYTES, Guest, GuestMemory
from services.executor.sandbox.host import STACK_OVERFLOW, GuestStopped, Host, Sources, out_of_memory, stopped_because
from services.executor.sandbox.native import CodeCache
from services.executor.sandbox.outcome import Call, ErrorType, Frame, GuestError, Limits, Outcome
from services.executor.sandbox.watch import Watch

MAX_WASM_STACK_BYTES: Final = 512 << 10
# A loaded module holds a file descriptor: the image of its memory.
MAX_LOADED_MODULES: Final = 500
_MAX_FRAMES: Final = 16
_MAX_NAME_CHARACTERS: Final = 200

_OFF: Final = (
    "wasm_threads",
    "shared_memory",
    "wasm_memory64",
    "wasm_multi_memory",
    "wasm_gc",
    "wasm_function_references",
    "wasm_exceptions",
    "wasm_tail_call",
    "wasm_relaxed_simd",
    "wasm_simd",
    "wasm_component_model",
    "wasm_custom_page_sizes",
    "wasm_wide_arithmetic",
    "wasm_stack_switching",
    "gc_support",
    "parallel_compilation",
)
_TRAPS: Final = {
    TrapCode.UNREACHABLE: "unreachable executed",
    TrapCode.MEMORY_OUT_OF_BOUNDS: "out of bounds memory access",
    TrapCode.TABLE_OUT_OF_BOUNDS: "out of bounds table access",
    TrapCode.INDIRECT_CALL_TO_NULL: "indirect call to a null table entry",
    TrapCode.BAD_SIGNATURE: "indirect call to a function of another type",
    TrapCode.INTEGER_OVERFLOW: "integer overflow",
    TrapCode.INTEGER_DIVISION_BY_ZERO: "integer divide by zero",
    TrapCode.BAD_CONVERSION_TO_INTEGER: "conversion of a float that no integer can hold",
}
_VALUE_TYPES: Final[dict[str, Callable[[], ValType]]] = {
    "i32": ValType.i32,
    "i64": ValType.i64,
    "f32": ValType.f32,
    "f64": ValType.f64,
}


class Refused(Exception):
    """The module cannot be run; the text is safe to show and to log."""


def new_engine() -> Engine:
    """An engine for core WebAssembly and nothing else, whose guests can be interrupted.

    Memory layout, guards and traps by signals stay as they are by default: that is the configuration wasmtime is fuzzed in.
    Reference types stay on because turning them off aborts the process.
    """
    config = Config()
    config.strategy = "cranelift"
    config.epoch_interruption = True
    config.max_wasm_stack = MAX_WASM_STACK_BYTES
    for feature in _OFF:
        setattr(config, feature, False)
    return Engine(config)


@dataclass(frozen=True, slots=True)
class Program:
    """A module that is ready to be instantiated.

    Attributes:
        abi: How to talk to it.
        prepared: The module with its imports resolved.
        min_memory_bytes: The memory it has from the start.
    """

    abi: GuestAbi
    prepared: InstancePre
    min_memory_bytes: int


class Linkers:
    """Resolves imports; one linker per ABI, whose functions act for the call that runs."""

    def __init__(self, engine: Engine) -> None:
        self._linkers = {name: self._new_linker(engine, abi) for name, abi in GUEST_ABIS.items()}
        self.host: Host | None = None

    def link(self, abi: str, module: Module) -> Program:
        """Makes a module ready.

        Raises:
            Refused: It does not fit its ABI.
        """
        if abi not in GUEST_ABIS:
            raise Refused(f"there is no ABI {printable(abi)}")
        exports = {export.name: export for export in module.exports}
        contract = GUEST_ABIS[abi].contract
        there = {name: signature for name, signature in contract.optional.items() if name in exports}
        for name, signature in {**contract.exports, **there}.items():
            if not _is_function(exports.get(name), signature):
                raise Refused(f"the module does not export {name}{_spelled(signature)}")
        try:
            prepared = self._linkers[abi].instantiate_pre(module)
        except WasmtimeError as error:
            raise Refused(printable(str(error))) from None
        return Program(GUEST_ABIS[abi], prepared, _min_memory_bytes(exports.get("memory")))

    def _new_linker(self, engine: Engine, abi: GuestAbi) -> Linker:
        linker = Linker(engine)
        for (module, name), signature in abi.contract.imports.items():
            function = self._bound(abi.functions[module, name])
            linker.define_func(module, name, _func_type(signature), function, access_caller=True)
        return linker

    def _bound(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def act(caller: Caller, *arguments: Any) -> Any:
            host = self.host
            if host is None:
                raise GuestStopped
            try:
                host.check_time()
                return function(host, GuestMemory(caller, cast(Memory, caller.get("memory"))), *arguments)
            except GuestStopped:
                raise
            except Exception as error:
                raise host.stop(ErrorType.PLATFORM, f"a host function failed: {type(error).__name__}") from None

        return act


def compile_module(engine: Engine, linkers: Linkers, abi: str, wasm: bytes) -> bytes:
    """Native code of a module that fits its ABI.

    Raises:
        Refused: Wasmtime refuses it, or it does not fit.
    """
    try:
        # The text format, which wasmtime would take as well, starts with anything else.
        if not wasm.startswith(b"\0asm"):
            raise Refused("this is not a WebAssembly module")
        module = Module(engine, wasm)
    except WasmtimeError as error:
        raise Refused(printable(str(error))) from None
    linkers.link(abi, module)
    return bytes(module.serialize())


class Runner:
    """Runs calls, one at a time, each in a store of its own.

    Args:
        engine: The engine.
        watch: Stops guests.
        code_bytes: How much native code is held ready.
        sources: Time and chance for guests.
    """

    def __init__(self, engine: Engine, watch: Watch, code_bytes: int, sources: Sources) -> None:
        self._engine = engine
        self._watch = watch
        self._linkers = Linkers(engine)
        self._programs: CodeCache[Program] = CodeCache(code_bytes, MAX_LOADED_MODULES)
        self._sources = sources

    def load(self, digest: str, abi: str, code: bytes) -> None:
        """Holds a module ready. The code must come from `compile_module` of the same settings: wasmtime runs it unchecked.

        Raises:
            Refused: It does not fit.
        """
        try:
            module = Module.deserialize(self._engine, code)
        except WasmtimeError as error:
            raise Refused(printable(str(error))) from None
        self._programs.put(digest, self._linkers.link(abi, module), len(code))

    def run(self, call: Call) -> Outcome | None:
        """Runs a call to its end; None when its module is not loaded."""
        program = self._programs.get(call.digest)
        if program is None or program.abi.contract.name != call.abi:
            return None
        started = time.perf_counter_ns()
        host = Host(call.limits, lambda: self._watch.reason, self._sources, call.environment)
        answer = program.abi.begin(host, call.input)
        output, memory_bytes = self._run_in_store(program, host, call.limits, answer)
        host.streams.close()
        return Outcome(
            output=output,
            error=host.error,
            logs=tuple(host.logs),
            logs_truncated=host.logs_truncated,
            duration_us=(time.perf_counter_ns() - started) // 1000,
            memory_peak_bytes=memory_bytes,
        )

    def _run_in_store(self, program: Program, host: Host, limits: Limits, answer: Answer) -> tuple[bytes | None, int]:
        """The output, if there is one, and the size of the memory at the end. Whatever fails is noted in the host."""
        memory_limit = limits.memory_mb << 20
        if program.min_memory_bytes > memory_limit:
            host.stop(*out_of_memory(limits))
            return None, 0
        guest: Guest | None = None
        store = Store(self._engine)
        self._linkers.host = host
        try:
            # Both before instantiation, because start functions run there.
            store.set_limits(memory_limit, MAX_TABLE_ELEMENTS, instances=1, tables=1, memories=1)
            store.set_epoch_deadline(1)
            self._watch.begin(limits.timeout_ms / 1000)
            guest = Guest(store, program.prepared.instantiate(store).exports(store))
            return answer(guest), guest.memory.size
        except Exception as error:
            host.error = host.error if isinstance(error, GuestStopped) else self._error_of(error, host)
            return None, guest.memory.size if guest else program.min_memory_bytes
        finally:
            self._watch.end()
            self._linkers.host = None
            # Without this, an exception somebody keeps would keep the whole instance.
            store.close()

    def _error_of(self, error: Exception, host: Host) -> GuestError:
        if isinstance(error, Trap):
            return self._error_of_trap(error, host)
        if isinstance(error, WasmtimeError):
            return GuestError(ErrorType.TRAP, "the module cannot be instantiated: it has too many tables or too large ones")
        return GuestError(ErrorType.PLATFORM, f"the sandbox failed: {type(error).__name__}")

    def _error_of_trap(self, trap: Trap, host: Host) -> GuestError:
        code = _code_of(trap)
        if code is TrapCode.INTERRUPT:
            return GuestError(*stopped_because(self._watch.reason or "TIMEOUT", host.limits))
        if code is TrapCode.STACK_OVERFLOW:
            return GuestError(*STACK_OVERFLOW, _frames_of(trap))
        words = _TRAPS.get(code, "the function failed") if code else "the function failed"
        return GuestError(ErrorType.TRAP, words, _frames_of(trap))


def _code_of(trap: Trap) -> TrapCode | None:
    try:
        return trap.trap_code
    except ValueError:
        return None


def _frames_of(trap: Trap) -> tuple[Frame, ...]:
    """The innermost frames that have a name; of the others there is nothing to say."""
    names = [frame.func_name for frame in trap.frames[:_MAX_FRAMES]]
    return tuple(Frame(function=printable(name, _MAX_NAME_CHARACTERS)) for name in names if name)


def printable(text: str, max_characters: int = 1000) -> str:
    """A stranger's text, safe for a line on a terminal: control and other invisible characters escaped, and cut."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:max_characters])
    return f"{shown}..." if len(text) > max_characters else shown


def _func_type(signature: Signature) -> FuncType:
    return FuncType([_VALUE_TYPES[kind]() for kind in signature.params], [_VALUE_TYPES[kind]() for kind in signature.results])


def _is_function(export: ExportType | None, signature: Signature) -> bool:
    kind = export.type if export else None
    if not isinstance(kind, FuncType):
        return False
    return (tuple(map(str, kind.params)), tuple(map(str, kind.results))) == (signature.params, signature.results)


def _spelled(signature: Signature) -> str:
    return f"({', '.join(signature.params)}) -> ({', '.join(signature.results)})"


def _min_memory_bytes(export: ExportType | None) -> int:
    kind = export.type if export else None
    if not isinstance(kind, wasmtime.MemoryType):
        raise Refused("the module does not export its memory")
    return kind.limits.min * PAGE_BYTES
