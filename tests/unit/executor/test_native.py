"""The cache of native code stays within its bounds and lets go of what was used least recently."""

from hypothesis import given
from hypothesis import strategies as st

from services.executor.sandbox.native import CodeCache


def cache_of(sizes: dict[str, int], max_bytes: int, max_entries: int = 100) -> CodeCache[str]:
    cache: CodeCache[str] = CodeCache(max_bytes, max_entries)
    for digest, size in sizes.items():
        cache.put(digest, digest, size)
    return cache


def test_what_was_used_least_recently_goes_first() -> None:
    cache = cache_of({"a": 4, "b": 4}, max_bytes=10)
    cache.get("a")

    cache.put("c", "c", 4)

    assert [digest for digest, _ in cache.values()] == ["a", "c"]


def test_one_that_is_larger_than_the_bound_is_kept_alone() -> None:
    cache = cache_of({"a": 1, "b": 100}, max_bytes=10)

    assert "a" not in cache
    assert cache.get("b") == "b"


def test_the_number_is_bounded_too() -> None:
    assert len(cache_of({str(number): 0 for number in range(9)}, max_bytes=10, max_entries=3).values()) == 3


def test_putting_again_replaces_and_counts_once() -> None:
    cache = cache_of({"a": 8}, max_bytes=10)

    cache.put("a", "new", 2)
    cache.put("b", "b", 8)

    assert cache.get("a") == "new"
    assert "b" in cache


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 6))), st.integers(1, 20))
def test_the_size_is_never_passed_by_more_than_one(puts: list[tuple[str, int]], max_bytes: int) -> None:
    cache: CodeCache[int] = CodeCache(max_bytes, 100)

    for digest, size in puts:
        cache.put(digest, size, size)
        kept = [size for _, size in cache.values()]

        assert sum(kept) <= max_bytes or len(kept) == 1
