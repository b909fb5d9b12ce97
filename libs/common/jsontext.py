"""Judges JSON text without changing it: what passes through Kiln is held against RFC 8259's grammar, never parsed and rewritten."""

import json
import re
from itertools import accumulate
from typing import Final, Never

import orjson

MAX_DEPTH: Final = 512

# How many arrays and objects in each other orjson takes before it refuses.
_ORJSON_DEPTH: Final = 1024
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_STRING_OR_BRACKET: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[][{}]', re.DOTALL)
_NOT_BRACKETS: Final = bytes(sorted(set(range(256)) - set(b"[]{}")))
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class InvalidJson(ValueError):
    """The text is not JSON, or nested too deep.

    Attributes:
        message: What is wrong, without the place.
        offset: Where, in bytes from the start of the text.
        line: Where, from 1.
        column: Where in the line, from 1, in code points.
    """

    def __init__(self, message: str, offset: int, line: int, column: int) -> None:
        super().__init__(f"{message} at line {line} column {column}")
        self.message = message
        self.offset = offset
        self.line = line
        self.column = column


def check(text: bytes, *, max_depth: int = MAX_DEPTH) -> None:
    """Returns when `text` is one JSON value in UTF-8, as RFC 8259 has it: numbers of any size, any escape, a name twice.

    Args:
        text: The text.
        max_depth: How many arrays and objects may lie in each other; at most 1024.

    Raises:
        InvalidJson: It is anything else, or nested deeper.
    """
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        # It refuses what the grammar allows, too: lone surrogates in escapes, and numbers past a double.
        _check_nesting(text, max_depth)
        _check_by_grammar(text)
    else:
        if _may_be_deeper(text, max_depth) and not _parses_inside(text, _ORJSON_DEPTH - max_depth):
            _check_nesting(text, max_depth)


def _may_be_deeper(text: bytes, max_depth: int) -> bool:
    return text.count(b"[") + text.count(b"{") > max_depth


def _parses_inside(text: bytes, depth: int) -> bool:
    """Whether valid JSON parses inside of so many arrays: the parser's own limit then tells the depth at its own speed."""
    try:
        orjson.loads(b"[" * depth + text + b"]" * depth)
    except orjson.JSONDecodeError:
        return False
    return True


def _check_nesting(text: bytes, max_depth: int) -> None:
    """Exact, for invalid text too, up to where it stops being JSON."""
    if not _may_be_deeper(text, max_depth):
        return
    brackets = _STRING.sub(b"", text).translate(None, _NOT_BRACKETS)
    if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) <= max_depth:
        return
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        depth += _STEP.get(text[token.start()], 0)
        if depth > max_depth:
            raise _invalid(f"nested deeper than {max_depth}", text, token.start())


def _check_by_grammar(text: bytes) -> None:
    try:
        json.loads(text.decode(), parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _invalid("not UTF-8", text, error.start) from None
    except json.JSONDecodeError as error:
        offset = len(error.doc[: error.pos].encode())
        raise InvalidJson(error.msg, offset, error.lineno, error.colno) from None
    except _Constant as constant:
        raise _invalid(f"{constant} is no JSON value", text, _place_of(str(constant), text)) from None


class _Constant(Exception):
    """The parser met NaN, Infinity or -Infinity."""


def _refuse_constant(name: str) -> Never:
    raise _Constant(name)


def _place_of(name: str, text: bytes) -> int:
    """Where the parser met a constant: the first that stands outside of strings."""
    return _STRING.sub(lambda string: b" " * len(string[0]), text).index(name.encode())


def _invalid(message: str, text: bytes, offset: int) -> InvalidJson:
    before = text[:offset].decode(errors="replace")
    line_start = before.rfind("\n") + 1
    return InvalidJson(message, offset, before.count("\n") + 1, len(before) - line_start + 1)
