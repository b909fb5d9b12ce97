"""One instance from the outside: its functions and its memory, where every address comes from a stranger."""

import codecs
import ctypes
from collections.abc import Mapping
from typing import Final, cast

from wasmtime import Caller, Func, Global, Memory, Store

PAGE_BYTES: Final = 65_536

_MASK: Final = 0xFFFF_FFFF


class OutOfBounds(Exception):
    """The guest named a place outside of its memory."""


class GuestMemory:
    """A guest's linear memory.

    Args:
        access: The store or the caller through which it is reached.
        memory: The memory.
    """

    __slots__ = ("_access", "_memory")

    def __init__(self, access: Store | Caller, memory: Memory) -> None:
        self._access = access
        self._memory = memory

    @property
    def size(self) -> int:
        """Its size now, in bytes."""
        return self._memory.data_len(self._access)

    def read(self, address: int, size: int) -> bytes:
        """Copies `size` bytes from an address, which may be a signed i32.

        Raises:
            OutOfBounds: Some of them are not in the memory.
        """
        return ctypes.string_at(self._place(address, size), size) if size else b""

    def holds(self, address: int, size: int) -> bool:
        """Whether `size` bytes from an address are all in the memory; none are everywhere, since empty slices dangle."""
        return not size or (address & _MASK) + (size & _MASK) <= self.size

    def text(self, address: int, size: int, max_bytes: int) -> tuple[str, bool]:
        """The beginning of a UTF-8 text for people, and whether it goes on.

        Whatever is wrong with it becomes replacement characters; a character that the cut would split is left out.
        """
        size &= _MASK
        try:
            kept = self.read(address, min(size, max_bytes))
        except OutOfBounds:
            return "\N{REPLACEMENT CHARACTER}", False
        cut = size > max_bytes
        return codecs.getincrementaldecoder("utf-8")("replace").decode(kept, final=not cut), cut

    def read_u32(self, address: int) -> int:
        """The little-endian number at an address.

        Raises:
            OutOfBounds: It is not in the memory.
        """
        return int.from_bytes(self.read(address, 4), "little")

    def write_u32(self, address: int, value: int) -> None:
        """Stores a number at an address, little-endian.

        Raises:
            OutOfBounds: Its place is not in the memory.
        """
        self.write(address, value.to_bytes(4, "little"))

    def write(self, address: int, data: bytes) -> None:
        """Copies bytes to an address.

        Raises:
            OutOfBounds: Some of them would not be in the memory.
        """
        if data:
            ctypes.memmove(self._place(address, len(data)), data, len(data))

    def _place(self, address: int, size: int) -> int:
        start = address & _MASK
        if size < 0 or start + size > self.size:
            raise OutOfBounds
        return ctypes.addressof(self._memory.data_ptr(self._access).contents) + start


class Guest:
    """An instance that can be called. Its module is known to fit its ABI.

    Args:
        store: The store it lives in.
        exports: What it exports.
    """

    __slots__ = ("_exports", "_store", "memory")

    def __init__(self, store: Store, exports: Mapping[str, object]) -> None:
        self._store = store
        self._exports = exports
        self.memory = GuestMemory(store, cast(Memory, exports["memory"]))

    def exports(self, name: str) -> bool:
        """Whether there is an export of this name."""
        return name in self._exports

    def number(self, name: str) -> int | None:
        """The value of an exported global; None where there is none that is a whole number."""
        found = self._exports.get(name)
        value = found.value(self._store) if isinstance(found, Global) else None
        return value if isinstance(value, int) else None

    def call(self, name: str, *arguments: int) -> int:
        """Calls an exported function that returns an i32 or i64.

        Raises:
            wasmtime.Trap: It failed.
            GuestStopped: A host function ended it.
        """
        return cast(int, cast(Func, self._exports[name])(self._store, *arguments))

    def run(self, name: str) -> None:
        """Calls an exported function that takes and returns nothing. It raises what `call` raises."""
        cast(Func, self._exports[name])(self._store)
