"""Wasmtime's C API, on the path that every call takes. Nothing else calls it by hand.

wasmtime-py's own classes ask for a function's type at each call, make an object for each thing they touch and let other threads in
at each step: most of a call's time. Here types were checked once, when the module was linked, and calls are unchecked ones; buffers
are made once, since one thread runs guests, one after the other; and only what runs a guest's code, or may take long, lets other
threads run.

What must hold, because nobody checks it:

- A value has the type that the function's signature in `libs.common.abi` says.
- No pointer is used once its store is deleted; a memory's address not once the guest has run again, because growing may move it.
- Every trap and every error that Wasmtime hands out is deleted here, once.
- No exception leaves a callback: ctypes would drop it, and the guest go on with whatever lay in its results.
"""

import ctypes
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, NoReturn, cast

from wasmtime import Config, Engine, FuncType, InstancePre, Linker, TrapCode, WasmtimeError
from wasmtime import _ffi as c

from libs.common.abi import Signature
from services.executor.sandbox.guest import GuestMemory, Trapped
from services.executor.sandbox.host import GuestStopped, Host
from services.executor.sandbox.outcome import ErrorType

MAX_FRAMES: Final = 16

# One guest runs at a time, and a second place is for another function that is called by turns with it: each finds the image of its memory
# where it was, which spares a third of a call. A place keeps the size that its last guest grew to, though not the memory: it counts as the
# process's data, so there are no more.
SLOTS: Final = 2
# What a module may declare at most, so that it is the limits of its call that refuse it, and not the pool.
_MAX_MEMORY_BYTES: Final = 4 << 30
_MAX_TABLE_ELEMENTS: Final = 10_000_000
_MAX_INSTANCE_BYTES: Final = 256 << 20
# So much of a memory is cleared by writing; pages above go back to the kernel, at the price of a fault when they are next used. Less
# makes small guests dearer, more makes large ones dearer, which touch little of what they have: measured from 0 to 2 MiB.
_KEPT_BYTES: Final = 128 << 10
# Wasmtime's guards around a memory, which are left as they are.
_GUARD_BYTES: Final = 32 << 20
_PRIVATE: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS

_VALUE_BYTES: Final = ctypes.sizeof(c.wasmtime_val_raw_t)
_OF: Final = c.wasmtime_extern_t.of.offset
_VALUE_FORMATS: Final = {"i32": "i12x", "i64": "q8x", "f32": "f12x", "f64": "d8x"}
_MEMORY: Final = b"memory"

_POINTER: Final = ctypes.c_void_p
_SIZE: Final = ctypes.c_size_t
_I64: Final = ctypes.c_int64
_CALLBACK: Final = ctypes.CFUNCTYPE(_SIZE, _SIZE, _POINTER, _POINTER, _SIZE)

_holding: Final = ctypes.PyDLL(c.dll._name, handle=c.dll._handle)
_releasing: Final = ctypes.CDLL(c.dll._name, handle=c.dll._handle)


def _declared(library: ctypes.CDLL, name: str, result: Any, *parameters: Any) -> Any:
    """A function of the C API, with bare addresses for pointers, for which ctypes would make objects."""
    function = library[name]
    function.restype, function.argtypes = result, parameters
    return function


