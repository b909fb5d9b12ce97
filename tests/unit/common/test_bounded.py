"""A table that does not grow without end."""

from libs.common.bounded import Bounded


def filled(*keys: str, most: int = 3) -> Bounded[str, int]:
    table: Bounded[str, int] = Bounded(most)
    for number, key in enumerate(keys):
        table.put(key, number)
    return table


def test_the_oldest_goes_when_there_are_too_many() -> None:
    assert dict(filled("a", "b", "c", "d", "e")) == {"c": 2, "d": 3, "e": 4}


def test_what_is_put_again_is_the_newest_and_takes_no_more_room() -> None:
    assert dict(filled("a", "b", "c", "a", "d")) == {"c": 2, "a": 3, "d": 4}


def test_what_is_looked_at_is_no_newer_for_that() -> None:
    table = filled("a", "b", "c")

    assert table.get("a") == table["a"] == 0
    table.put("d", 3)

    assert list(table) == ["b", "c", "d"]


def test_what_was_taken_out_leaves_room() -> None:
    table = filled("a", "b", "c")

    del table["b"]
    table.put("d", 3)

    assert list(table) == ["a", "c", "d"]
