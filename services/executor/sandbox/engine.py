"""Wasmtime: which WebAssembly Kiln runs, how it is made native, and one call in a fresh store.

The guest's types are looked at only in modules that this engine's settings let through: those have no vector types, at whose
mere sight wasmtime-py aborts the process.
"""

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import BinaryIO, Final

import wasmtime
from wasmtime import Config, Engine, ExportType, FuncType, InstancePre, Linker, Module, TrapCode, ValType, WasmtimeError

from libs.common.abi import MAX_TABLE_ELEMENTS, Signature
from services.executor.sandbox.abi import GUEST_ABIS, Answer, GuestAbi
from services.executor.sandbox.guest import PAGE_BYTES, Trapped
from services.executor.sandbox.host import STACK_OVERFLOW, GuestStopped, Host, Sources, out_of_memory, stopped_because
from services.executor.sandbox.native import CodeCache
from services.executor.sandbox.outcome import Call, ErrorType, Frame, GuestError, Limits, Outcome
from services.executor.sandbox.wasmtime_c import Export, NotInstantiated, Stores, prepared_address, use_pool
from services.executor.sandbox.watch import Watch

MAX_WASM_STACK_BYTES: Final = 512 << 10
# A loaded module holds a file descriptor: the image of its memory.
MAX_LOADED_MODULES: Final = 500
_MAX_NAME_CHARACTERS: Final = 200
_HEADER: Final = b"\0asm\1\0\0\0"
_TABLE_SECTION: Final = 4

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


def guest_config() -> Config:
    """Core WebAssembly and nothing else, whose guests can be interrupted: all that native code depends on.

    Memory layout, guards and traps by signals stay as they are by default: that is the configuration wasmtime is fuzzed in.
    Reference types stay on because turning them off aborts the process.
    """
    config = Config()
    config.strategy = "cranelift"
    config.epoch_interruption = True
    config.max_wasm_stack = MAX_WASM_STACK_BYTES
    for feature in _OFF:
        setattr(config, feature, False)
    return config


def new_compiler() -> Engine:
    """An engine that makes native code and runs none of it."""
    return Engine(guest_config())


def fingerprint(engine: Engine) -> str:
    """Names all that native code depends on: code that is made under one name must not be run under another.

    Wasmtime writes its version, the engine's settings and the features of this processor into what it makes, even of nothing. What a
    guest may import, and must export, is ours.
    """
    made = hashlib.sha256(version("wasmtime").encode())
    made.update(Module(engine, _HEADER).serialize())
    for name in sorted(GUEST_ABIS):
        made.update(repr(GUEST_ABIS[name].contract).encode())
    return made.hexdigest()


def new_engine() -> Engine:
    """An engine for guests, with a pool for one at a time; it takes the code that `new_compiler` makes.

    Raises:
        NoRoom: The process may not have the address space that a guest needs.
    """
    config = guest_config()
    use_pool(config)
    return Engine(config)


@dataclass(frozen=True, slots=True)
class Program:
    """A module that is ready to be instantiated.

    Attributes:
        abi: How to talk to it.
        prepared: The module with its imports resolved.
        prepared_at: Its address.
        exports: The functions of its ABI that it has, by name.
        min_memory_bytes: The memory it has from the start.
    """

    abi: GuestAbi
    prepared: InstancePre
    prepared_at: int
    exports: Mapping[str, Export]
    min_memory_bytes: int


