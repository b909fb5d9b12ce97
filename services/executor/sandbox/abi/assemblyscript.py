"""AssemblyScript: strings are UTF-16LE, and their size in bytes stands in the four bytes before them.

Sources: the runtime layout page of AssemblyScript's documentation, and `std/assembly/bindings` of assemblyscript 0.28.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from libs.common.abi import ASSEMBLYSCRIPT
from services.executor.sandbox import output
from services.executor.sandbox.guest import Guest, GuestMemory, OutOfBounds
from services.executor.sandbox.host import STACK_OVERFLOW, Host, out_of_memory
from services.executor.sandbox.outcome import ErrorType, Frame, Level

CONTRACT: Final = ASSEMBLYSCRIPT

_STRING_CLASS: Final = 2
_MAX_MESSAGE_UNITS: Final = 8 << 10
_MAX_NAME_UNITS: Final = 512
# The allocator and the collector give up only when memory cannot grow, or never could hold what is asked for.
_ALLOCATOR_FILES: Final = frozenset({"~lib/rt/tlsf.ts", "~lib/rt/itcms.ts"})
# The compiler checks its own stack of references too. Its texts for that check are made after the data segments, so they are empty.
_STACK_CHECK_PLACE: Final = (1, 1)


def begin(host: Host, text: bytes) -> Callable[[Guest], bytes]:
    """A call of `handle(input: string): string`. What it returns ends a guest without a valid output by `GuestStopped`."""
    return partial(_handle, host, text)


def _handle(host: Host, text: bytes, guest: Guest) -> bytes:
    pointer = _new_string(guest, host, text.decode().encode("utf-16-le"))
    return _result(guest.memory, host, guest.call("handle", pointer))


def _new_string(guest: Guest, host: Host, utf16: bytes) -> int:
    pointer = guest.call("__new", len(utf16), _STRING_CLASS)
    guest.call("__pin", pointer)
    try:
        guest.memory.write(pointer, utf16)
    except OutOfBounds:
        raise host.stop(ErrorType.TRAP, "the function's __new returned an address outside of its memory") from None
    return pointer


def _result(memory: GuestMemory, host: Host, pointer: int) -> bytes:
    if not pointer:
        raise host.stop(ErrorType.INVALID_OUTPUT, "the function returned null instead of a string")
    try:
        size = memory.read_u32(pointer - 4)
        # A UTF-16 unit is at least one byte of UTF-8, so this spares copying what is too large anyway.
        output.check_size(host, size // 2)
        result = memory.read(pointer, size).decode("utf-16-le").encode()
    except OutOfBounds:
        raise host.stop(ErrorType.INVALID_OUTPUT, "the function returned an address that is no string") from None
    except UnicodeDecodeError:
        raise host.stop(ErrorType.INVALID_OUTPUT, "the output is not valid UTF-16: it has half of a surrogate pair") from None
    output.check_size(host, len(result))
    output.check_json(host, result)
    return result


def _text(memory: GuestMemory, pointer: int, max_units: int) -> tuple[str, bool]:
    """The beginning of a string for people, and whether it goes on. Whatever is wrong with it becomes replacement characters."""
    if not pointer:
        return "", False
    try:
        size = memory.read_u32(pointer - 4)
        kept = memory.read(pointer, min(size, 2 * max_units))
    except OutOfBounds:
        return "\N{REPLACEMENT CHARACTER}", False
    return kept.decode("utf-16-le", errors="replace"), size > 2 * max_units


def _abort(host: Host, memory: GuestMemory, message: int, file: int, line: int, column: int) -> None:
    name = _text(memory, file, _MAX_NAME_UNITS)[0]
    if name in _ALLOCATOR_FILES:
        raise host.stop(*out_of_memory(host.limits))
    said = _text(memory, message, _MAX_MESSAGE_UNITS)[0]
    if not name and not said and (line, column) == _STACK_CHECK_PLACE:
        raise host.stop(*STACK_OVERFLOW)
    raise host.stop(ErrorType.ABORT, said or "abort", (Frame(file=name, line=line & 0xFFFF_FFFF, column=column & 0xFFFF_FFFF),))


def _exit(host: Host, _memory: GuestMemory, code: int) -> None:
    raise host.stop(ErrorType.EXIT, f"the function called process.exit({code})")


def _environment(host: Host) -> bytes:
    """What a guest is told: names and values by turns, each ended by a NUL, which neither has."""
    return "".join(f"{name}\0{value}\0" for name, value in host.environment.items()).encode("utf-16-le")


def _env_size(host: Host, _memory: GuestMemory) -> int:
    return len(_environment(host))


def _env_read(host: Host, memory: GuestMemory, pointer: int) -> None:
    try:
        memory.write(pointer, _environment(host))
    except OutOfBounds:
        raise host.stop(ErrorType.TRAP, "the function gave process.env.read an address outside of its memory") from None


def _log(level: Level, host: Host, memory: GuestMemory, message: int, prefix: str = "", suffix: str = "") -> None:
    room = host.log_room
    text, cut = _text(memory, message, room) if room else ("", bool(message))
    host.log(level, f"{prefix}{text}{suffix}", cut=cut)


def _trace(host: Host, memory: GuestMemory, message: int, count: int, *numbers: float) -> None:
    shown = ", ".join(_number(number) for number in numbers[: max(0, count)])
    _log(Level.DEBUG, host, memory, message, suffix=f" {shown}" if shown else "")


def _number(number: float) -> str:
    """As JavaScript prints the numbers that people trace."""
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else f"{'-' if number < 0 else ''}Infinity"
    return str(int(number)) if number.is_integer() and abs(number) < 1e21 else repr(number)


def _assert(host: Host, memory: GuestMemory, condition: int, message: int) -> None:
    if not condition:
        _log(Level.ERROR, host, memory, message, prefix="Assertion failed: ")


def _time(host: Host, memory: GuestMemory, label: int) -> None:
    host.start_timer(_text(memory, label, _MAX_NAME_UNITS)[0])


def _time_log(stop: bool, host: Host, memory: GuestMemory, label: int) -> None:
    name = _text(memory, label, _MAX_NAME_UNITS)[0]
    elapsed = host.read_timer(name, stop=stop)
    if elapsed is None:
        host.log(Level.WARN, f"Timer '{name}' does not exist")
    else:
        host.log(Level.INFO, f"{name}: {elapsed}ms")


def _seed(host: Host, _memory: GuestMemory) -> float:
    # 53 bits are what a double holds exactly; zero would be the one bad seed.
    return float((int.from_bytes(host.random(7), "little") >> 3) | 1)


def _now(host: Host, _memory: GuestMemory) -> float:
    return float(host.now_ms())


def _performance_now(host: Host, _memory: GuestMemory) -> float:
    return float(host.elapsed_ms())


FUNCTIONS: Final[Mapping[tuple[str, str], Callable[..., Any]]] = {
    ("env", "abort"): _abort,
    ("env", "trace"): _trace,
    ("env", "seed"): _seed,
    ("env", "Date.now"): _now,
    ("env", "performance.now"): _performance_now,
    ("env", "process.exit"): _exit,
    ("env", "process.env.size"): _env_size,
    ("env", "process.env.read"): _env_read,
    ("env", "console.assert"): _assert,
    ("env", "console.log"): partial(_log, Level.INFO),
    ("env", "console.debug"): partial(_log, Level.DEBUG),
    ("env", "console.info"): partial(_log, Level.INFO),
    ("env", "console.warn"): partial(_log, Level.WARN),
    ("env", "console.error"): partial(_log, Level.ERROR),
    ("env", "console.time"): _time,
    ("env", "console.timeLog"): partial(_time_log, False),
    ("env", "console.timeEnd"): partial(_time_log, True),
}
