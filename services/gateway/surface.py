"""How a message looks in REST: which fields are members of its JSON object, which travel as headers or cookies, which the gateway sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final, cast

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, OneofDescriptor
from kiln.options.v1 import options_pb2

# How the names of types begin that have a JSON form of their own.
WELL_KNOWN: Final = ("google.protobuf.", "google.rpc.")


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a message's JSON object.

    Attributes:
        name: As REST knows it, in lowerCamelCase.
        field: Where it is kept.
        is_json_text: The field holds the member's text as it is.
        header: The field travels as this header: instead of the member in requests, besides it in answers.
        is_required: A request must have it.
    """

    name: str
    field: FieldDescriptor
    is_json_text: bool
    header: str
    is_required: bool

    @property
    def described_by(self) -> FieldDescriptor | OneofDescriptor:
        """What its comment in the protos is above: of JSON text with another form in gRPC, the choice between the two."""
        return self.field.containing_oneof or self.field if self.is_json_text else self.field


@cache
def members(descriptor: Descriptor) -> Mapping[str, Member]:
    """The members of a message by their REST names, in the order of the fields."""
    found = [_member(field) for field in descriptor.fields if not _is_elsewhere(field) and not _is_other_form_of_text(field)]
    return {member.name: member for member in found}


@cache
def constants(descriptor: Descriptor) -> tuple[tuple[str, int], ...]:
    """Field → what the gateway sets it to for REST callers."""
    return tuple(
        (field.name, _options(field).Extensions[options_pb2.rest_value]) for field in descriptor.fields if _is_set_by_gateway(field)
    )


@cache
def headers(descriptor: Descriptor) -> tuple[Member, ...]:
    """The members that travel as headers."""
    return tuple(member for member in members(descriptor).values() if member.header)


def cookie(descriptor: Descriptor) -> str:
    """The field of an answer that is the session's cookie instead of a member; empty when there is none."""
    return next((field.name for field in descriptor.fields if _is_cookie(field)), "")


def other_cookies(descriptor: Descriptor) -> tuple[tuple[str, options_pb2.Cookie], ...]:
    """The fields that are other cookies instead of members, and which."""
    return tuple((field.name, _options(field).Extensions[options_pb2.rest_other_cookie]) for field in descriptor.fields if _is_other(field))


def location(descriptor: Descriptor) -> str:
    """The field of an answer that a browser is redirected to; empty when there is none."""
    return next((field.name for field in descriptor.fields if _is_location(field)), "")


def has_open_query(method: MethodDescriptor) -> bool:
    """Whether keys of the query that no field is called are passed over."""
    options: Any = method.GetOptions()
    return bool(options.Extensions[options_pb2.rest_open_query])


def clears_cookie(method: MethodDescriptor) -> bool:
    """Whether an RPC's answer takes the session's cookie back."""
    options: Any = method.GetOptions()
    return bool(options.Extensions[options_pb2.rest_clears_cookie])


@lru_cache(maxsize=1024)
def rest_path(descriptor: Descriptor, path: str) -> str:
    """A field's path as REST knows it: `limits.timeout_ms` → `limits.timeoutMs`, `input_text` → `input`."""
    names: list[str] = []
    current: Descriptor | None = descriptor
    for part in path.split("."):
        name, bracket, index = part.partition("[")
        field = current.fields_by_name.get(name) if current else None
        names.append((_member(field).name if field else name) + bracket + index)
        current = field.message_type if field else None
    return ".".join(names)


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map."""
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def message_of(field: FieldDescriptor) -> Descriptor:
    """The type of a field that is known to hold messages; of a map, that of its entries."""
    message: Any = field.message_type
    return cast(Descriptor, message)


def is_well_known(field: FieldDescriptor) -> bool:
    """Whether the field's type has a JSON form of its own, such as a timestamp."""
    return bool(field.message_type and field.message_type.full_name.startswith(WELL_KNOWN))


def is_value(field: FieldDescriptor) -> bool:
    """Whether the field holds any JSON value, so that null is one too."""
    return bool(field.message_type and field.message_type.full_name == "google.protobuf.Value")


def _member(field: FieldDescriptor) -> Member:
    extensions = _options(field).Extensions
    text = extensions[options_pb2.json_text]
    required = field_behavior_pb2.REQUIRED in extensions[field_behavior_pb2.field_behavior]
    return Member(text or field.json_name, field, bool(text), extensions[options_pb2.rest_header], required)


def _is_set_by_gateway(field: FieldDescriptor) -> bool:
    return bool(_options(field).HasExtension(options_pb2.rest_value))


def _is_cookie(field: FieldDescriptor) -> bool:
    return bool(_options(field).Extensions[options_pb2.rest_cookie])


def _is_other(field: FieldDescriptor) -> bool:
    return bool(_options(field).HasExtension(options_pb2.rest_other_cookie))


def _is_location(field: FieldDescriptor) -> bool:
    return bool(_options(field).Extensions[options_pb2.rest_location])


def _is_elsewhere(field: FieldDescriptor) -> bool:
    """Whether a field is no member: callers do not set it, or it travels as a cookie or as where to go."""
    return _is_set_by_gateway(field) or _is_cookie(field) or _is_other(field) or _is_location(field)


def _is_other_form_of_text(field: FieldDescriptor) -> bool:
    """Whether another field is this one's JSON text, which REST uses."""
    message: Any = field.containing_type
    return any(_options(other).Extensions[options_pb2.json_text] == field.json_name for other in message.fields)


def _options(field: FieldDescriptor) -> Any:
    return field.GetOptions()
