"""JSON text is judged by the grammar and nothing else."""

import json
from typing import Any, Never

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.common.jsontext import InvalidJson, check


def refuse(name: str) -> Never:
    raise ValueError(name)


def oracle(text: bytes) -> bool:
    """Whether the standard library takes the text when it is told to be strict."""
    try:
        json.loads(text.decode(), parse_constant=refuse, parse_int=str)
    except ValueError:
        return False
    return True


def passes(text: bytes) -> bool:
    try:
        check(text)
    except InvalidJson:
        return False
    return True


def failure(text: bytes) -> InvalidJson:
    with pytest.raises(InvalidJson) as caught:
        check(text)
    return caught.value


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FRAGMENTS = [*'[]{}:,"\\-+ \né😀', "\\u", "\\ud800", "00", "12", "1e", ".5", "null", "true", "NaN", "Infinity"]


@given(VALUES, st.booleans())
def test_every_value_that_can_be_written_passes(value: Any, ascii_only: bool) -> None:
    try:
        text = json.dumps(value, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return

    check(text)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join))
@example('"\\ud800"')
@example("[NaN")
@example('["NaN",NaN]')
def test_the_verdict_on_any_text_is_that_of_the_standard_library(text: str) -> None:
    assert passes(text.encode()) == oracle(text.encode())


@given(st.binary(max_size=24))
def test_the_verdict_on_any_bytes_is_that_of_the_standard_library(text: bytes) -> None:
    assert passes(text) == oracle(text)


@given(VALUES, st.data())
def test_one_changed_byte_is_judged_as_the_standard_library_judges_it(value: Any, data: st.DataObject) -> None:
    text = bytearray(json.dumps(value).encode())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))

    assert passes(bytes(text)) == oracle(bytes(text))


@pytest.mark.parametrize(
    "text",
    [
        b"18446744073709551616",
        b"-0",
        b"1.10",
        b"1e999",
        b"-1e999",
        b"1" * 5000,
        b"0." + b"1" * 5000,
        rb'"\u0000"',
        rb'"\ud800"',
        rb'"\udc00\ud800"',
        b'"\x7f"',
        b'{"a":1,"a":2}',
        b" \t\r\n1 \t\r\n",
    ],
)
def test_what_the_grammar_allows_passes(text: bytes) -> None:
    check(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"\xef\xbb\xbf1",
        b"1\x00",
        b"\x001",
        b'"\x00"',
        b'"\x1f"',
        b'"\n"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xc0\x80"',
        b"\x0c1",
        b"\xc2\xa01",
        b"NaN",
        b"-Infinity",
        b"01",
        b"1.",
        b".1",
        b"+1",
        b"1_000",
        b"[1,]",
        b'{"a":1,}',
        b"{a:1}",
        b"'a'",
        rb'"\x41"',
        rb'"\u00g0"',
        b"1 2",
        b"[1]]",
        b"// no\n1",
        "\N{ARABIC-INDIC DIGIT ONE}".encode(),
    ],
)
def test_what_the_grammar_refuses_is_refused(text: bytes) -> None:
    failure(text)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"[":', b"}]")])
def test_depth_512_passes_and_513_does_not(opening: bytes, closing: bytes) -> None:
    levels = opening.count(b"[") + opening.count(b"{") - opening.count(b'"[')
    times = 512 // levels

    check(opening * times + b"1" + closing * times)
    error = failure(opening * times + b"[1]" + closing * times)

    assert error.message == "nested deeper than 512"
    assert error.offset == len(opening) * times


@pytest.mark.parametrize("surrogate", [b"", rb'"\ud800",'])
def test_depth_is_exact_for_what_only_the_slow_path_takes(surrogate: bytes) -> None:
    check(b"[" * 512 + surrogate + b"1" + b"]" * 512)

    assert failure(b"[" * 513 + surrogate + b"1" + b"]" * 513).message == "nested deeper than 512"


def test_many_arrays_beside_each_other_and_brackets_in_strings_are_not_deep() -> None:
    check(b"[" + b"[],{}," * 2000 + b"1]")
    check(b'"' + b"[" * 2000 + b'"')
    check(rb'"\ud800' + b"[" * 2000 + b'"')
    check(rb'["\ud800","' + b"[" * 2000 + rb'\"[",' + b"[]," * 2000 + b"1]")


def test_depth_far_beyond_any_parser_is_refused_like_any_other() -> None:
    assert failure(b"[" * 1_000_000).message == "nested deeper than 512"
    assert failure(b'{"a":' * 1_000_000).message == "nested deeper than 512"


def test_the_depth_is_the_callers_choice() -> None:
    check(b"[[1]]", max_depth=2)

    with pytest.raises(InvalidJson, match="nested deeper than 1 at line 1 column 2"):
        check(b"[[1]]", max_depth=1)


@pytest.mark.parametrize(
    ("text", "offset", "line", "column"),
    [
        ('{"é":1,\n "ü" 2}', 15, 2, 6),
        ('["😀", nope]', 9, 1, 7),
        ('["NaN",\nNaN]', 8, 2, 1),
        ("1 2", 2, 1, 3),
        ("[" * 513, 512, 1, 513),
    ],
)
def test_the_place_is_told_in_bytes_and_in_code_points(text: str, offset: int, line: int, column: int) -> None:
    error = failure(text.encode())

    assert (error.offset, error.line, error.column) == (offset, line, column)


def test_invalid_utf8_is_placed_at_its_first_byte() -> None:
    error = failure('"é\n'.encode() + b'\xff"')

    assert (error.message, error.offset, error.line, error.column) == ("not UTF-8", 4, 2, 1)
