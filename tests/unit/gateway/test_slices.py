"""What is cut out of a JSON text is the text that stood there, and nothing is there twice."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.jsontext import InvalidJson
from services.gateway.slices import DuplicateMember, WrongType, elements, members

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
SPACES = st.text(" \t\r\n", max_size=3)


@given(st.dictionaries(st.text(), VALUES, max_size=5), SPACES, st.booleans())
def test_members_are_the_texts_that_stood_there(value: dict[str, Any], space: str, ascii_only: bool) -> None:
    texts = {name: json.dumps(one, ensure_ascii=ascii_only).encode(errors="surrogatepass") for name, one in value.items()}
    gap = space.encode()
    inner = (gap + b"," + gap).join(
        json.dumps(name, ensure_ascii=ascii_only).encode() + gap + b":" + gap + text for name, text in texts.items()
    )

    assert members(gap + b"{" + gap + inner + gap + b"}" + gap) == texts


@given(st.lists(VALUES, max_size=5), SPACES)
def test_elements_are_the_texts_that_stood_there(value: list[Any], space: str) -> None:
    texts = [json.dumps(one).encode() for one in value]
    gap = space.encode()

    assert elements(gap + b"[" + gap + (gap + b"," + gap).join(texts) + gap + b"]") == texts


@pytest.mark.parametrize(
    "text",
    [
        rb'{"a": 18446744073709551616}',
        rb'{"a": 1.10}',
        rb'{"a": 1e999}',
        rb'{"a": "\u0000"}',
        rb'{"a": "\ud800"}',
        rb'{"a": "x\udc00\ud800y"}',
        rb'{"a": {"k": 1, "k": 2}}',
        rb'{"a": -0.0}',
        rb'{"a": "}\",{"}',
    ],
)
def test_odd_values_come_out_as_they_are(text: bytes) -> None:
    assert members(text)["a"] == text[6:-1]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b'{"a":1,"a":2}', "a"),
        (b'{"a":1,"a":1}', "a"),
        (b'{"a":1,"b":2,"a":3}', "a"),
        (b'{"b":[1],"a":{},"a":{"x":1}}', "a"),
        (b'{"a":1,"\\u0061":2}', "a"),
        (b'{"":1,"":2}', ""),
    ],
)
def test_a_member_that_is_there_twice_is_found_out(text: bytes, name: str) -> None:
    with pytest.raises(DuplicateMember) as caught:
        members(text)

    assert caught.value.args[0] in (name, "\\u0061")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=6))
def test_an_object_is_taken_if_and_only_if_its_names_differ(pairs: list[tuple[str, int]]) -> None:
    text = b"{" + b",".join(b'"%s":%d' % (name.encode(), value) for name, value in pairs) + b"}"
    names = [name for name, _ in pairs]

    if len(set(names)) == len(names):
        assert members(text) == {name: b"%d" % value for name, value in pairs}
    else:
        with pytest.raises(DuplicateMember):
            members(text)


@pytest.mark.parametrize("text", [b"[]", b"1", b'"x"', b"null", b'"\\ud800"'])
def test_what_is_no_object_is_said_so(text: bytes) -> None:
    with pytest.raises(WrongType):
        members(text)


@pytest.mark.parametrize("text", [b"{}", b"1", b"null"])
def test_what_is_no_list_is_said_so(text: bytes) -> None:
    with pytest.raises(WrongType):
        elements(text)


@pytest.mark.parametrize("text", [b"", b"{", b'{"a":}', b"{'a':1}", b'{"a":1,}', b'{"a":NaN}', b'{"a":01}', b"\xef\xbb\xbf{}"])
def test_what_is_no_json_is_said_so(text: bytes) -> None:
    with pytest.raises(InvalidJson):
        members(text)