_store_new: Final = _declared(_holding, "wasmtime_store_new", _POINTER, _POINTER, _POINTER, _POINTER)
_store_context: Final = _declared(_holding, "wasmtime_store_context", _POINTER, _POINTER)
_store_limiter: Final = _declared(_holding, "wasmtime_store_limiter", None, _POINTER, _I64, _I64, _I64, _I64, _I64)
_set_epoch_deadline: Final = _declared(_holding, "wasmtime_context_set_epoch_deadline", None, _POINTER, ctypes.c_uint64)
_store_delete: Final = _declared(_releasing, "wasmtime_store_delete", None, _POINTER)
_instantiate: Final = _declared(_releasing, "wasmtime_instance_pre_instantiate", _POINTER, _POINTER, _POINTER, _POINTER, _POINTER)
_export_get: Final = _declared(
    _holding, "wasmtime_instance_export_get", ctypes.c_bool, _POINTER, _POINTER, ctypes.c_char_p, _SIZE, _POINTER
)
_func_call: Final = _declared(_releasing, "wasmtime_func_call_unchecked", _POINTER, _POINTER, _POINTER, _POINTER, _SIZE, _POINTER)
_memory_data: Final = _declared(_holding, "wasmtime_memory_data", _POINTER, _POINTER, _POINTER)
_memory_size: Final = _declared(_holding, "wasmtime_memory_data_size", _SIZE, _POINTER, _POINTER)
_global_get: Final = _declared(_holding, "wasmtime_global_get", None, _POINTER, _POINTER, _POINTER)
_caller_export_get: Final = _declared(_holding, "wasmtime_caller_export_get", ctypes.c_bool, _POINTER, ctypes.c_char_p, _SIZE, _POINTER)
_trap_new: Final = _declared(_holding, "wasmtime_trap_new_code", _POINTER, ctypes.c_uint8)
_error_delete: Final = _declared(_holding, "wasmtime_error_delete", None, _POINTER)
_define_func: Final = _declared(
    _holding,
    "wasmtime_linker_define_func_unchecked",
    _POINTER,
    *(_POINTER, ctypes.c_char_p, _SIZE, ctypes.c_char_p, _SIZE, _POINTER, _CALLBACK, _SIZE, _POINTER),
)


class NoRoom(Exception):
    """The process may not have the address space that guests need."""


class NotInstantiated(Exception):
    """A module declares more than its limits let it have."""


def use_pool(config: Config) -> None:
    """Has an engine keep the memory and the table of the guest that was, cleared, for the one that comes.

    Memory protection keys stay off, which they are unless asked for: there are no neighbours in the pool to be kept apart.

    Raises:
        NoRoom: The process may not have the address space. Wasmtime would abort it.
    """
    _check_room()
    pool = c.wasmtime_pooling_allocation_config_new()
    for name, value in (
        ("total_core_instances", SLOTS),
        ("total_memories", SLOTS),
        ("total_tables", SLOTS),
        ("total_stacks", 0),
        ("total_gc_heaps", 0),
        ("max_memory_size", _MAX_MEMORY_BYTES),
        ("table_elements", _MAX_TABLE_ELEMENTS),
        ("max_core_instance_size", _MAX_INSTANCE_BYTES),
        ("linear_memory_keep_resident", _KEPT_BYTES),
    ):
        getattr(c, f"wasmtime_pooling_allocation_config_{name}_set")(pool, value)
    c.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
    c.wasmtime_pooling_allocation_config_delete(pool)


def _check_room() -> None:
    tables = SLOTS * _MAX_TABLE_ELEMENTS * ctypes.sizeof(_POINTER)
    memories = SLOTS * (_MAX_MEMORY_BYTES + _GUARD_BYTES) + _GUARD_BYTES
    try:
        # What is not readable counts for the address space alone; tables count as the process's data too.
        with mmap.mmap(-1, memories, flags=_PRIVATE, prot=0), mmap.mmap(-1, tables, flags=_PRIVATE):
            pass
    except OSError as error:
        raise NoRoom(f"guests need {memories + tables >> 20} MiB of address space, {tables >> 20} of them as data: {error}") from None


@dataclass(frozen=True, slots=True)
class Export:
    """A function that can be called, looked up by name in each instance.

    Attributes:
        name: Its name.
        values: How many values its arguments and its results need.
        wide: Whether it returns an i64.
    """

    name: bytes
    values: int
    wide: bool

    @classmethod
    def of(cls, name: str, signature: Signature) -> "Export":
        """The function of this name and type, which it is known to have."""
        return cls(name.encode(), max(len(signature.params), len(signature.results)), signature.results == ("i64",))


@dataclass(frozen=True, slots=True)
class _HostFunction:
    """What is behind an import, and how its values lie in Wasmtime's array."""

    function: Callable[..., Any]
    parameters: Struct
    results: Struct
    array: Any


