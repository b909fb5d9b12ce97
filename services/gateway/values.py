"""Single values of a request's fields, from JSON (bodies) and from text (paths, queries, headers), as the proto3 JSON mapping has them."""

import base64
import binascii
import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from libs.common.errors import InvalidArgument

INTEGER_RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_FLOATS: Final = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_INTEGER: Final = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?|NaN|-?Infinity", re.ASCII)
_BOOLEANS: Final = {"true": True, "false": False}
_WELL_KNOWN_FORMS: Final = {
    "google.protobuf.Timestamp": "a time in RFC 3339, for instance 2026-01-31T12:00:00Z",
    "google.protobuf.Duration": "a duration in seconds, for instance 1.5s",
}

# What a field is set to, from a value and the path to it, for what is said of a bad one.
FromJson = Callable[[Any, str], Any]
FromText = Callable[[str, str], Any]


def from_json(field: FieldDescriptor) -> FromJson:
    """How a scalar field takes a JSON value.

    The function raises `InvalidArgument`, which names the path, for a value that is not one of the field's type.
    """
    if field.cpp_type in INTEGER_RANGES:
        return partial(_integer, *INTEGER_RANGES[field.cpp_type])
    if field.cpp_type in _FLOATS:
        return _float
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return _boolean
    if field.enum_type:
        return partial(_enum, field.enum_type)
    return _bytes if field.type == FieldDescriptor.TYPE_BYTES else _string


def from_text(field: FieldDescriptor) -> FromText:
    """How a scalar field takes the text of a path, query or header.

    The function raises `InvalidArgument`, which names the path, for a text that does not spell a value of the field's type.
    """
    read = from_json(field)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return lambda text, path: read(_BOOLEANS.get(text), path)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return lambda text, path: read(int(text) if _INTEGER.fullmatch(text) else text, path)
    return read


def merge_well_known(message: Message, text: str, path: str) -> None:
    """Sets a message whose type has a JSON form of its own, such as a timestamp, from JSON text.

    Raises:
        InvalidArgument: the text is not of that form; it names `path`.
    """
    name = message.DESCRIPTOR.full_name
    try:
        json_format.Parse(text, message)
    except (json_format.ParseError, ValueError, OverflowError):
        raise InvalidArgument.of(path, f"must be {_WELL_KNOWN_FORMS.get(name, f'the JSON form of {name}')}") from None


def _integer(least: int, most: int, value: Any, path: str) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    # The mapping takes 3.0 and 3e0 for 3.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgument.of(path, "must be a whole number")
    if not least <= value <= most:
        raise InvalidArgument.of(path, f"must be from {least} to {most}")
    return value


def _float(value: Any, path: str) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidArgument.of(path, "must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise InvalidArgument.of(path, "is too large")
    return number


def _enum(enum: EnumDescriptor, value: Any, path: str) -> int:
    known = enum.values_by_name.get(value) if isinstance(value, str) else None
    if known is None and isinstance(value, int) and not isinstance(value, bool):
        known = enum.values_by_number.get(value)
    if known is None:
        words = ", ".join(one.name for one in enum.values if one.number)
        raise InvalidArgument.of(path, f"must be one of {words}")
    number: int = known.number
    return number


def _bytes(value: Any, path: str) -> bytes:
    plain = _string(value, path).translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument.of(path, "must be base64") from None


def _string(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument.of(path, "must be a string")
    return value


def _boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument.of(path, "must be true or false")
    return value
