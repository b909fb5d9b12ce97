"""The trusted check of a build's artifact: a WebAssembly binary parser of our own, in Python only.

Compilers work on hostile input, so nothing they leave behind is believed. wasmtime-py aborts the whole process when it merely
looks at some types (v128 in a signature), hence this parser reads an artifact before any engine does. It reads every declaration;
the instructions of functions stay unread, since the engine validates them when the module is compiled.

Source: the binary format of the WebAssembly core specification, chapter 5.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from libs.common.abi import MAX_TABLE_ELEMENTS, Abi, Signature

Code = Literal["MALFORMED", "TOO_LARGE", "UNKNOWN_IMPORT", "INVALID_ABI", "UNSUPPORTED_FEATURE"]

# What the executor's sandbox is built for; one memory and one table a module.
MAX_FUNCTIONS: Final = 50_000
MAX_MEMORY_PAGES: Final = 512 * 1024 * 1024 // 65_536
MAX_LOCALS: Final = 50_000  # of one function; engines stop here too
# Types, parameters, exports, locals and so on, all together: it bounds the time of the check, at a few microseconds each.
MAX_ENTRIES: Final = 500_000

_HEADER: Final = b"\0asm\x01\0\0\0"
_NUMERIC: Final[dict[int, str]] = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64"}
_REFUSED: Final[dict[int, str]] = {0x7B: "v128", 0x70: "funcref", 0x6F: "externref", 0x64: "ref", 0x63: "ref null"}
_FUNCREF: Final = 0x70
# Into memory 0, to a constant address below 2^27, of fewer than 2^14 bytes: flags, i32.const, the address, end, the size.
_PLAIN_SEGMENT: Final = re.compile(rb"\x00\x41[\x80-\xff]{0,3}[\x00-\x7f]\x0b[\x80-\xff]?[\x00-\x7f]", re.DOTALL)
_END: Final = 0x0B
_FUNCTION, _TABLE, _MEMORY, _GLOBAL, _TAG = range(5)
_KINDS: Final = {_FUNCTION: "function", _TABLE: "table", _MEMORY: "memory", _GLOBAL: "global", _TAG: "tag"}


class UnusableModule(Exception):
    """The module cannot be run here.

    Attributes:
        code: Stable word: MALFORMED (no module at all), TOO_LARGE (passes a limit), UNKNOWN_IMPORT, INVALID_ABI (an export is
            missing or of another type), UNSUPPORTED_FEATURE (a proposal that the sandbox leaves off).
        message: For the person who wrote the function; names the import, export or number.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class FunctionType:
    """A signature as found; `params` and `results` hold type names, also of types that are refused."""

    params: tuple[str, ...]
    results: tuple[str, ...]

    def __str__(self) -> str:
        return f"({', '.join(self.params)}) -> ({', '.join(self.results)})"


@dataclass(frozen=True, slots=True)
class Import:
    """One import: where from, of which kind, and for a function its type's index."""

    module: str
    name: str
    kind: int
    type_index: int


@dataclass(slots=True)
class Module:
    """What a module declares, in the index spaces of the specification. Only the function space begins with imports."""

    types: list[FunctionType] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    tables: int = 0
    memories: int = 0
    globals: list[str] = field(default_factory=list)
    exports: dict[str, tuple[int, int]] = field(default_factory=dict)
    start: int | None = None
    elements: int = 0
    data_count: int | None = None
    data: int = 0
    bodies: int = 0

    def function_type(self, index: int) -> FunctionType:
        """Type of the function at an index of the function space (imports first)."""
        return self.types[self.functions[index]]


def check(wasm: bytes, abi: Abi, *, max_bytes: int) -> None:
    """Accepts a module that the sandbox can run under an ABI, and nothing else.

    Args:
        wasm: The artifact, as the compiler left it.
        abi: What must be exported and may be imported.
        max_bytes: Largest artifact that is accepted.

    Raises:
        UnusableModule: The module is malformed, too large, or asks for what the sandbox does not give. No other error is raised,
            whatever the bytes.
    """
    if len(wasm) > max_bytes:
        raise UnusableModule("TOO_LARGE", f"the compiled module has {len(wasm)} bytes, the limit is {max_bytes}")
    module = parse(wasm)
    _check_imports(module, abi)
    _check_exports(module)
    _check_required(module, abi)
    _check_optional(module, abi)
    _check_types(module)


