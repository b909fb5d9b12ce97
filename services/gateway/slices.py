"""Slices a JSON object or list into the texts of its members or elements, without parsing them.

So what passes through Kiln untouched can be taken out of the envelope around it, and an envelope that has a member twice is found out.
"""

import re
from collections.abc import Collection
from typing import Final, TypeVar

import msgspec

from libs.common import jsontext

# The envelope may lie around a payload of the deepest kind by an object and a list.
MAX_DEPTH: Final = jsontext.MAX_DEPTH + 2

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ELEMENTS: Final = msgspec.json.Decoder(list[msgspec.Raw])
# What is before a member's value, with its name; or behind the last one's.
_AROUND_MEMBERS: Final = re.compile(rb'[ \t\r\n]*+(?:[{,][ \t\r\n]*+"((?:[^"\\]++|\\.)*+)"[ \t\r\n]*+:[ \t\r\n]*+|})', re.DOTALL)
_BEFORE_ELEMENT: Final = re.compile(rb"[ \t\r\n]*[\[,][ \t\r\n]*")
_ESCAPE: Final = re.compile(rb"\\(?:u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL)

T = TypeVar("T", bound=Collection[object])


class WrongType(Exception):
    """The text is JSON, but not an object, or not a list."""


class DuplicateMember(Exception):
    """The object has two members of one name, which is in `args`."""


def members(text: bytes) -> dict[str, bytes]:
    """Name → text of each member of an object.

    Raises:
        WrongType: it is no object.
        DuplicateMember: two have the same name.
        InvalidJson: it is no JSON.
    """
    decoded, plain = _decode(_MEMBERS, text)
    if not decoded:
        return {}
    found: dict[str, bytes] = {}
    around = _AROUND_MEMBERS.match(plain)
    if around is None:
        raise _unreadable()
    for name, value in decoded.items():
        begin, expected = around.end(), bytes(value)
        end = begin + len(expected)
        around = _AROUND_MEMBERS.match(plain, end)
        # Of two members of one name the decoder kept the place of the first and the value of the last. So the text and what was decoded
        # part ways at the first of the two, or the text goes on behind the last that was decoded.
        if around is None or not plain.startswith(expected, begin):
            raise DuplicateMember(name)
        found[name] = expected if plain is text else text[begin:end]
    if around[1] is not None:
        raise DuplicateMember(around[1].decode(errors="replace"))
    return found


def elements(text: bytes) -> list[bytes]:
    """The text of each element of a list.

    Raises:
        WrongType: it is no list.
        InvalidJson: it is no JSON.
    """
    decoded, plain = _decode(_ELEMENTS, text)
    if plain is text:
        return [bytes(value) for value in decoded]
    found: list[bytes] = []
    position = 0
    for value in decoded:
        before = _BEFORE_ELEMENT.match(plain, position)
        if before is None:
            raise _unreadable()
        begin = before.end()
        position = begin + len(memoryview(value))
        found.append(text[begin:position])
    return found


def _decode(decoder: msgspec.json.Decoder[T], text: bytes) -> tuple[T, bytes]:
    """What `text` decodes to, and the text of the same length that was decoded."""
    try:
        return decoder.decode(text), text
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        jsontext.check(text, max_depth=MAX_DEPTH)
    # Valid, yet refused: it is of another type, or a string has half of a surrogate pair as an escape, which RFC 8259 allows.
    plain = _ESCAPE.sub(lambda escape: b"\\u0020" if len(escape[0]) == 6 else escape[0], text)
    try:
        return decoder.decode(plain), plain
    except msgspec.ValidationError:
        raise WrongType from None


def _unreadable() -> RuntimeError:
    return RuntimeError("the decoder read what the slicer does not")