class Stores:
    """Makes stores, of which there is one at a time, and is what their guests' imports call.

    Args:
        engine: The engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._functions: list[_HostFunction] = []
        # It must live as long as whatever was linked to it, which runs only in stores made here.
        self._callback = _CALLBACK(self._act)
        self.running: Store | None = None
        self.engine_at = _address(engine.ptr())
        self.instance = c.wasmtime_instance_t()
        self.export = c.wasmtime_extern_t()
        self.memory = c.wasmtime_extern_t()
        self.trap = ctypes.POINTER(c.wasm_trap_t)()
        self.longs = (ctypes.c_int64 * 8)()
        self.ints = (ctypes.c_int32 * 1).from_buffer(self.longs)
        self.instance_at, self.export_at, self.memory_at, self.trap_at, self.values_at = map(
            ctypes.addressof, (self.instance, self.export, self.memory, self.trap, self.longs)
        )

    def define(self, linker: Linker, module: str, name: str, kind: FuncType, signature: Signature, function: Callable[..., Any]) -> None:
        """Has a linker resolve an import to a function, which gets the host and the memory of the guest that runs, and the arguments."""
        formats = ["<" + "".join(_VALUE_FORMATS[each] for each in them) for them in (signature.params, signature.results)]
        size = _VALUE_BYTES * max(len(signature.params), len(signature.results))
        self._functions.append(_HostFunction(function, Struct(formats[0]), Struct(formats[1]), ctypes.c_char * size))
        names = [part for text in (module.encode(), name.encode()) for part in (text, len(text))]
        index = len(self._functions) - 1
        error = _define_func(_address(linker.ptr()), *names, _address(kind.ptr()), self._callback, index, None)
        if error:
            raise WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(c.wasmtime_error_t)))

    def open(self, host: Host, memory_bytes: int, table_elements: int) -> "Store":
        """A new store, whose guest runs until the engine's epoch moves. Nothing of it may run before the last one is closed.

        Args:
            host: What its guest finds outside.
            memory_bytes: How large its memory may become.
            table_elements: How large its table may become.
        """
        self.running = Store(self, host, memory_bytes, table_elements)
        return self.running

    def delete_trap(self) -> None:
        """Deletes the trap of the last call, if there was one."""
        if self.trap:
            c.wasm_trap_delete(self.trap)
            ctypes.memset(self.trap_at, 0, ctypes.sizeof(_POINTER))

    def _act(self, index: int, caller: int, values: int, _count: int) -> int:
        """Calls a host function: 0, or the address of a trap that ends the guest."""
        store = cast(Store, self.running)
        try:
            called = self._functions[index]
            store.enter_host(caller)
            array = called.array.from_address(values)
            result = called.function(store.host, store.memory, *called.parameters.unpack_from(array))
            if called.results.size:
                called.results.pack_into(array, 0, result)
            return 0
        except BaseException as error:
            store.stop(error)
            return int(_trap_new(TrapCode.INTERRUPT.value))


class _Memory(GuestMemory):
    """The memory of the instance in a store."""

    __slots__ = ("_at", "_context", "_found")

    def __init__(self, context: int, at: int) -> None:
        self._context = context
        self._at = at
        self._found: tuple[int, int] | None = None

    def locate(self) -> tuple[int, int]:
        found = self._found
        if found is None:
            found = self._found = (_memory_data(self._context, self._at) or 0, _memory_size(self._context, self._at))
        return found

    def forget(self) -> None:
        """The guest has run: it may be somewhere else."""
        self._found = None


class Store:
    """A store and the one instance in it. It must be closed."""

    __slots__ = ("_context", "_exports", "_stopped", "_store", "_stores", "host", "memory")

    def __init__(self, stores: Stores, host: Host, memory_bytes: int, table_elements: int) -> None:
        self._stores = stores
        self._exports: Mapping[str, Export] = {}
        self._stopped = False
        self.host = host
        self._store = _store_new(stores.engine_at, None, None)
        self._context = _store_context(self._store)
        self.memory = _Memory(self._context, stores.memory_at + _OF)
        # Both before there is an instance, because start functions run while it is made.
        _store_limiter(self._store, memory_bytes, table_elements, 1, 1, 1)
        _set_epoch_deadline(self._context, 1)

    def instantiate(self, prepared: int, exports: Mapping[str, Export]) -> None:
        """Makes the instance.

        Args:
            prepared: Address of the `InstancePre`.
            exports: The functions of its ABI that it has, by name.

        Raises:
            NotInstantiated: It is refused by its limits.
            Trapped, GuestStopped: Its start function was ended.
        """
        stores = self._stores
        error = _instantiate(prepared, self._context, stores.instance_at, stores.trap_at)
        if error or stores.trap:
            self._fail(error, NotInstantiated())
        _export_get(self._context, stores.instance_at, _MEMORY, len(_MEMORY), stores.memory_at)
        self.memory.forget()
        self._exports = exports

    def close(self) -> None:
        """Deletes the store and all that is in it."""
        self._stores.running = None
        _store_delete(self._store)

    def exports(self, name: str) -> bool:
        return name in self._exports

    def call(self, name: str, *arguments: int) -> int:
        stores, export = self._stores, self._exports[name]
        longs = stores.longs
        place = 0
        for argument in arguments:
            # A value takes two of these; an i32 is the lower half of the first.
            longs[place] = argument
            place += 2
        _export_get(self._context, stores.instance_at, export.name, len(export.name), stores.export_at)
        error = _func_call(self._context, stores.export_at + _OF, stores.values_at, export.values, stores.trap_at)
        self.memory.forget()
        if error or stores.trap:
            self._fail(error, Trapped(None))
        return longs[0] if export.wide else stores.ints[0]

    def run(self, name: str) -> None:
        self.call(name)

    def number(self, name: str) -> int | None:
        stores, encoded, value = self._stores, name.encode(), c.wasmtime_val_t()
        if not _export_get(self._context, stores.instance_at, encoded, len(encoded), stores.export_at):
            return None
        # As the bindings declare kinds, mypy takes them for objects of ctypes; they are numbers.
        if cast(int, stores.export.kind) != c.WASMTIME_EXTERN_GLOBAL.value:
            return None
        _global_get(self._context, stores.export_at + _OF, ctypes.addressof(value))
        numbers = {c.WASMTIME_I32.value: value.of.i32, c.WASMTIME_I64.value: value.of.i64}
        return numbers.get(cast(int, value.kind))

    def enter_host(self, caller: int) -> None:
        """The guest calls the host: whatever was known of its memory no longer holds, and in a start function nothing is known yet."""
        if not self._exports:
            _caller_export_get(caller, _MEMORY, len(_MEMORY), self._stores.memory_at)
        self.memory.forget()
        self.host.check_time()

    def stop(self, error: BaseException) -> None:
        """A host function ends the guest; an error that it did not mean is ours."""
        if not isinstance(error, GuestStopped):
            self.host.stop(ErrorType.PLATFORM, f"a host function failed: {type(error).__name__}")
        self._stopped = True

    def _fail(self, error: int | None, otherwise: Exception) -> NoReturn:
        """Raises what a call came to that did not return, and deletes what Wasmtime says about it.

        Args:
            error: Address of an error, if there is one. Otherwise there is a trap.
            otherwise: What an error means.
        """
        if error:
            _error_delete(error)
        try:
            if self._stopped:
                raise GuestStopped
            raise otherwise if error else _trapped(self._stores.trap)
        finally:
            self._stopped = False
            self._stores.delete_trap()


def prepared_address(prepared: InstancePre) -> int:
    """Where `Store.instantiate` finds it, for as long as it lives."""
    return _address(prepared.ptr())


def _address(pointer: Any) -> int:
    return ctypes.addressof(pointer.contents)


def _trapped(trap: Any) -> Trapped:
    code = ctypes.c_uint8()
    known = c.wasmtime_trap_code(trap, ctypes.byref(code))
    return Trapped(_code(code.value) if known else None, _functions(trap))


def _code(value: int) -> TrapCode | None:
    try:
        return TrapCode(value)
    except ValueError:
        return None


def _functions(trap: Any) -> tuple[str, ...]:
    """Of the innermost frames those that have a name; of the others there is nothing to say."""
    frames = c.wasm_frame_vec_t()
    c.wasm_trap_trace(trap, ctypes.byref(frames))
    try:
        names = [c.wasmtime_frame_func_name(frames.data[number]) for number in range(min(frames.size, MAX_FRAMES))]
        texts = [ctypes.string_at(name.contents.data, name.contents.size).decode() for name in names if name]
    finally:
        c.wasm_frame_vec_delete(ctypes.byref(frames))
    return tuple(text for text in texts if text)