def parse(wasm: bytes) -> Module:
    """Reads the declarations of a module.

    Raises:
        UnusableModule: Sizes, counts, indices or order do not hold, or a refused proposal shows.
    """
    if wasm[: len(_HEADER)] != _HEADER:
        raise UnusableModule("MALFORMED", "this is not a WebAssembly module: its magic number or version is missing")
    module = Module()
    reader = _Reader(wasm, len(_HEADER), len(wasm), _Budget())
    last = -1
    while not reader.done:
        section = reader.byte()
        body = reader.part(reader.u32())
        if section == 0:
            body.name()
            continue
        rank, name, read = _section(section)
        if rank <= last:
            raise _malformed(f"the {name} section is out of order or there twice")
        last = rank
        read(body, module)
        if not body.done:
            raise _malformed(f"the {name} section is longer than its contents")
    _check_counts(module)
    return module


def missing_exports(module: Module, abi: Abi) -> list[str]:
    """The functions, of whatever type, that an ABI asks for and a module does not export, in the order of the ABI."""
    return [name for name in abi.exports if module.exports.get(name, (None, 0))[0] != _FUNCTION]


@dataclass(slots=True)
class _Budget:
    """How many entries may still be read; shared by all readers of one module."""

    left: int = MAX_ENTRIES


