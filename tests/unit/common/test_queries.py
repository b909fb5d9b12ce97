"""A file of named queries is whole, or it is refused when it is loaded."""

from pathlib import Path

import pytest

from libs.common.queries import Queries


def load(folder: Path, text: str) -> Queries:
    file = folder / "queries.sql"
    file.write_text(text, encoding="utf-8")
    return Queries(file)


def test_each_statement_is_had_by_its_name(tmp_path: Path) -> None:
    queries = load(tmp_path, "-- find_one --  one thing\nSELECT 1;\n\n-- list_all --  all\nSELECT a\nFROM b;\n")

    assert queries.find_one == queries["find_one"] == "SELECT 1"
    assert queries.list_all == "SELECT a\nFROM b"
    assert list(queries) == ["find_one", "list_all"]


def test_a_semicolon_inside_of_a_line_ends_nothing(tmp_path: Path) -> None:
    queries = load(tmp_path, "-- find_one --  one thing\nSELECT ';'\nFROM b;\n")

    assert queries.find_one == "SELECT ';'\nFROM b"


def test_an_unknown_name_is_an_attribute_error_that_says_it(tmp_path: Path) -> None:
    queries = load(tmp_path, "-- find_one --  one thing\nSELECT 1;\n")

    with pytest.raises(AttributeError, match="find_many"):
        _ = queries.find_many


@pytest.mark.parametrize(
    "text",
    [
        "-- find_one --  one thing\n",
        "-- find_one --  one thing\n;\n",
        "-- find_one --\nSELECT 1;\n",
        "-- find_one --  one thing\nSELECT 1;\n-- find_one --  again\nSELECT 2;\n",
        "-- find_one --  one thing\n\n-- find_two --  another\nSELECT 2;\n",
        "SELECT 0;\n-- find_one --  one thing\nSELECT 1;\n",
        "-- find_one --  one thing\nSELECT 1;\n\nSELECT 2;\n",
        "-- find_one --  one thing\nSELECT 1;\n\n-- FindTwo --  another\nSELECT 2;\n",
        "SELECT 1;\n",
    ],
    ids=[
        "a name alone",
        "an empty statement",
        "no meaning",
        "a name twice",
        "a name alone before another",
        "a statement before the first name",
        "two statements of one name",
        "a statement under a bad name",
        "no name at all",
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"queries\.sql"):
        load(tmp_path, text)
