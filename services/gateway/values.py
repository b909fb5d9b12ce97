"""Single values of a request's fields, from JSON (bodies) and from text (paths, queries, headers), as the proto3 JSON mapping has them."""

import base64
import binascii
import math
import re
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


def scalar_from_json(field: FieldDescriptor, value: Any, path: str) -> Any:
    """What a scalar field is set to for a JSON value.

    Raises:
        InvalidArgument: the value is not one of the field's type; it names `path`.
    """
    if field.cpp_type in INTEGER_RANGES:
        return _integer(field, value, path)
    if field.cpp_type in _FLOATS:
        return _float(value, path)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return _expect(isinstance(value, bool), value, path, "true or false")
    if field.enum_type:
        return _enum(field.enum_type, value, path)
    _expect(isinstance(value, str), value, path, "a string")
    return _bytes(value, path) if field.type == FieldDescriptor.TYPE_BYTES else value


def scalar_from_text(field: FieldDescriptor, text: str, path: str) -> Any:
    """What a scalar field is set to for the text of a path, query or header.

    Raises:
        InvalidArgument: the text does not spell a value of the field's type; it names `path`.
    """
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return scalar_from_json(field, _BOOLEANS.get(text), path)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM and _INTEGER.fullmatch(text):
        return scalar_from_json(field, int(text), path)
    return scalar_from_json(field, text, path)


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


def _integer(field: FieldDescriptor, value: Any, path: str) -> int:
    least, most = INTEGER_RANGES[field.cpp_type]
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


def _bytes(value: str, path: str) -> bytes:
    plain = value.translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument.of(path, "must be base64") from None


def _expect(holds: bool, value: Any, path: str, expected: str) -> Any:
    if not holds:
        raise InvalidArgument.of(path, f"must be {expected}")
    return value
