"""What is sealed can be read and mapped by whoever gets it, and changed by nobody."""

import gc
import mmap
import os

import pytest

from services.executor.sandbox.sealed import Sealed

CONTENT = bytes(range(256)) * 4096


def test_what_was_sealed_can_be_read_any_number_of_times() -> None:
    sealed = Sealed(CONTENT)

    assert sealed.read() == sealed.read() == CONTENT


@pytest.mark.parametrize("size", [0, len(CONTENT) + 1])
def test_nobody_can_cut_or_lengthen_it(size: int) -> None:
    sealed = Sealed(CONTENT)

    with pytest.raises(PermissionError):
        os.ftruncate(sealed.descriptor, size)


def test_nobody_can_write_to_it() -> None:
    sealed = Sealed(CONTENT)

    with pytest.raises(PermissionError):
        os.pwrite(sealed.descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        mmap.mmap(sealed.descriptor, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    # Opened anew it is no different.
    with open(f"/proc/self/fd/{sealed.descriptor}", "r+b", buffering=0) as again, pytest.raises(PermissionError):
        again.write(b"x")


def test_its_descriptor_goes_with_it() -> None:
    sealed = Sealed(CONTENT)
    descriptor = sealed.descriptor

    del sealed
    gc.collect()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
