"""A guest's memory from the outside: addresses of any kind, and texts for people."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wasmtime import Engine, Limits, Memory, MemoryType, Store

from services.executor.sandbox.guest import PAGE_BYTES, GuestMemory, OutOfBounds
from tests.support.plain_engine import PlainMemory

STORE = Store(Engine())
I32 = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([0, 1, PAGE_BYTES - 1, PAGE_BYTES, -1, -PAGE_BYTES])


def new_memory(content: bytes = b"") -> GuestMemory:
    memory = PlainMemory(STORE, Memory(STORE, MemoryType(Limits(1, 1))))
    memory.write(0, content)
    return memory


SOME = new_memory()


@given(I32, I32)
@example(PAGE_BYTES - 4, 4)
@example(PAGE_BYTES - 3, 4)
@example(0, -1)
def test_memory_holds_what_can_be_read_and_nothing_else(address: int, size: int) -> None:
    try:
        SOME.read(address, size & 0xFFFF_FFFF)
        readable = True
    except OutOfBounds:
        readable = False

    assert SOME.holds(address, size) == readable


def test_a_number_is_read_as_it_was_written() -> None:
    memory = new_memory()

    memory.write_u32(PAGE_BYTES - 4, 0xFFFF_FFFE)

    assert memory.read_u32(PAGE_BYTES - 4) == 0xFFFF_FFFE
    with pytest.raises(OutOfBounds):
        memory.write_u32(PAGE_BYTES - 3, 1)


@pytest.mark.parametrize(
    ("content", "size", "most", "text", "cut"),
    [
        (b"hello", 5, 100, "hello", False),
        (b"hello", 5, 2, "he", True),
        (b"hello", 0, 100, "", False),
        ("aé".encode(), 3, 2, "a", True),
        ("aé".encode(), 2, 100, "a\ufffd", False),
        (b"a\xffb", 3, 100, "a\ufffdb", False),
        (b"a\0\x1b", 3, 100, "a\0\x1b", False),
        (b"hello", -1, 5, "hello", True),
        (b"hello", -1, 1 << 20, "\ufffd", False),
    ],
)
def test_a_text_for_people_is_cut_between_characters_and_never_fails(content: bytes, size: int, most: int, text: str, cut: bool) -> None:
    assert new_memory(content).text(0, size, most) == (text, cut)


def test_a_text_from_nowhere_is_a_replacement_character() -> None:
    assert SOME.text(PAGE_BYTES - 1, 2, 100) == ("\ufffd", False)
