"""Proto → REST: the JSON of an answer, in the canonical proto3 mapping with defaults written out, and its headers.

Fields that hold JSON text are spliced in as they are.
"""

import base64
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import Any, Final

import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.gateway import problems, surface
from services.gateway.surface import Member

_SIXTY_FOUR_BITS: Final = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
_FLOATS: Final = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)

_EPOCH: Final = datetime(1970, 1, 1)

Convert = Callable[[Any], Any]


def to_json(message: Message) -> bytes:
    """The JSON text of a message."""
    return orjson.dumps(_tree(message))


def header_values(message: Message) -> list[tuple[str, str]]:
    """The headers that a message's fields travel as, besides being members."""
    found = []
    for member in surface.headers(message.DESCRIPTOR):
        if value := getattr(message, member.field.name):
            found.append((member.header, f'"{value}"' if member.header == "ETag" else str(value)))
    return found


def _tree(message: Message) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    has_field = message.HasField
    for field_name, name, has_presence, convert in _plan(message.DESCRIPTOR):
        if has_presence and not has_field(field_name):
            continue
        value = getattr(message, field_name)
        tree[name] = value if convert is None else convert(value)
    return tree


@cache
def _plan(descriptor: Descriptor) -> tuple[tuple[str, str, bool, Convert | None], ...]:
    """How each member is written: its field, its name, whether it may be absent, and its conversion to what JSON has, if any."""
    return tuple(
        (member.field.name, name, member.field.has_presence, _conversion(member)) for name, member in surface.members(descriptor).items()
    )


def _conversion(member: Member) -> Convert | None:
    field = member.field
    if surface.is_map(field):
        key, value = (_single(surface.message_of(field).fields_by_name[name]) for name in ("key", "value"))
        return lambda entries: {_key(key(one) if key else one): value(entries[one]) if value else entries[one] for one in entries}
    single = orjson.Fragment if member.is_json_text else _single(field)
    if not field.is_repeated:
        return single
    return (lambda items: [single(item) for item in items]) if single else list


def _single(field: FieldDescriptor) -> Convert | None:
    """The conversion of one value; None where JSON has it as it is."""
    if field.message_type:
        return _message(field.message_type)
    if field.enum_type:
        return _enum(field.enum_type)
    if field.cpp_type in _SIXTY_FOUR_BITS:
        return str
    if field.cpp_type in _FLOATS:
        return _float
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode()
    return None


def _message(descriptor: Descriptor) -> Convert:
    if descriptor.full_name == "google.protobuf.Timestamp":
        return _timestamp
    if descriptor.full_name == "google.rpc.Status":
        return problems.error_object
    return json_format.MessageToDict if descriptor.full_name.startswith(surface.WELL_KNOWN) else _tree


def _timestamp(time: Timestamp) -> str:
    """As `ToJsonString` writes it, many times as fast."""
    fraction = f".{time.nanos:09}".removesuffix("000").removesuffix("000") if time.nanos else ""
    return f"{_second(time.seconds)}{fraction}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()


def _enum(enum: EnumDescriptor) -> Convert:
    names = {value.number: value.name for value in enum.values}
    # A number that this gateway does not know yet stays a number, as the mapping has it.
    return lambda number: names.get(number, number)


def _float(value: float) -> float | str:
    # JSON has no word for these; the mapping writes them as strings.
    return value if math.isfinite(value) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)
