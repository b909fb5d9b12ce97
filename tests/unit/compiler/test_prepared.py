"""Folders that are made once: whole or not at all, whoever else makes the same, and made anew when what they come from has changed."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from services.compiler.languages.prepared import Prepared, digest


def write(text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text(text)

    return make


def prepared(folder: Path, fingerprint: str = "1", make: Callable[[Path], None] | None = None) -> Prepared:
    return Prepared("example", folder / "prepared", fingerprint, make or write("made"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_made_is_there(tmp_path: Path) -> None:
    example = prepared(tmp_path)
    assert not example.is_made

    example.make()

    assert example.is_made
    assert (example.folder / "deep" / "file").read_text() == "made"
    assert names(tmp_path) == ["prepared"]


def test_another_state_is_not_made(tmp_path: Path) -> None:
    prepared(tmp_path, "1").make()

    assert not prepared(tmp_path, "2").is_made


def test_a_newer_state_takes_the_place_of_an_older_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    prepared(tmp_path, "1").make()
    (tmp_path / "prepared" / "old").write_text("old")

    newer = prepared(tmp_path, "2", write("newer"))
    newer.make()

    assert newer.is_made
    assert names(tmp_path / "prepared") == [".made", "deep"]
    assert names(tmp_path) == ["prepared"]


def test_a_folder_that_was_moved_is_not_made_because_what_is_in_it_tells_where_it_was(tmp_path: Path) -> None:
    prepared(tmp_path).make()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "prepared").rename(tmp_path / "elsewhere" / "prepared")

    assert not prepared(tmp_path / "elsewhere").is_made


@pytest.mark.parametrize("left", ["empty", "half"])
def test_a_folder_without_its_stamp_is_not_made_and_is_replaced(tmp_path: Path, left: str) -> None:
    (tmp_path / "prepared").mkdir()
    if left == "half":
        (tmp_path / "prepared" / "half").write_text("")
    example = prepared(tmp_path)
    assert not example.is_made

    example.make()

    assert example.is_made
    assert names(tmp_path / "prepared") == [".made", "deep"]


@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()])
def test_an_interrupted_make_leaves_what_was_there_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    prepared(tmp_path).make()

    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise error

    with pytest.raises(type(error)):
        prepared(tmp_path, "2", fail).make()

    assert prepared(tmp_path).is_made
    assert names(tmp_path) == ["prepared"]


def test_of_many_that_are_made_at_once_one_stays_whole(tmp_path: Path) -> None:
    together = threading.Barrier(8)
    failures: list[BaseException] = []

    def make(number: int) -> None:
        def fill(folder: Path) -> None:
            write(str(number))(folder)
            (folder / str(number)).write_text("")
            together.wait(10)

        try:
            prepared(tmp_path, make=fill).make()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    winner = (tmp_path / "prepared" / "deep" / "file").read_text()
    assert failures == []
    assert prepared(tmp_path).is_made
    assert names(tmp_path / "prepared") == [".made", winner, "deep"]
    assert names(tmp_path) == ["prepared"]


def test_everybody_may_read_it(tmp_path: Path) -> None:
    def closed(folder: Path) -> None:
        write("made")(folder)
        (folder / "deep" / "file").chmod(0o600)
        (folder / "deep").chmod(0o700)

    prepared(tmp_path, make=closed).make()

    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "prepared").rglob("*")}
    assert modes == {"deep": 0o755, "file": 0o644, ".made": 0o644}


def test_a_digest_changes_with_each_part_and_with_where_one_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    digests = [digest("a", "b"), digest("ab"), digest("ab", ""), digest("b", "a"), digest(tmp_path / "a", "c"), digest("a")]

    (tmp_path / "a").write_text("changed")

    assert len({*digests, digest(tmp_path / "a", "c")}) == 7
