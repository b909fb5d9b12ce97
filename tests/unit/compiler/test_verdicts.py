"""What every language tells alike."""

import pytest

from services.compiler.languages.verdicts import at


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("handle", (1, 1)),
        ("x handle", (1, 3)),
        ("x\n\U0001f600 handle", (2, 3)),
        ("\ufeffhandle", (1, 1)),
        ("\ufeffx\n handle", (2, 2)),
        ("unhandled", (1, 1)),
    ],
)
def test_an_error_about_a_name_stands_where_the_name_does(source: str, place: tuple[int, int]) -> None:
    found = at("handle", "no", source)

    assert (found.line, found.column) == place
