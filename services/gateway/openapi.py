"""`/openapi.json`: the REST surface as OpenAPI 3.1, made from the protos and the comments beside everything in them."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor

from libs.common import status
from libs.common.policy import Access, policy_of
from libs.common.request import REQUEST_ID_HEADER
from services.gateway import descriptors, surface
from services.gateway.cookies import SessionCookie
from services.gateway.descriptors import HttpRule
from services.gateway.surface import Member
from services.gateway.transcoder import success_status, variables_of

Schema = dict[str, Any]

_DESCRIPTION: Final = (
    "Kiln runs functions: source goes in, is compiled to WebAssembly, and runs in a fresh sandbox with JSON in and JSON out; every version "
    "and every run is kept. The same calls are gRPC at the front door."
)
_INTEGERS: Final[Mapping[int, Schema]] = {
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "format": "uint32", "minimum": 0},
    # The proto3 mapping writes 64 bits as a string, since many readers would round a number.
    FieldDescriptor.CPPTYPE_INT64: {"type": "string", "format": "int64"},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "string", "format": "uint64"},
}
_FLOATS: Final = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_WELL_KNOWN: Final[Mapping[str, Schema]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.rpc.Status": {"$ref": "#/components/schemas/Status"},
}
_ERROR: Final[Schema] = {
    "type": "object",
    "description": "The answer to a call that was refused, as AIP-193 has it.",
    "required": ["error"],
    "properties": {"error": {"$ref": "#/components/schemas/Status", "description": "Why."}},
}
_STATUS: Final[Schema] = {
    "type": "object",
    "description": "Why a call was refused.",
    "required": ["code", "status", "message", "details"],
    "properties": {
        "code": {"type": "integer", "description": "The HTTP status."},
        "status": {
            "type": "string",
            "description": "The gRPC code, a stable word.",
            "enum": [code.name for _, code, _ in status.TABLE],
        },
        "message": {"type": "string", "description": "For people; names the field where one is bad, and what to do next."},
        "details": {
            "type": "array",
            "description": "From `google.rpc`: `ErrorInfo` with a stable `reason`, `BadRequest` with the bad fields, `RetryInfo`.",
            "items": {"type": "object", "required": ["@type"], "properties": {"@type": {"type": "string"}}},
        },
    },
}
_SECURITY_SCHEMES: Final[Schema] = {
    "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key, `kiln_...`, or an access token."},
    "session": {"type": "apiKey", "in": "cookie", "description": "The session of a browser, as `Login` sets it."},
}
_REQUEST_ID: Final[Schema] = {
    "description": "Names the request in logs and records: the caller's own, if it sent one.",
    "schema": {"type": "string"},
}
_SNAKE: Final = re.compile(r"`([a-z]+(?:_[a-z]+)+)`")
_CODE: Final = re.compile(r"`([A-Z_]+)`")


def document(*, tls: bool = False) -> Schema:
    """The whole description.

    Args:
        tls: Whether the gateway speaks it.
    """
    session = _SECURITY_SCHEMES["session"] | {"name": SessionCookie.of(tls=tls).name}
    public = list(descriptors.public_services())
    return {
        "openapi": "3.1.0",
        "info": {"title": "Kiln", "version": "v1", "description": _DESCRIPTION},
        "tags": [{"name": service.name, "description": _prose(service)} for service in public],
        "paths": dict(sorted({**_rpc_paths(), **_own_paths()}.items())),
        "components": {"schemas": _schemas(), "responses": _error_responses(), "securitySchemes": _SECURITY_SCHEMES | {"session": session}},
        "security": [{name: []} for name in _SECURITY_SCHEMES],
    }


def _rpc_paths() -> dict[str, Schema]:
    paths: dict[str, Schema] = {}
    for method in descriptors.public_methods():
        if rule := descriptors.http_rule(method):
            paths.setdefault(_template(method, rule), {})[rule.method.lower()] = _operation(method, rule)
    return paths


def _own_paths() -> dict[str, Schema]:
    state = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string", "enum": ["UP", "DOWN"]}}}
    health = {
        "type": "object",
        "required": ["status", "services"],
        "properties": {
            "status": {"type": "string", "enum": ["UP", "DEGRADED"]},
            "services": {"type": "object", "additionalProperties": state},
        },
    }
    answers = {"200": _json_answer("Every service serves.", health), "503": _json_answer("Some service does not.", health)}
    described = {"200": _json_answer("The description.", {"type": "object"})}
    return {
        "/health": {"get": {"operationId": "GetHealth", "summary": "The state of every service.", "responses": answers, "security": []}},
        "/openapi.json": {"get": {"operationId": "GetOpenApi", "summary": "This description.", "responses": described, "security": []}},
    }


def _operation(method: MethodDescriptor, rule: HttpRule) -> Schema:
    text = _prose(method)
    operation: Schema = {
        "operationId": method.name,
        "tags": [method.containing_service.name],
        "summary": text.partition(". ")[0].partition("\n")[0].rstrip(".") + ".",
        "description": text,
        "parameters": list(_parameters(method, rule)),
        "responses": _responses(method, text),
    }
    if rule.body:
        operation["requestBody"] = _request_body(method, rule)
    if policy_of(descriptors.wire_name(method)).access is Access.PUBLIC:
        operation["security"] = []
    return operation


def _template(method: MethodDescriptor, rule: HttpRule) -> str:
    """The path as REST callers know its variables."""
    path = rule.template
    for variable in variables_of(rule):
        path = path.replace(f"{{{variable}}}", f"{{{surface.rest_path(method.input_type, variable)}}}")
    return path


def _parameters(method: MethodDescriptor, rule: HttpRule) -> Iterator[Schema]:
    bound = _bound(method, rule)
    for member in surface.members(method.input_type).values():
        common = {"description": _prose(member.described_by), "schema": _value(member)}
        if member.name in bound:
            yield {"name": member.name, "in": "path", "required": True, **common}
        elif member.header:
            yield {"name": member.header, "in": "header", **common}
        elif rule.body not in ("*", member.field.name):
            yield {"name": member.name, "in": "query", **common}


def _request_body(method: MethodDescriptor, rule: HttpRule) -> Schema:
    message = method.input_type if rule.body == "*" else surface.message_of(method.input_type.fields_by_name[rule.body])
    bound = _bound(method, rule) if rule.body == "*" else ()
    left_out = [*bound, *(member.name for member in surface.headers(message))]
    schema = _object(message, left_out=left_out) | {"additionalProperties": False}
    return {"required": bool(schema.get("required")), "content": {"application/json": {"schema": schema}}}


def _bound(method: MethodDescriptor, rule: HttpRule) -> list[str]:
    return [surface.rest_path(method.input_type, path) for path in variables_of(rule)]


def _responses(method: MethodDescriptor, text: str) -> Schema:
    code = success_status(method)
    headers = {REQUEST_ID_HEADER: _REQUEST_ID}
    if code == 204:
        success: Schema = {"description": "Done.", "headers": headers}
    elif code == 302:
        where = _prose(method.output_type.fields_by_name[surface.location(method.output_type)])
        headers["Location"] = {"description": where, "schema": {"type": "string", "format": "uri-reference"}}
        success = {"description": "Go on there.", "headers": headers}
    else:
        for member in surface.headers(method.output_type):
            headers[member.header] = {"description": _prose(member.described_by), "schema": {"type": "string"}}
        success = _json_answer("The answer.", _reference(method.output_type)) | {"headers": headers}
    # The comments name the errors of each RPC; every call may meet those of the platform besides.
    named = set(_CODE.findall(text.partition("Errors:")[2]))
    refused = {str(http): {"$ref": f"#/components/responses/{http}"} for _, code, http in status.TABLE if code.name in named}
    return {str(code): success, **dict(sorted(refused.items())), "default": {"$ref": "#/components/responses/default"}}


def _error_responses() -> Schema:
    refused: dict[str, list[str]] = {}
    for _, code, http in status.TABLE:
        refused.setdefault(str(http), []).append(code.name)
    schema = {"$ref": "#/components/schemas/Error"}
    named = {http: _json_answer(" or ".join(f"`{name}`" for name in names), schema) for http, names in sorted(refused.items())}
    return {**named, "default": _json_answer("An error.", schema)}


def _json_answer(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _schemas() -> dict[str, Schema]:
    """Every message that answers or bodies are made of, by name."""
    found: dict[str, Schema] = {"Error": _ERROR, "Status": _STATUS}
    methods = [method for method in descriptors.public_methods() if descriptors.http_rule(method)]
    waiting: list[Descriptor] = [method.output_type for method in methods if success_status(method) not in (204, 302)]
    waiting += [surface.message_of(member.field) for method in methods for member in _nested(method.input_type)]
    while waiting:
        message = waiting.pop()
        if _name(message) not in found:
            found[_name(message)] = {"description": _prose(message), **_object(message)}
            waiting += [surface.message_of(member.field) for member in _nested(message)]
    return dict(sorted(found.items()))


def _nested(message: Descriptor) -> Iterator[Member]:
    """Members that hold messages of Kiln's own."""
    for member in surface.members(message).values():
        if member.field.message_type and not surface.is_well_known(member.field) and not surface.is_map(member.field):
            yield member


