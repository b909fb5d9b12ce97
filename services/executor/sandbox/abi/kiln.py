"""Kiln's own ABI: UTF-8 behind a pointer and a size, for whatever compiles to functions and a memory.

Modules that link a C library are reactors and get WASI too: what they print are log lines, and there is nothing to read.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from wasmtime import TrapCode

from libs.common.abi import KILN
from services.executor.sandbox import output
from services.executor.sandbox.abi import wasi
from services.executor.sandbox.guest import Guest, GuestMemory, OutOfBounds, Trapped
from services.executor.sandbox.host import STACK_OVERFLOW, GuestStopped, Host, out_of_memory
from services.executor.sandbox.lines import Lines
from services.executor.sandbox.outcome import ErrorType, Level
from services.executor.sandbox.streams import Streams

CONTRACT: Final = KILN

_MAX_MESSAGE_BYTES: Final = 8 << 10
# As compilers call the global that tells where the stack of a guest ends.
_STACK_POINTER: Final = "__stack_pointer"
# No environment has a longer name.
_MAX_NAME_BYTES: Final = 4 << 10
_U32: Final = 0xFFFF_FFFF
_U64: Final = 0xFFFF_FFFF_FFFF_FFFF
_LEVELS: Final = {0: Level.DEBUG, 1: Level.INFO, 2: Level.WARN, 3: Level.ERROR}


def begin(host: Host, text: bytes) -> Callable[[Guest], bytes]:
    """A call of `handle`. What it returns ends a guest without a valid output by `GuestStopped`."""
    host.streams = Streams(output=Lines(host, Level.INFO), errors=Lines(host, Level.ERROR))
    return partial(_handle, host, text)


def _handle(host: Host, text: bytes, guest: Guest) -> bytes:
    if guest.exports("_initialize"):
        guest.run("_initialize")
    pointer = _new_text(guest, host, text)
    try:
        packed = guest.call("handle", pointer, len(text)) & _U64
    except Trapped as trap:
        if _is_below_its_stack(guest, trap):
            raise host.stop(*STACK_OVERFLOW) from None
        raise
    return _result(guest.memory, host, packed >> 32, packed & _U32)


def _is_below_its_stack(guest: Guest, trap: Trapped) -> bool:
    """Whether a guest has used up the stack for its variables, which lies at the lowest addresses and grows towards them."""
    top = guest.number(_STACK_POINTER)
    return top is not None and top < 0 and trap.code is TrapCode.MEMORY_OUT_OF_BOUNDS


def _new_text(guest: Guest, host: Host, text: bytes) -> int:
    pointer = guest.call("kiln_alloc", len(text))
    if not pointer:
        raise host.stop(*out_of_memory(host.limits))
    try:
        guest.memory.write(pointer, text)
    except OutOfBounds:
        raise host.stop(ErrorType.TRAP, "the function's kiln_alloc returned an address outside of its memory") from None
    return pointer


def _result(memory: GuestMemory, host: Host, pointer: int, size: int) -> bytes:
    output.check_size(host, size)
    try:
        result = memory.read(pointer, size)
    except OutOfBounds:
        raise host.stop(ErrorType.INVALID_OUTPUT, "the function returned an address outside of its memory") from None
    output.check_json(host, result)
    return result


def _fail(host: Host, memory: GuestMemory, message: int, size: int) -> None:
    said = memory.text(message, size, _MAX_MESSAGE_BYTES)[0]
    raise host.stop(ErrorType.ABORT, said or "the function failed")


def _out_of_memory(host: Host, _memory: GuestMemory) -> None:
    raise host.stop(*out_of_memory(host.limits))


def _log(host: Host, memory: GuestMemory, level: int, message: int, size: int) -> None:
    room = host.log_room
    text, cut = memory.text(message, size, room) if room else ("", bool(size))
    host.log(_LEVELS.get(level, Level.INFO), text, cut=cut)


def _now_ms(host: Host, _memory: GuestMemory) -> int:
    return host.now_ms()


def _random(host: Host, memory: GuestMemory, buffer: int, size: int) -> None:
    try:
        wasi.fill_with_random(host, memory, buffer, size)
    except OutOfBounds:
        raise _outside(host, "random") from None


def _env_get(host: Host, memory: GuestMemory, name: int, name_size: int, buffer: int, capacity: int) -> int:
    try:
        value = _value(host, memory, name, name_size & _U32)
        if value is None:
            return -1
        if len(value) <= capacity & _U32:
            memory.write(buffer, value)
    except OutOfBounds:
        raise _outside(host, "env_get") from None
    return len(value)


def _value(host: Host, memory: GuestMemory, name: int, size: int) -> bytes | None:
    if size > _MAX_NAME_BYTES:
        return None
    value = host.environment.get(memory.read(name, size).decode(errors="replace"))
    return None if value is None else value.encode()


def _outside(host: Host, function: str) -> GuestStopped:
    """There is no errno here, and a buffer left as it was would go unnoticed."""
    return host.stop(ErrorType.TRAP, f"the function gave {function} an address outside of its memory")


IMPORTS: Final[Mapping[tuple[str, str], Callable[..., Any]]] = {
    ("kiln", "fail"): _fail,
    ("kiln", "out_of_memory"): _out_of_memory,
    ("kiln", "log"): _log,
    ("kiln", "now_ms"): _now_ms,
    ("kiln", "random"): _random,
    ("kiln", "env_get"): _env_get,
}
FUNCTIONS: Final[Mapping[tuple[str, str], Callable[..., Any]]] = {**IMPORTS, **wasi.FUNCTIONS}
