"""What may name a function, and what a caller's reference may mean."""

import re
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.common.access.functions import unknown_function
from libs.common.errors import InvalidArgument, NotFound
from libs.common.ids import parse_uuid
from services.registry.names import Reference, check_description, check_name

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True)
UUID_LIKE_A_NAME = "deadbeef-0000-7000-8000-000000000000"


def refused(name: str) -> bool:
    try:
        check_name(name)
    except InvalidArgument as error:
        return [one.field for one in error.violations] == ["name"]
    return False


@given(NAMES)
@example("a")
@example("a" * 63)
@example("a--b-")
@example("deadbeef")
def test_small_letters_digits_and_hyphens_name_a_function(name: str) -> None:
    assert not refused(name) or parse_uuid(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * 64,
        "1a",
        "-a",
        "A",
        "aB",
        "a_b",
        "a.b",
        "a/b",
        "a b",
        " a",
        "a\n",
        "a\0",
        "é",
        "\N{FULLWIDTH LATIN SMALL LETTER A}",
        "a\N{ARABIC-INDIC DIGIT ONE}",
    ],
)
def test_anything_else_names_none(name: str) -> None:
    assert refused(name)


@given(st.text())
def test_the_verdict_on_any_text_is_that_of_the_grammar(name: str) -> None:
    assert refused(name) == (re.fullmatch("[a-z][a-z0-9-]{0,62}", name, re.ASCII) is None or parse_uuid(name) is not None)


def test_a_name_that_could_be_taken_for_an_id_is_refused() -> None:
    assert refused(UUID_LIKE_A_NAME)


@given(NAMES)
def test_a_name_is_a_reference_by_name(name: str) -> None:
    assert Reference.of(name, unknown_function) == Reference(parse_uuid(name), name)


@given(st.uuids())
def test_an_id_is_a_reference_by_id_in_either_case(identity: UUID) -> None:
    assert Reference.of(str(identity), unknown_function).id == Reference.of(str(identity).upper(), unknown_function).id == identity


@pytest.mark.parametrize("text", ["", "A", "a b", "a\0", "a\n", "x" * 64, f"{{{UUID_LIKE_A_NAME}}}", "..", "%2e", "\ud800"])
def test_a_text_that_can_mean_nothing_is_not_found_without_a_look(text: str) -> None:
    with pytest.raises(NotFound) as caught:
        Reference.of(text, unknown_function)

    assert caught.value.reason == "FUNCTION_NOT_FOUND"


def test_the_error_shows_no_more_than_the_beginning_of_a_long_reference_and_no_control_characters() -> None:
    message = unknown_function("\n\0\x1b" + "x" * 10_000).message

    assert len(message) < 200
    assert message.isprintable()


@pytest.mark.parametrize(("description", "good"), [("", True), ("é\n" * 500, True), ("x" * 1001, False), ("a\0", False)])
def test_a_description_has_a_thousand_characters_at_most_and_no_nul(description: str, good: bool) -> None:
    if good:
        check_description(description)
    else:
        with pytest.raises(InvalidArgument, match="description"):
            check_description(description)
