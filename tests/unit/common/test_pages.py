"""Page tokens lead on where they came from, and nowhere else."""

import base64

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from libs.common.errors import InvalidArgument
from libs.common.pages import DEFAULT_SIZE, MAX_SIZE, Page, listing, page_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCOPE = st.tuples(TEXT, st.none() | st.integers() | TEXT)


def refusal(size: int, token: str, *scope: object) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        page_of(size, token, *scope)
    return caught.value


@given(TEXT, SCOPE)
def test_a_token_leads_to_the_key_it_was_made_of(key: str, scope: tuple[object, ...]) -> None:
    token = page_of(0, "", *scope).token(key)

    assert page_of(0, token, *scope).after == key


@given(TEXT, SCOPE)
def test_a_token_can_stand_in_a_url_as_it_is(key: str, scope: tuple[object, ...]) -> None:
    token = page_of(0, "", *scope).token(key)

    assert all(one.isascii() and (one.isalnum() or one in "-_") for one in token)


@given(TEXT, SCOPE, SCOPE)
def test_a_token_of_another_list_is_refused(key: str, scope: tuple[object, ...], other: tuple[object, ...]) -> None:
    assume(scope != other)
    token = page_of(0, "", *scope).token(key)

    assert refusal(0, token, *other).violations[0].field == "page_token"


@given(TEXT.filter(bool))
def test_any_other_text_is_refused(token: str) -> None:
    assert refusal(0, token, "functions").violations[0].field == "page_token"


@pytest.mark.parametrize("content", [{}, [], ["x"], [1, 2], [None, "key"], "text", ["", "", ""]])
def test_a_token_that_holds_anything_else_is_refused(content: object) -> None:
    token = base64.urlsafe_b64encode(orjson.dumps(content)).decode()

    assert refusal(0, token, "functions").violations[0].field == "page_token"


@pytest.mark.parametrize(("asked", "given_size"), [(0, DEFAULT_SIZE), (1, 1), (MAX_SIZE, MAX_SIZE), (MAX_SIZE + 1, MAX_SIZE)])
def test_the_size_has_a_default_and_a_maximum(asked: int, given_size: int) -> None:
    assert page_of(asked, "").size == given_size


def test_a_negative_size_is_refused() -> None:
    assert refusal(-1, "").violations[0].field == "page_size"


@given(st.lists(st.integers(0, 10**6), unique=True, max_size=40), st.integers(1, 7))
def test_walking_the_pages_gives_everything_once_and_in_order(values: list[int], size: int) -> None:
    values.sort(reverse=True)
    seen: list[int] = []
    token, calls = "", 0

    while calls == 0 or token:
        page = page_of(size, token, "numbers")
        below = page.key(int)
        rows = [one for one in values if below is None or one < below][: size + 1]
        found = listing(page, rows, str)
        seen += found.items
        token, calls = found.next_page_token, calls + 1

    assert seen == values
    assert calls == max(1, -(-len(values) // size))


def test_the_first_page_has_no_key() -> None:
    assert page_of(0, "").key(int) is None


def test_a_key_that_the_list_cannot_read_is_refused() -> None:
    page = Page(10, "made up", "scope")

    with pytest.raises(InvalidArgument) as caught:
        page.key(lambda _: None)

    assert caught.value.violations[0].field == "page_token"
