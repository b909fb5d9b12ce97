"""What several languages need is made once, before what needs it, and the rest beside it."""

from pathlib import Path

from services.compiler.languages.prepared import Prepared
from services.compiler.set_up import make, missing


def prepared(folder: Path, name: str, made: list[str]) -> Prepared:
    return Prepared(name, folder / name, "state", lambda _: made.append(name))


def test_what_languages_share_is_made_once_and_first(tmp_path: Path) -> None:
    made: list[str] = []
    library, first, second, other = (prepared(tmp_path, name, made) for name in ("library", "first", "second", "other"))

    chains = list(missing([(library, first), (), (other,), (library, second)]))
    for chain in chains:
        make(chain)

    assert chains == [[library, first, second], [other]]
    assert made == ["library", "first", "second", "other"]


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    made: list[str] = []
    library, adapter = (prepared(tmp_path, name, made) for name in ("library", "adapter"))
    library.make()

    assert list(missing([(library, adapter)])) == [[adapter]]
    adapter.make()

    assert list(missing([(library, adapter)])) == []
