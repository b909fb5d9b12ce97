"""REST → proto: fills a request message from a body, a path, a query and headers, by the rules of `google.api.http`.

Stricter than the mapping asks: a member is known by its lowerCamelCase name alone, no unknown and no second one is taken, and whatever is
refused is named as REST callers know it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from libs.common import jsontext
from libs.common.errors import InvalidArgument
from libs.common.jsontext import InvalidJson
from services.gateway import slices, surface, values
from services.gateway.slices import DuplicateMember, WrongType
from services.gateway.surface import Member
from services.gateway.values import FromJson, FromText

NOT_JSON: Final = "NOT_JSON"
_MAX_QUERY_KEYS: Final = 100

# Fills one field of a message from JSON, or from the text of a path, query or header; with the path to it, for what is said of a bad one.
FillFromJson = Callable[[Message, bytes, str], None]
FillFromText = Callable[[Message, str, str], None]


@dataclass(frozen=True, slots=True)
class _Reader:
    """How one member is read. Made once, since many requests have it.

    Attributes:
        member: Which.
        takes_null: Whether null is a value, and not the word for an absent member that the mapping has.
        from_json: Fills its field from JSON.
        from_text: The same from text; None where no text can spell it.
    """

    member: Member
    takes_null: bool
    from_json: FillFromJson
    from_text: FillFromText | None


@cache
def _readers(descriptor: Descriptor) -> Mapping[str, _Reader]:
    """How the members of a message are read, by their REST names."""
    return {name: _reader(member) for name, member in surface.members(descriptor).items()}


def read_body(message: Message, body: bytes, *, bound: Collection[str] = ()) -> None:
    """Fills a message from a JSON object.

    Args:
        message: Filled.
        body: JSON text; an empty one counts as `{}`.
        bound: Members that the path has, and the body must not.

    Raises:
        InvalidArgument: it is not JSON (reason `NOT_JSON`, with the position), or a member is unknown, twice, or of the wrong type.
    """
    if not body.strip(b" \t\r\n"):
        return
    try:
        _merge(message, body, "", bound)
    except (InvalidJson, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_json(body, error) from None
    except WrongType:
        raise InvalidArgument("the body must be a JSON object") from None


def read_query(message: Message, query: bytes, *, bound: Collection[str] = (), is_open: bool = False) -> None:
    """Fills a message from a query string.

    Args:
        message: Filled.
        query: As it was sent.
        bound: Members that the path has, and the query must not.
        is_open: Whether unknown keys are passed over.

    Raises:
        InvalidArgument: a key is unknown or twice, or its value is bad.
    """
    descriptor: Any = message.DESCRIPTOR
    seen: set[str] = set()
    for key, text in _pairs(query):
        try:
            outer, member, fill = _find(descriptor, key, bound)
        except InvalidArgument:
            if is_open:
                continue
            raise
        if key in seen and not member.field.is_repeated:
            raise InvalidArgument.of(key, "is given twice")
        seen.add(key)
        fill(_inside(message, outer), text, key)


def refuse_query(query: bytes) -> None:
    """Refuses every query, for calls whose fields are all in the body.

    Raises:
        InvalidArgument: there is one.
    """
    for key, _ in _pairs(query):
        raise _unknown(key)


def of_variable(descriptor: Descriptor, path: str) -> Callable[[Message, str], None]:
    """How messages of a type are filled from a variable of a path, which has the name of its field.

    The function raises `InvalidArgument` for a value that does not fit the field.
    """
    name = surface.rest_path(descriptor, path)
    outer, _, fill = _find(descriptor, name, ())
    return lambda message, text: fill(_inside(message, outer), text, name)


def read_headers(message: Message, headers: Mapping[str, str]) -> None:
    """Fills the fields that travel as request headers.

    Raises:
        InvalidArgument: a value does not fit its field.
    """
    for name, header, fill in _of_headers(message.DESCRIPTOR):
        text = headers.get(name)
        if text is not None:
            fill(message, unquoted(text) if header == "If-Match" else text, header)


def unquoted(tag: str) -> str:
    """An entity tag without the quotes that HTTP puts around it, strong or weak (RFC 9110, 8.8.3)."""
    tag = tag.strip().removeprefix("W/")
    return tag[1:-1] if len(tag) >= 2 and tag[0] == tag[-1] == '"' else tag


def _pairs(query: bytes) -> list[tuple[str, str]]:
    if not query:
        return []
    try:
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_KEYS)
    except ValueError:
        raise InvalidArgument(f"the query is not UTF-8 in percent-encoding, or has more than {_MAX_QUERY_KEYS} keys") from None


@cache
def _of_headers(descriptor: Descriptor) -> tuple[tuple[str, str, FillFromText], ...]:
    return tuple((member.header.lower(), member.header, _from_text(member.field)) for member in surface.headers(descriptor))


def _find(descriptor: Descriptor, path: str, bound: Collection[str]) -> tuple[list[str], Member, FillFromText]:
    """What a dotted path leads to: the fields on the way to the message that holds it, the member there, and how it is filled."""
    *outer, last = path.split(".")
    fields: list[str] = []
    for name in outer:
        field = _known(descriptor, name, path, ()).member.field
        if field.message_type is None or field.is_repeated or surface.is_well_known(field):
            raise _unknown(path)
        fields.append(field.name)
        descriptor = surface.message_of(field)
    reader = _known(descriptor, last, path, bound)
    if reader.from_text is None:
        raise _unknown(path)
    return fields, reader.member, reader.from_text


def _inside(message: Message, fields: list[str]) -> Message:
    for field in fields:
        message = getattr(message, field)
    return message


def _known(descriptor: Descriptor, name: str, path: str, bound: Collection[str]) -> _Reader:
    reader = _readers(descriptor).get(name)
    if reader is None:
        raise _unknown(path)
    if reader.member.header:
        raise InvalidArgument.of(path, f"is given as the header {reader.member.header}", reason="UNKNOWN_FIELD")
    if name in bound:
        raise InvalidArgument.of(path, "is given by the path", reason="UNKNOWN_FIELD")
    return reader


def _merge(message: Message, text: bytes, prefix: str, bound: Collection[str]) -> None:
    try:
        members = slices.members(text)
    except DuplicateMember as error:
        raise InvalidArgument.of(f"{prefix}{error.args[0]}", "is there twice") from None
    descriptor: Any = message.DESCRIPTOR
    for name, value in members.items():
        reader = _known(descriptor, name, prefix + name, bound)
        if value == b"null" and not reader.takes_null:
            continue
        try:
            reader.from_json(message, value, prefix + name)
        except WrongType:
            field = reader.member.field
            kind = "a list" if field.is_repeated and not surface.is_map(field) else "an object"
            raise InvalidArgument.of(prefix + name, f"must be {kind}") from None


def _reader(member: Member) -> _Reader:
    field = member.field
    is_text = not member.is_json_text and (not field.message_type or surface.is_well_known(field))
    takes_null = member.is_json_text or surface.is_value(field)
    return _Reader(member, takes_null, _from_json(member), _from_text(field) if is_text else None)


def _from_json(member: Member) -> FillFromJson:
    field = member.field
    if member.is_json_text:
        return partial(_set_texts if field.is_repeated else _set_text, field.name)
    if surface.is_map(field):
        key, value = (surface.message_of(field).fields_by_name[name] for name in ("key", "value"))
        return partial(_set_map, field.name, values.from_text(key), None if value.message_type else values.from_json(value))
    if field.message_type:
        return partial(_add_messages if field.is_repeated else _set_message, field)
    return partial(_add_scalars if field.is_repeated else _set_scalar, field, values.from_json(field))


def _from_text(field: FieldDescriptor) -> FillFromText:
    if surface.is_well_known(field):
        return partial(_set_well_known_from_text, field)
    return partial(_add_from_text if field.is_repeated else _set_from_text, field.name, values.from_text(field))


def _set_text(name: str, message: Message, text: bytes, path: str) -> None:
    try:
        jsontext.check(text)
    except InvalidJson as error:
        raise InvalidArgument.of(path, str(error), reason=NOT_JSON) from None
    setattr(message, name, text)


def _set_texts(name: str, message: Message, text: bytes, _: str) -> None:
    # Whether each is a payload the service says, which may refuse one of them and take the others.
    getattr(message, name).extend(slices.elements(text))


def _set_scalar(field: FieldDescriptor, read: FromJson, message: Message, text: bytes, path: str) -> None:
    _refuse_second_of_oneof(message, field, path)
    setattr(message, field.name, read(msgspec.json.decode(text), path))


def _add_scalars(field: FieldDescriptor, read: FromJson, message: Message, text: bytes, path: str) -> None:
    held = getattr(message, field.name)
    for index, element in enumerate(slices.elements(text)):
        held.append(read(msgspec.json.decode(element), f"{path}[{index}]"))


def _set_message(field: FieldDescriptor, message: Message, text: bytes, path: str) -> None:
    _refuse_second_of_oneof(message, field, path)
    _merge_any(getattr(message, field.name), text, path)


def _add_messages(field: FieldDescriptor, message: Message, text: bytes, path: str) -> None:
    held = getattr(message, field.name)
    for index, element in enumerate(slices.elements(text)):
        try:
            _merge_any(held.add(), element, f"{path}[{index}]")
        except WrongType:
            raise InvalidArgument.of(f"{path}[{index}]", "must be an object") from None


def _set_map(field: str, read_key: FromText, read: FromJson | None, message: Message, text: bytes, path: str) -> None:
    held = getattr(message, field)
    try:
        entries = slices.members(text)
    except DuplicateMember as error:
        raise InvalidArgument.of(f"{path}.{error.args[0]}", "is there twice") from None
    for name, value in entries.items():
        key = read_key(name, f"{path}.{name}")
        if read is None:
            _merge_any(held[key], value, f"{path}.{name}")
        else:
            held[key] = read(msgspec.json.decode(value), f"{path}.{name}")


def _set_from_text(name: str, read: FromText, message: Message, text: str, path: str) -> None:
    setattr(message, name, read(text, path))


def _add_from_text(name: str, read: FromText, message: Message, text: str, path: str) -> None:
    getattr(message, name).append(read(text, path))


def _set_well_known_from_text(field: FieldDescriptor, message: Message, text: str, path: str) -> None:
    held = getattr(message, field.name)
    values.merge_well_known(held.add() if field.is_repeated else held, msgspec.json.encode(text).decode(), path)


def _merge_any(message: Message, text: bytes, path: str) -> None:
    message.SetInParent()
    if message.DESCRIPTOR.full_name.startswith(surface.WELL_KNOWN):
        values.merge_well_known(message, text.decode(), path)
    else:
        _merge(message, text, f"{path}.", ())


def _refuse_second_of_oneof(message: Message, field: FieldDescriptor, path: str) -> None:
    oneof = field.containing_oneof
    if oneof and message.WhichOneof(oneof.name) not in (None, field.name):
        raise InvalidArgument.of(path, "another of its alternatives is given too")


def _unknown(path: str) -> InvalidArgument:
    return InvalidArgument.of(path, "no such field", reason="UNKNOWN_FIELD")


def _not_json(body: bytes, error: Exception) -> InvalidArgument:
    try:
        jsontext.check(body, max_depth=slices.MAX_DEPTH)
    except InvalidJson as placed:
        return InvalidArgument(f"the body is not JSON: {placed}", reason=NOT_JSON)
    # Valid by the grammar, but no text that a proto string can hold: half of a surrogate pair.
    return InvalidArgument(f"the body is not JSON that Kiln takes: {error}", reason=NOT_JSON)