def _object(message: Descriptor, *, left_out: Collection[str] = ()) -> Schema:
    members = [member for member in surface.members(message).values() if member.name not in left_out]
    properties = {member.name: {"description": _prose(member.described_by), **_value(member), **_behaviour(member)} for member in members}
    required = [member.name for member in members if member.is_required]
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _value(member: Member) -> Schema:
    field = member.field
    if member.is_json_text:
        single: Schema = {}
    elif surface.is_map(field):
        return {"type": "object", "additionalProperties": _single(surface.message_of(field).fields_by_name["value"])}
    else:
        single = _single(field)
    return {"type": "array", "items": single} if field.is_repeated else single


def _single(field: FieldDescriptor) -> Schema:
    if field.message_type:
        return dict(_WELL_KNOWN[field.message_type.full_name]) if surface.is_well_known(field) else _reference(field.message_type)
    if field.enum_type:
        return _enum(field.enum_type)
    if field.cpp_type in _INTEGERS:
        return dict(_INTEGERS[field.cpp_type])
    if field.cpp_type in _FLOATS:
        return {"type": "number", "format": "double"}
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return {"type": "boolean"}
    return {"type": "string", **({"contentEncoding": "base64"} if field.type == FieldDescriptor.TYPE_BYTES else {})}


def _enum(enum: EnumDescriptor) -> Schema:
    # Number 0 is never sent and means absence when it is received.
    return {"type": "string", "enum": [value.name for value in enum.values if value.number]}


def _behaviour(member: Member) -> Schema:
    options: Any = member.field.GetOptions()
    is_output = field_behavior_pb2.OUTPUT_ONLY in options.Extensions[field_behavior_pb2.field_behavior]
    return {"readOnly": True} if is_output else {}


def _reference(message: Descriptor) -> Schema:
    return {"$ref": f"#/components/schemas/{_name(message)}"}


def _name(message: Descriptor) -> str:
    """The message's name within its package."""
    return str(message.full_name).removeprefix(f"{message.file.package}.")


def _prose(described: descriptors.Described) -> str:
    """The comment above something, its lines joined to paragraphs and its fields named as REST knows them."""
    paragraphs = [" ".join(paragraph.split("\n")) for paragraph in descriptors.comment_of(described).split("\n\n")]
    return "\n\n".join(_SNAKE.sub(lambda name: f"`{_camel(name[1])}`", paragraph) for paragraph in paragraphs)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