class Linkers:
    """Resolves imports; one linker per ABI, whose functions act for the call that runs.

    Attributes:
        stores: Where what was linked here runs.
    """

    def __init__(self, engine: Engine) -> None:
        self.stores = Stores(engine)
        self._linkers = {name: self._new_linker(engine, abi) for name, abi in GUEST_ABIS.items()}

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
        wanted = {**contract.exports, **there}
        for name, signature in wanted.items():
            if not _is_function(exports.get(name), signature):
                raise Refused(f"the module does not export {name}{_spelled(signature)}")
        memory_bytes = _min_memory_bytes(exports.get("memory"))
        try:
            prepared = self._linkers[abi].instantiate_pre(module)
        except WasmtimeError as error:
            raise Refused(printable(str(error))) from None
        functions = {name: Export.of(name, signature) for name, signature in wanted.items()}
        return Program(GUEST_ABIS[abi], prepared, prepared_address(prepared), functions, memory_bytes)

    def _new_linker(self, engine: Engine, abi: GuestAbi) -> Linker:
        linker = Linker(engine)
        for (module, name), signature in abi.contract.imports.items():
            self.stores.define(linker, module, name, _func_type(signature), signature, abi.functions[module, name])
        return linker


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
    if (tables := _count_tables(wasm)) > 1:
        raise Refused(f"the module has {tables} tables, and may have one")
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

    def load_file(self, digest: str, abi: str, file: BinaryIO) -> None:
        """The same of a file that never changes: it is mapped, and nothing of it copied.

        Raises:
            Refused: It does not fit.
        """
        size = os.fstat(file.fileno()).st_size
        try:
            module = Module.deserialize_file(self._engine, f"/proc/self/fd/{file.fileno()}")
        except WasmtimeError:
            # Not every container shows a process its own files.
            self.load(digest, abi, os.pread(file.fileno(), size, 0))
        else:
            self._programs.put(digest, self._linkers.link(abi, module), size)

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
        output, memory_bytes = None, program.min_memory_bytes
        store = self._linkers.stores.open(host, memory_limit, MAX_TABLE_ELEMENTS)
        try:
            self._watch.begin(limits.timeout_ms / 1000)
            store.instantiate(program.prepared_at, program.exports)
            try:
                output = answer(store)
            finally:
                memory_bytes = store.memory.size
        except GuestStopped:
            pass
        except Exception as error:
            host.error = self._error_of(error, host)
        finally:
            self._watch.end()
            store.close()
        return output, memory_bytes

    def _error_of(self, error: Exception, host: Host) -> GuestError:
        if isinstance(error, Trapped):
            return self._error_of_trap(error, host)
        if isinstance(error, NotInstantiated):
            return GuestError(ErrorType.TRAP, "the module cannot be instantiated: it has too many tables or too large ones")
        return GuestError(ErrorType.PLATFORM, f"the sandbox failed: {type(error).__name__}")

    def _error_of_trap(self, trap: Trapped, host: Host) -> GuestError:
        if trap.code is TrapCode.INTERRUPT:
            return GuestError(*stopped_because(self._watch.reason or "TIMEOUT", host.limits))
        stack = tuple(Frame(function=printable(name, _MAX_NAME_CHARACTERS)) for name in trap.functions)
        if trap.code is TrapCode.STACK_OVERFLOW:
            return GuestError(*STACK_OVERFLOW, stack)
        words = _TRAPS.get(trap.code, "the function failed") if trap.code else "the function failed"
        return GuestError(ErrorType.TRAP, words, stack)


def printable(text: str, max_characters: int = 1000) -> str:
    """A stranger's text, safe for a line on a terminal: control and other invisible characters escaped, and cut."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:max_characters])
    return f"{shown}..." if len(text) > max_characters else shown


def _count_tables(wasm: bytes) -> int:
    """How many tables a valid module defines. The pool would refuse more than one, but only when the code is loaded into a worker."""
    at = len(_HEADER)
    while at < len(wasm):
        section, (size, at) = wasm[at], _unsigned(wasm, at + 1)
        if section == _TABLE_SECTION:
            return _unsigned(wasm, at)[0]
        at += size
    return 0


def _unsigned(wasm: bytes, at: int) -> tuple[int, int]:
    """A number in LEB128, and where it ends."""
    value = shift = 0
    while True:
        byte = wasm[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


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
