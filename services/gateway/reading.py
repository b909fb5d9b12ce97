"""REST → proto: fills a request message from a body, a path, a query and headers, by the rules of `google.api.http`.

Stricter than the mapping asks: a member is known by its lowerCamelCase name alone, no unknown and no second one is taken, and whatever is
refused is named as REST callers know it.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from google.protobuf.message import Message

from libs.common import jsontext
from libs.common.errors import InvalidArgument
from libs.common.jsontext import InvalidJson
from services.gateway import slices, surface, values
from services.gateway.slices import DuplicateMember, WrongType
from services.gateway.surface import Member

NOT_JSON: Final = "NOT_JSON"
_MAX_QUERY_KEYS: Final = 100


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
    seen: set[str] = set()
    for key, text in _pairs(query):
        try:
            holder, member = _find(message, key, bound)
        except InvalidArgument:
            if is_open:
                continue
            raise
        if key in seen and not member.field.is_repeated:
            raise InvalidArgument.of(key, "is given twice")
        seen.add(key)
        set_from_text(holder, member, text, key)


def refuse_query(query: bytes) -> None:
    """Refuses every query, for calls whose fields are all in the body.

    Raises:
        InvalidArgument: there is one.
    """
    for key, _ in _pairs(query):
        raise _unknown(key)


def read_path(message: Message, variables: Mapping[str, str]) -> None:
    """Fills a message from the variables of a path, by the names of their fields.

    Raises:
        InvalidArgument: a value does not fit its field.
    """
    descriptor: Any = message.DESCRIPTOR
    for path, text in variables.items():
        name = surface.rest_path(descriptor, path)
        holder, member = _find(message, name, ())
        set_from_text(holder, member, text, name)


def read_headers(message: Message, headers: Mapping[str, str]) -> None:
    """Fills the fields that travel as request headers.

    Raises:
        InvalidArgument: a value does not fit its field.
    """
    for member in surface.headers(message.DESCRIPTOR):
        text = headers.get(member.header.lower())
        if text is not None:
            set_from_text(message, member, unquoted(text) if member.header == "If-Match" else text, member.header)


def unquoted(tag: str) -> str:
    """An entity tag without the quotes that HTTP puts around it, strong or weak (RFC 9110, 8.8.3)."""
    tag = tag.strip().removeprefix("W/")
    return tag[1:-1] if len(tag) >= 2 and tag[0] == tag[-1] == '"' else tag


def set_from_text(message: Message, member: Member, text: str, path: str) -> None:
    """Sets or appends to one field from the text of a path, query or header."""
    field = member.field
    if surface.is_well_known(field):
        held = getattr(message, field.name)
        values.merge_well_known(held.add() if field.is_repeated else held, msgspec.json.encode(text).decode(), path)
        return
    value = values.scalar_from_text(field, text, path)
    _append(message, field.name, value) if field.is_repeated else setattr(message, field.name, value)


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_KEYS)
    except ValueError:
        raise InvalidArgument(f"the query is not UTF-8 in percent-encoding, or has more than {_MAX_QUERY_KEYS} keys") from None


def _find(message: Message, path: str, bound: Collection[str]) -> tuple[Message, Member]:
    """The message that holds the field of a dotted path, and the field."""
    *outer, last = path.split(".")
    holder = message
    for name in outer:
        member = _known(holder, name, path, ())
        if member.field.message_type is None or member.field.is_repeated or surface.is_well_known(member.field):
            raise _unknown(path)
        holder = getattr(holder, member.field.name)
    member = _known(holder, last, path, bound)
    if member.is_json_text or (member.field.message_type and not surface.is_well_known(member.field)):
        raise _unknown(path)
    return holder, member


def _known(message: Message, name: str, path: str, bound: Collection[str]) -> Member:
    member = surface.members(message.DESCRIPTOR).get(name)
    if member is None:
        raise _unknown(path)
    if member.header:
        raise InvalidArgument.of(path, f"is given as the header {member.header}", reason="UNKNOWN_FIELD")
    if name in bound:
        raise InvalidArgument.of(path, "is given by the path", reason="UNKNOWN_FIELD")
    return member


def _merge(message: Message, text: bytes, prefix: str, bound: Collection[str]) -> None:
    try:
        members = slices.members(text)
    except DuplicateMember as error:
        raise InvalidArgument.of(f"{prefix}{error.args[0]}", "is there twice") from None
    for name, value in members.items():
        member = _known(message, name, prefix + name, bound)
        try:
            _set_from_json(message, member, value, prefix + name)
        except WrongType:
            kind = "a list" if member.field.is_repeated and not surface.is_map(member.field) else "an object"
            raise InvalidArgument.of(prefix + name, f"must be {kind}") from None


def _set_from_json(message: Message, member: Member, text: bytes, path: str) -> None:
    field = member.field
    if member.is_json_text:
        _set_text(message, member, text, path)
    elif text == b"null" and not surface.is_value(field):
        return  # the mapping takes null for absent
    elif surface.is_map(field):
        _set_map(message, member, text, path)
    elif field.is_repeated:
        for index, element in enumerate(slices.elements(text)):
            _add(message, member, element, f"{path}[{index}]")
    elif field.message_type:
        _refuse_second_of_oneof(message, member, path)
        _merge_any(getattr(message, field.name), text, path)
    else:
        _refuse_second_of_oneof(message, member, path)
        setattr(message, field.name, values.scalar_from_json(field, msgspec.json.decode(text), path))


def _set_text(message: Message, member: Member, text: bytes, path: str) -> None:
    if not member.field.is_repeated:
        try:
            jsontext.check(text)
        except InvalidJson as error:
            raise InvalidArgument.of(path, str(error), reason=NOT_JSON) from None
        setattr(message, member.field.name, text)
        return
    # Whether each is a payload the service says, which may refuse one of them and take the others.
    for element in slices.elements(text):
        _append(message, member.field.name, element)


def _set_map(message: Message, member: Member, text: bytes, path: str) -> None:
    key_field, value_field = (surface.message_of(member.field).fields_by_name[name] for name in ("key", "value"))
    held = getattr(message, member.field.name)
    try:
        entries = slices.members(text)
    except DuplicateMember as error:
        raise InvalidArgument.of(f"{path}.{error.args[0]}", "is there twice") from None
    for name, value in entries.items():
        key = values.scalar_from_text(key_field, name, f"{path}.{name}")
        if value_field.message_type:
            _merge_any(held[key], value, f"{path}.{name}")
        else:
            held[key] = values.scalar_from_json(value_field, msgspec.json.decode(value), f"{path}.{name}")


def _add(message: Message, member: Member, text: bytes, path: str) -> None:
    if member.field.message_type:
        try:
            _merge_any(getattr(message, member.field.name).add(), text, path)
        except WrongType:
            raise InvalidArgument.of(path, "must be an object") from None
    else:
        _append(message, member.field.name, values.scalar_from_json(member.field, msgspec.json.decode(text), path))


def _merge_any(message: Message, text: bytes, path: str) -> None:
    message.SetInParent()
    if message.DESCRIPTOR.full_name.startswith(surface.WELL_KNOWN):
        values.merge_well_known(message, text.decode(), path)
    else:
        _merge(message, text, f"{path}.", ())


def _append(message: Message, name: str, value: Any) -> None:
    getattr(message, name).append(value)


def _refuse_second_of_oneof(message: Message, member: Member, path: str) -> None:
    oneof = member.field.containing_oneof
    if oneof and message.WhichOneof(oneof.name) not in (None, member.field.name):
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
