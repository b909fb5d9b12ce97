"""Native code by digest, bounded in size and number: what was used least recently goes first."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.executor.sandbox.sealed import Sealed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NativeCode:
    """A module as the preparer made it.

    Attributes:
        digest: Of the module.
        abi: How it is talked to.
        code: The code.
    """

    digest: str
    abi: str
    code: bytes


@dataclass(frozen=True, slots=True)
class HeldCode:
    """The same as it is held for workers.

    Attributes:
        code: What is sent, or a file of which the descriptor is.
    """

    digest: str
    abi: str
    code: bytes | Sealed


class CodeCache(Generic[T]):
    """Keeps things that belong to modules, each with the size of its native code.

    Args:
        max_bytes: How much native code all of them may have together.
        max_entries: How many there may be.
    """

    def __init__(self, max_bytes: int, max_entries: int) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._bytes = 0
        self._entries: OrderedDict[str, tuple[T, int]] = OrderedDict()

    def __contains__(self, digest: str) -> bool:
        return digest in self._entries

    @property
    def size(self) -> int:
        """How much native code all of them have together."""
        return self._bytes

    def get(self, digest: str) -> T | None:
        """What is kept under a digest, which makes it the most recently used."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        self._entries.move_to_end(digest)
        return entry[0]

    def put(self, digest: str, value: T, size: int) -> None:
        """Keeps something. It stays until others push it out, even when it alone is larger than the bound."""
        self._bytes += size - self._entries.pop(digest, (None, 0))[1]
        self._entries[digest] = (value, size)
        while len(self._entries) > 1 and (self._bytes > self._max_bytes or len(self._entries) > self._max_entries):
            self._bytes -= self._entries.popitem(last=False)[1][1]

    def values(self) -> list[tuple[str, T]]:
        """All digests and what is kept under them, the least recently used first."""
        return [(digest, value) for digest, (value, _) in self._entries.items()]
