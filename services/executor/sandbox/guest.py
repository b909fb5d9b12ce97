"""One instance from the outside: its functions and its memory, where every address comes from a stranger."""

import codecs
import ctypes
from abc import ABC, abstractmethod
from typing import Final, Protocol

from wasmtime import TrapCode

PAGE_BYTES: Final = 65_536

_MASK: Final = 0xFFFF_FFFF


class OutOfBounds(Exception):
    """The guest named a place outside of its memory."""


class Trapped(Exception):
    """The guest's code failed, by itself.

    Attributes:
        code: How; None when Wasmtime has no code for it.
        functions: The names of the functions it was in, the innermost first, as far as they have names.
    """

    def __init__(self, code: TrapCode | None, functions: tuple[str, ...] = ()) -> None:
        super().__init__(code)
        self.code = code
        self.functions = functions


class GuestMemory(ABC):
    """A guest's linear memory."""

    __slots__ = ()

    @abstractmethod
    def locate(self) -> tuple[int, int]:
        """Its address in this process and its size in bytes, as they are now: growing may move it."""

    @property
    def size(self) -> int:
        """Its size now, in bytes."""
        return self.locate()[1]

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
        base, most = self.locate()
        start = address & _MASK
        if size < 0 or start + size > most:
            raise OutOfBounds
        return base + start


class Guest(Protocol):
    """An instance that can be called. Its module is known to fit its ABI."""

    @property
    def memory(self) -> GuestMemory:
        """Its memory."""

    def exports(self, name: str) -> bool:
        """Whether there is a function of its ABI by this name."""

    def number(self, name: str) -> int | None:
        """The value of an exported global; None where there is none that is a whole number."""

    def call(self, name: str, *arguments: int) -> int:
        """Calls an exported function of its ABI, whose arguments are i32, and which returns an i32 or i64.

        Raises:
            Trapped: It failed.
            GuestStopped: A host function ended it.
        """

    def run(self, name: str) -> None:
        """Calls an exported function of its ABI that takes and returns nothing. It raises what `call` raises."""
