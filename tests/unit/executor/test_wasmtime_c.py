"""What is said about Wasmtime's C API, which nothing checks while guests run."""

import ctypes
import resource
from typing import Any

import pytest
from wasmtime import Config, _bindings, _ffi

from services.executor.sandbox import wasmtime_c
from services.executor.sandbox.wasmtime_c import NoRoom, use_pool

_FUNCTION: Any = type(_ffi.dll.wasmtime_store_new).__mro__[1]
DECLARED = [value for value in vars(wasmtime_c).values() if isinstance(value, _FUNCTION) and hasattr(value, "argtypes")]


def shape(kind: Any) -> Any:
    """A type as far as a call cares: whatever is an address is one."""
    addresses = (ctypes._Pointer, _FUNCTION, ctypes.c_void_p, ctypes.c_char_p)
    return "address" if isinstance(kind, type) and issubclass(kind, addresses) else kind


def test_there_is_something_to_compare() -> None:
    assert len(DECLARED) >= 15


@pytest.mark.parametrize("ours", DECLARED, ids=lambda function: function.__name__)
def test_every_function_is_declared_as_in_the_bindings_of_the_wheel(ours: Any) -> None:
    theirs = getattr(_bindings, f"_{ours.__name__}")
    known = [shape(one) for one in theirs.argtypes]
    if "define_func" in ours.__name__:
        # Wasmtime hands it back to the callback as it is: here a number, for the bindings an address.
        known[7] = ctypes.c_size_t

    assert [shape(one) for one in ours.argtypes] == known
    assert shape(ours.restype) == shape(theirs.restype)


def test_a_callback_is_declared_as_in_the_bindings_of_the_wheel() -> None:
    ours, theirs = wasmtime_c._CALLBACK, _bindings.wasmtime_func_unchecked_callback_t

    assert ctypes.sizeof(ctypes.c_size_t) == ctypes.sizeof(ctypes.c_void_p)
    assert ours._restype_ is theirs._restype_
    assert [shape(one) for one in ours._argtypes_[1:]] == [shape(one) for one in theirs._argtypes_[1:]]


def test_an_engine_without_its_address_space_says_so_and_does_not_abort() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, hard))
    try:
        with pytest.raises(NoRoom, match="MiB of address space"):
            use_pool(Config())
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
