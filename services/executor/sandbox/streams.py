"""The standard streams of a guest that has such: what it reads, and where the bytes go that it writes."""

from dataclasses import dataclass, field
from typing import Protocol


class Sink(Protocol):
    """Takes bytes, in pieces of any size."""

    def write(self, data: bytes) -> None:
        """Takes the next bytes.

        Raises:
            GuestStopped: They are one too many.
        """

    def close(self) -> None:
        """Nothing comes any more, and what is held back goes on. Raises nothing."""


class Nowhere:
    """Takes bytes for nothing."""

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(slots=True)
class Streams:
    """What one call reads and prints.

    Attributes:
        input: What is left to read.
        output: Of the standard output.
        errors: Of the standard error.
    """

    input: memoryview = field(default_factory=lambda: memoryview(b""))
    output: Sink = field(default_factory=Nowhere)
    errors: Sink = field(default_factory=Nowhere)

    def read(self, size: int) -> memoryview:
        """Takes at most so many bytes from the input."""
        taken, self.input = self.input[:size], self.input[size:]
        return taken

    def close(self) -> None:
        """The guest has ended."""
        self.output.close()
        self.errors.close()