class _Reader:
    """A cursor over a stretch of bytes that refuses to run over its end."""

    __slots__ = ("_budget", "_data", "_end", "_position")

    def __init__(self, data: bytes, start: int, end: int, budget: _Budget) -> None:
        self._data = data
        self._position = start
        self._end = end
        self._budget = budget

    @property
    def done(self) -> bool:
        return self._position == self._end

    @property
    def left(self) -> int:
        return self._end - self._position

    def byte(self) -> int:
        if self._position >= self._end:
            raise _malformed("it ends in the middle of something")
        value = self._data[self._position]
        self._position += 1
        return value

    def u32(self) -> int:
        """An unsigned LEB128 number of at most five bytes, whose unused bits are zero. Linkers pad, so padding is legal."""
        # Most are of one byte, and there are a hundred thousand in a large module.
        if self._position < self._end and (first := self._data[self._position]) < 0x80:
            self._position += 1
            return first
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > 0xFFFF_FFFF:
                    raise _malformed("a number is larger than 32 bits")
                return value
        raise _malformed("a number is encoded in too many bytes")

    def skip_signed(self, bits: int) -> None:
        """Passes over a signed LEB128 number of so many bits, whose unused bits repeat the sign."""
        longest = -(-bits // 7)
        for count in range(1, longest + 1):
            byte = self.byte()
            if byte < 0x80:
                spare = byte >> (bits - 7 * (longest - 1) - 1)
                if count == longest and spare not in (0, 0x7F >> (bits - 7 * (longest - 1) - 1)):
                    raise _malformed(f"a number is larger than {bits} bits")
                return
        raise _malformed("a number is encoded in too many bytes")

    def count(self, what: str, limit: int | None = None) -> int:
        """The length of a vector. Each entry takes a byte or more, so that a count beyond the section's end is a lie."""
        count = self.u32()
        if limit is not None and count > limit:
            raise UnusableModule("TOO_LARGE", f"the module has {count} {what}, the limit is {limit}")
        if count > self.left:
            raise _malformed(f"it counts more {what} than fit in their section")
        self._budget.left -= count
        if self._budget.left < 0:
            raise UnusableModule("TOO_LARGE", f"the module declares more than {MAX_ENTRIES} things")
        return count

    def skip(self, size: int) -> None:
        if size > self.left:
            raise _malformed("it ends in the middle of something")
        self._position += size

    def part(self, size: int) -> "_Reader":
        """The next bytes as a reader of their own."""
        start = self._position
        self.skip(size)
        return _Reader(self._data, start, start + size, self._budget)

    def skip_plain_segment(self) -> bool:
        """Passes over a data segment, if it is of the form that linkers write most; there are tens of thousands in a module of Go's."""
        head = _PLAIN_SEGMENT.match(self._data, self._position, self._end)
        if head is None:
            return False
        after = head.end()
        low, high = self._data[after - 2], self._data[after - 1]
        # The size takes two bytes when the first has the highest bit, which the expression's end has not.
        after += (low & 0x7F | high << 7) if low > 0x7F else high
        if after > self._end:
            return False
        self._position = after
        return True

    def last(self) -> int:
        """The final byte of this stretch, unread."""
        return self._data[self._end - 1]

    def name(self) -> str:
        size = self.u32()
        start = self._position
        self.skip(size)
        try:
            return self._data[start : start + size].decode()
        except UnicodeDecodeError:
            raise _malformed("a name is not UTF-8") from None


def _malformed(what: str) -> UnusableModule:
    return UnusableModule("MALFORMED", f"this is not a valid WebAssembly module: {what}")


def _unsupported(what: str) -> UnusableModule:
    return UnusableModule("UNSUPPORTED_FEATURE", f"{what} not supported here")


def _invalid_export(name: str, what: str) -> UnusableModule:
    return UnusableModule("INVALID_ABI", f"export {_quote(name)} {what}")


def _quote(name: str) -> str:
    """A guest's name on one line of plain ASCII, cut to a length that fits a message."""
    return json.dumps(name if len(name) <= 100 else name[:100] + "...")


def _section(number: int) -> tuple[int, str, Callable[[_Reader, Module], None]]:
    try:
        return _SECTIONS[number]
    except KeyError:
        if number == 13:
            raise _unsupported("exception tags are") from None
        raise _malformed(f"section {number} is unknown") from None


def _value_type(reader: _Reader) -> str:
    byte = reader.byte()
    name = _NUMERIC.get(byte) or _REFUSED.get(byte)
    if name is None:
        raise _unsupported(f"value type 0x{byte:02x} is")
    if name.startswith("ref"):
        reader.skip_signed(33)
    return name


def _numeric_type(reader: _Reader, where: str) -> str:
    name = _value_type(reader)
    if name not in _NUMERIC.values():
        raise _unsupported(f"{name} in {where} is")
    return name


def _index(reader: _Reader, size: int, what: str) -> int:
    index = reader.u32()
    if index >= size:
        raise _malformed(f"{what} {index} does not exist")
    return index


def _limits(reader: _Reader, what: str) -> tuple[int, int | None]:
    """Minimum and maximum of a memory or table; only the two forms of the first version of WebAssembly."""
    flags = reader.byte()
    if flags not in (0, 1):
        raise _unsupported(f"a shared, 64-bit or custom-page {what} is")
    least = reader.u32()
    most = reader.u32() if flags else None
    if most is not None and most < least:
        raise _malformed(f"a {what} has a maximum below its minimum")
    return least, most


def _skip_constant(reader: _Reader, module: Module) -> None:
    """Passes over a constant expression: one constant, one global or one function reference, and the end."""
    opcode = reader.byte()
    match opcode:
        case 0x41:
            reader.skip_signed(32)
        case 0x42:
            reader.skip_signed(64)
        case 0x43:
            reader.skip(4)
        case 0x44:
            reader.skip(8)
        case 0x23:
            _index(reader, len(module.globals), "global")
        case 0xD0:
            if reader.byte() != _FUNCREF:
                raise _unsupported("a reference to anything but a function is")
        case 0xD2:
            _index(reader, len(module.functions), "function")
        case _:
            raise _unsupported(f"opcode 0x{opcode:02x} in a constant expression is")
    if reader.byte() != _END:
        raise _unsupported("a constant expression of several instructions is")


def _read_types(reader: _Reader, module: Module) -> None:
    for _ in range(reader.count("types")):
        form = reader.byte()
        if form != 0x60:
            raise _unsupported(f"type form 0x{form:02x} (garbage-collected or recursive types) is")
        params = tuple(_value_type(reader) for _ in range(reader.count("parameters", 1_000)))
        results = tuple(_value_type(reader) for _ in range(reader.count("results", 1_000)))
        module.types.append(FunctionType(params, results))


def _read_imports(reader: _Reader, module: Module) -> None:
    for _ in range(reader.count("imports", MAX_FUNCTIONS)):
        source, name, kind = reader.name(), reader.name(), reader.byte()
        if kind != _FUNCTION:
            what = _KINDS.get(kind, "thing")
            raise UnusableModule("UNKNOWN_IMPORT", f"unknown import {_quote(source)}.{_quote(name)}: a {what} cannot be imported")
        index = _index(reader, len(module.types), "type")
        module.imports.append(Import(source, name, kind, index))
        module.functions.append(index)


def _read_functions(reader: _Reader, module: Module) -> None:
    for _ in range(reader.count("functions", MAX_FUNCTIONS - len(module.functions))):
        module.functions.append(_index(reader, len(module.types), "type"))


def _read_tables(reader: _Reader, module: Module) -> None:
    module.tables = reader.count("tables")
    if module.tables > 1:
        raise _unsupported("more than one table is")
    for _ in range(module.tables):
        kind = reader.byte()
        if kind != _FUNCREF:
            raise _unsupported("a table of anything but functions is")
        least, _most = _limits(reader, "table")
        if least > MAX_TABLE_ELEMENTS:
            raise UnusableModule("TOO_LARGE", f"the table begins with {least} elements, the limit is {MAX_TABLE_ELEMENTS}")


def _read_memories(reader: _Reader, module: Module) -> None:
    module.memories = reader.count("memories")
    if module.memories > 1:
        raise _unsupported("more than one memory is")
    for _ in range(module.memories):
        least, most = _limits(reader, "memory")
        if max(least, most or 0) > 65_536:
            raise _malformed("a memory is larger than 4 GiB")
        if least > MAX_MEMORY_PAGES:
            raise UnusableModule("TOO_LARGE", f"the memory begins with {least} pages of 64 KiB, the limit is {MAX_MEMORY_PAGES}")


def _read_globals(reader: _Reader, module: Module) -> None:
    for _ in range(reader.count("globals")):
        name = _value_type(reader)
        if reader.byte() > 1:
            raise _malformed("a global is neither constant nor variable")
        _skip_constant(reader, module)
        module.globals.append(name)


def _read_exports(reader: _Reader, module: Module) -> None:
    sizes = {
        _FUNCTION: len(module.functions),
        _TABLE: module.tables,
        _MEMORY: module.memories,
        _GLOBAL: len(module.globals),
    }
    for _ in range(reader.count("exports")):
        name, kind = reader.name(), reader.byte()
        if kind not in sizes:
            raise _invalid_export(name, f"is a {_KINDS.get(kind, 'thing')}, which cannot be exported")
        if name in module.exports:
            raise _malformed(f"{_quote(name)} is exported twice")
        module.exports[name] = (kind, _index(reader, sizes[kind], _KINDS[kind]))


def _read_start(reader: _Reader, module: Module) -> None:
    module.start = _index(reader, len(module.functions), "function")
    kind = module.function_type(module.start)
    if kind.params or kind.results:
        raise _malformed(f"the start function has type {kind}")


def _read_elements(reader: _Reader, module: Module) -> None:
    module.elements = reader.count("element segments")
    for _ in range(module.elements):
        _read_element(reader, module)


def _read_element(reader: _Reader, module: Module) -> None:
    """One of the eight forms. Bit 0: not placed at once; bit 1: a table or a kind is written; bit 2: expressions, not indices."""
    flags = reader.u32()
    if flags > 7:
        raise _malformed(f"an element segment has flags {flags}")
    if not flags & 1:
        if flags & 2:
            _index(reader, module.tables, "table")
        elif not module.tables:
            raise _malformed("there are elements but no table")
        _skip_constant(reader, module)
    if flags & 3 and reader.byte() != (_FUNCREF if flags & 4 else 0):
        raise _unsupported("an element segment of anything but functions is")
    for _ in range(reader.count("elements")):
        if flags & 4:
            _skip_constant(reader, module)
        else:
            _index(reader, len(module.functions), "function")


def _read_data_count(reader: _Reader, module: Module) -> None:
    module.data_count = reader.u32()


def _read_code(reader: _Reader, module: Module) -> None:
    module.bodies = reader.count("function bodies", MAX_FUNCTIONS)
    for _ in range(module.bodies):
        body = reader.part(reader.u32())
        _read_locals(body)
        if body.done or body.last() != _END:
            raise _malformed("a function has no end")


def _read_locals(body: _Reader) -> None:
    total = 0
    for _ in range(body.count("locals")):
        total += body.u32()
        if total > MAX_LOCALS:
            raise UnusableModule("TOO_LARGE", f"a function has more than {MAX_LOCALS} locals")
        _numeric_type(body, "a local variable")


def _read_data(reader: _Reader, module: Module) -> None:
    module.data = reader.count("data segments")
    for _ in range(module.data):
        if module.memories and reader.skip_plain_segment():
            continue
        flags = reader.u32()
        if flags > 2:
            raise _malformed(f"a data segment has flags {flags}")
        if flags == 2:
            _index(reader, module.memories, "memory")
        if flags != 1:
            if not module.memories:
                raise _malformed("there is data but no memory")
            _skip_constant(reader, module)
        reader.skip(reader.u32())


# Number in the binary -> rank in the prescribed order, name, reader.
_SECTIONS: Final[dict[int, tuple[int, str, Callable[[_Reader, Module], None]]]] = {
    1: (1, "type", _read_types),
    2: (2, "import", _read_imports),
    3: (3, "function", _read_functions),
    4: (4, "table", _read_tables),
    5: (5, "memory", _read_memories),
    6: (6, "global", _read_globals),
    7: (7, "export", _read_exports),
    8: (8, "start", _read_start),
    9: (9, "element", _read_elements),
    12: (10, "data count", _read_data_count),
    10: (11, "code", _read_code),
    11: (12, "data", _read_data),
}


def _check_counts(module: Module) -> None:
    if module.bodies != len(module.functions) - len(module.imports):
        raise _malformed("it declares another number of functions than it defines")
    if module.data_count is not None and module.data_count != module.data:
        raise _malformed("it announces another number of data segments than it has")


def _check_imports(module: Module, abi: Abi) -> None:
    for one in module.imports:
        wanted = abi.imports.get((one.module, one.name))
        found = module.types[one.type_index]
        if wanted is None:
            raise UnusableModule("UNKNOWN_IMPORT", f"unknown import {_quote(one.module)}.{_quote(one.name)}")
        if not _fits(found, wanted):
            message = f"unknown import {_quote(one.module)}.{_quote(one.name)} of type {found}: it is there as {_text(wanted)}"
            raise UnusableModule("UNKNOWN_IMPORT", message)


def _check_exports(module: Module) -> None:
    """Refuses exports that cannot even be looked at safely, asked for or not."""
    for name, (kind, index) in module.exports.items():
        if kind == _TABLE:
            raise _invalid_export(name, "is a table, which cannot be exported")
        for used in _types_of(module, kind, index):
            if used not in _NUMERIC.values():
                raise _invalid_export(name, f"has a {used} in its type, which is not supported here")
        if kind == _FUNCTION and len(module.function_type(index).results) > 1:
            raise _invalid_export(name, "has several results, which is not supported here")


def _types_of(module: Module, kind: int, index: int) -> Iterator[str]:
    if kind == _FUNCTION:
        found = module.function_type(index)
        yield from found.params
        yield from found.results
    elif kind == _GLOBAL:
        yield module.globals[index]


def _check_required(module: Module, abi: Abi) -> None:
    if module.exports.get("memory", (None, 0))[0] != _MEMORY:
        raise UnusableModule("INVALID_ABI", 'the module must export its memory as "memory"')
    for name, wanted in abi.exports.items():
        kind, index = module.exports.get(name, (None, 0))
        if kind != _FUNCTION:
            raise UnusableModule("INVALID_ABI", f"the module must export a function {_quote(name)} of type {_text(wanted)}")
        _check_fits(module, name, index, wanted)


def _check_optional(module: Module, abi: Abi) -> None:
    for name, wanted in abi.optional.items():
        kind, index = module.exports.get(name, (_FUNCTION, None))
        if kind != _FUNCTION:
            raise _invalid_export(name, f"is a {_KINDS[kind]}, it must be a function of type {_text(wanted)}")
        if index is not None:
            _check_fits(module, name, index, wanted)


def _check_fits(module: Module, name: str, index: int, wanted: Signature) -> None:
    found = module.function_type(index)
    if not _fits(found, wanted):
        raise _invalid_export(name, f"has type {found}, it must have {_text(wanted)}")


def _check_types(module: Module) -> None:
    """No proposal hides in what is neither imported nor exported."""
    for kind in module.types:
        for used in (*kind.params, *kind.results):
            if used not in _NUMERIC.values():
                raise _unsupported(f"{used} in a function's type is")
    for used in module.globals:
        if used not in _NUMERIC.values():
            raise _unsupported(f"a global of type {used} is")


def _fits(found: FunctionType, wanted: Signature) -> bool:
    return found.params == wanted.params and found.results == wanted.results


def _text(wanted: Signature) -> str:
    return str(FunctionType(wanted.params, wanted.results))
