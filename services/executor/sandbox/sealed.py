"""Bytes that other processes can map, and nobody can change any more: how large native code reaches the workers.

Ten megabytes in a message are copied half a dozen times, on the event loop of the one side and before the next call of the other, and
once more for each worker: a tenth of a second. As a file in memory they are there at once, and once for all workers. Linux only.
"""

import fcntl
import os
import weakref
from typing import Final

_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Sealed:
    """A file in memory, which lasts as long as this object, and longer where it is mapped.

    Attributes:
        descriptor: Of the file.

    Raises:
        OSError: the system gives none.
    """

    def __init__(self, content: bytes) -> None:
        self.descriptor = os.memfd_create("native", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        weakref.finalize(self, os.close, self.descriptor)
        with open(self.descriptor, "wb", closefd=False) as file:
            file.write(content)
        self._size = len(content)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)

    def read(self) -> bytes:
        """All of it."""
        return os.pread(self.descriptor, self._size, 0)
