"""Writes docs/reference from the protos and the settings: what callers may send and what operators may set.

Usage: python docs/generate.py
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from kiln.options.v1 import options_pb2
from pydantic import SecretStr
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from libs.common.policy import Access, policy_of
from libs.common.settings import DatabaseSettings, ProcessSettings, ServiceSettings, variables_of
from libs.local.settings import Settings as Local
from services.auth.settings import Settings as Auth
from services.compiler.settings import Settings as Compiler
from services.executor.settings import Settings as Executor
from services.gateway import descriptors, surface
from services.gateway.settings import Settings as Gateway
from services.registry.settings import Settings as Registry

REFERENCE: Final = Path(__file__).parent / "reference"
_SERVICES: Final[Mapping[str, type[BaseSettings]]] = {
    "gateway": Gateway,
    "registry": Registry,
    "compiler": Compiler,
    "executor": Executor,
    "auth": Auth,
    "make run": Local,
}
_TITLES: Final = {"shared": "## Several processes\n", "make run": "## `make run`\n"}
_FIELD_NAME: Final = re.compile(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`")
_TYPES: Final = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_DOUBLE: "double",
}
_REST_TYPES: Final = {"bool": "boolean", "int32": "integer", "int64": "string", "double": "number", "bytes": "string (base64)"}
_WELL_KNOWN: Final = {
    "google.protobuf.Timestamp": "string (RFC 3339)",
    "google.protobuf.Value": "any JSON",
    "google.protobuf.ListValue": "array",
    "google.rpc.Status": "object: what stands in `error` of an answer with an error",
}
_WHO: Final = {
    Access.PUBLIC: "anyone, without a credential",
    Access.SIGNED_IN: "everyone who is signed in",
    Access.ADMIN: "users of the role `ADMIN`",
}
_SUCCESS: Final = {"POST": "200", "GET": "200", "PUT": "200", "DELETE": "204"}

_REST_HEAD: Final = """# REST reference

JSON over HTTP/1.1, by default at `http://127.0.0.1:8080`. `GET /openapi.json` describes the same for programs.

- A program sends an API key, `Authorization: Bearer kiln_...`; a browser that has signed in sends its session's cookie, and a request
  that may change something by it must come from a page of the same origin. Nobody known is 401, what the caller may not do is 403.
- `{id}` of a function, user or group is its id or its name. What the caller may not access is 404, as if it were not there.
- Times are RFC 3339 in UTC, enums are bare words, an absent member means what its description says.
- Lists answer `{"<things>": [...], "nextPageToken": ""}`, newest first and stable while things are added. `pageSize` defaults to 50 and is
  at most 1,000; pass `nextPageToken` on as `pageToken` for the next page, with the same filters.
- Every answer has `X-Request-Id`: the caller's own if it sent one. The same id is in the logs of every service and in the execution.
- `input` and `output` are any JSON value and pass through as text: nothing is reordered, rounded or lost. At most 512 levels deep.

An error answers with its status and

```json
{
  "error": {
    "code": 400,
    "status": "INVALID_ARGUMENT",
    "message": "name: must match [a-z][a-z0-9-]{0,62}",
    "details": [
      {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "INVALID_ARGUMENT", "domain": "kiln"},
      {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "..."},
      {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": "name", "description": "must match [a-z][a-z0-9-]{0,62}"}]
      }
    ]
  }
}
```

`reason` is a stable word for programs. A caller that accepts `application/problem+json` gets the same in the form of RFC 9457.

| status | when |
|---|---|
| 400 | bad, missing or unknown member; not JSON; nothing READY to run; a language that is not installed |
| 404 | no such path, function, version or execution |
| 405 | the path has other methods; `Allow` names them |
| 409 | the name is taken |
| 412 | `If-Match` names another state than the present one |
| 413, 431 | body, or headers, too large |
| 415 | a body that is not `application/json` |
| 429 | too busy; `Retry-After` says when to come again |
| 503, 504 | a service is away or too slow; try again |
"""

_GRPC_HEAD: Final = """# gRPC reference

All public services are at one address, by default `127.0.0.1:9090` and without TLS until there is a certificate, with server reflection
and the standard health service:

```console
$ grpcurl -plaintext localhost:9090 list
$ grpcurl -plaintext -H "authorization: Bearer $(cat .kiln/admin.key)" \\
    -d '{"id": "greet", "input": {"name": "Ada"}}' localhost:9090 kiln.executor.v1.Executor/ExecuteFunction
```

A call sends an API key, or the token of a session as `Login` gives it, as `authorization: Bearer ...` in its metadata. Nobody known is
`UNAUTHENTICATED`, what the caller may not do is `PERMISSION_DENIED`, and what it may not access is `NOT_FOUND`, as if it were not there.

Stubs are generated from [protos/](../../protos). Errors carry `google.rpc.ErrorInfo` with a stable reason, and
`google.rpc.BadRequest` with the field for bad input. A call without a deadline gets the one below; a longer one is cut to it.
`x-request-id` in the metadata is taken over, or made, and sent back with the status.
"""

_CONFIGURATION_HEAD: Final = """# Configuration

Settings are environment variables, read once at start. A variable with the prefix `KILN_` that nobody reads stops the start with a message.
A value can come from a file instead: `KILN_DATABASE_URL_FILE=/run/secrets/database-url`.

`make run` starts all services, gives each its addresses and database, and passes the rest of the environment on.
"""


def rest() -> str:
    """docs/reference/rest.md."""
    sections = [_REST_HEAD]
    shown: dict[str, Descriptor] = {}
    for method in descriptors.public_methods():
        if rule := descriptors.http_rule(method):
            sections.append(_rest_call(method, rule))
            _collect(method.output_type, shown)
            _collect_members(method.input_type, shown)
    sections.append("# Objects\n")
    sections += [_rest_object(message) for message in shown.values()]
    return "\n".join(sections)


def grpc() -> str:
    """docs/reference/grpc.md."""
    sections = [_GRPC_HEAD]
    for service in descriptors.public_services():
        sections.append(f"## {service.full_name}\n\n{descriptors.comment_of(service)}\n")
        sections += [_grpc_call(method) for method in service.methods]
    sections.append("# Messages\n")
    for file in {service.file.name: service.file for service in descriptors.public_services()}.values():
        internal = _only_internal(file.services_by_name.values())
        messages = [message for message in file.message_types_by_name.values() if message.full_name not in internal]
        sections += [_grpc_enum(enum) for enum in file.enum_types_by_name.values()]
        sections += [_grpc_message(message) for message in messages]
    # The one enum that callers meet and that stands beside the declarations of access, which are made with it.
    sections.append(_grpc_enum(options_pb2.Verb.DESCRIPTOR))
    return "\n".join(sections)


def configuration() -> str:
    """docs/reference/configuration.md."""
    shared = {*ProcessSettings.model_fields, *ServiceSettings.model_fields, *DatabaseSettings.model_fields}
    rows: dict[str, list[str]] = {"shared": [], **{service: [] for service in _SERVICES}}
    seen: dict[str, list[str]] = {}
    for service, model in _SERVICES.items():
        for name in variables_of(model):
            seen.setdefault(name, []).append(service)
    for service, model in _SERVICES.items():
        for name, field in variables_of(model).items():
            common = field in shared or len(seen[name]) > 1
            if common and seen[name][0] != service:
                continue
            info = model.model_fields[field]
            described = f"{info.description} Read by: {', '.join(seen[name])}." if common else str(info.description)
            rows["shared" if common else service].append(f"| `{name}` | {_default(model, field)} | {described} |")
    return "\n".join([_CONFIGURATION_HEAD, *(_settings(title, table) for title, table in rows.items() if table)])


def _settings(title: str, rows: list[str]) -> str:
    return "\n".join([_TITLES.get(title, f"## The {title}\n"), "| variable | default | meaning |", "|---|---|---|", *rows]) + "\n"


def _default(model: type[BaseSettings], field: str) -> str:
    default = model.model_fields[field].default
    if field == "compiler_concurrency":
        return "number of cores"
    if field == "compiler_lasting_builds":
        return "twice the number of cores"
    if field == "listen_address":
        return "`127.0.0.1` and the service's port: registry 50051, compiler 50053, executor 50054"
    if default is PydanticUndefined:
        return "required"
    return "none" if default is None or isinstance(default, SecretStr) else f"`{default}`"


def _rest_call(method: MethodDescriptor, rule: descriptors.HttpRule) -> str:
    in_path = set(re.findall(r"\{([^}]+)\}", rule.template))
    members = surface.members(method.input_type)
    rows = []
    for member in members.values():
        if member.header:
            place = f"header `{member.header}`"
        elif member.field.name in in_path:
            place = "path"
        else:
            place = "body" if rule.body else "query"
        needed = "yes" if member.is_required else ""
        rows.append(f"| `{member.name}` | {place} | {_rest_type(member)} | {needed} | {_line(_prose(member.described_by))} |")
    table = ["| member | in | type | required | meaning |", "|---|---|---|---|---|", *rows, ""] if rows else []
    status = "201" if method.name.startswith("Create") else _SUCCESS[rule.method]
    answer = "" if status == "204" else f" with {_link(method.output_type)}"
    who = _who(method)
    return "\n".join([f"## {rule.method} {rule.template}\n", f"{_prose(method)}\n", f"{who}\n", *table, f"Answers {status}{answer}.\n"])


def _rest_object(message: Descriptor) -> str:
    rows = [
        f"| `{member.name}` | {_rest_type(member)} | {_line(_prose(member.described_by))} |" for member in surface.members(message).values()
    ]
    return "\n".join([f"## {_name(message)}\n", f"{_prose(message)}\n", "| member | type | meaning |", "|---|---|---|", *rows]) + "\n"


def _rest_type(member: surface.Member) -> str:
    field = member.field
    if surface.is_map(field):
        return "object of texts by name" if _is_of_texts(field) else "object"
    if member.is_json_text:
        single = "any JSON"
    elif field.message_type:
        name = field.message_type.full_name
        single = _WELL_KNOWN.get(name) or _link(field.message_type)
    elif field.enum_type:
        single = _words(field.enum_type)
    else:
        single = _REST_TYPES.get(_TYPES[field.type], _TYPES[field.type])
    return f"list of {single}" if field.is_repeated else single


def _words(enum: EnumDescriptor) -> str:
    return ", ".join(f"`{value.name}`" for value in enum.values if value.number)


def _grpc_call(method: MethodDescriptor) -> str:
    options: Any = method.GetOptions()
    policy = options.Extensions[options_pb2.policy]
    again = ", may be sent again after a lost answer" if policy.idempotent else ""
    asked, answered = ("stream of " if streams else "" for streams in (method.client_streaming, method.server_streaming))
    types = f"{asked}{_link(method.input_type)} → {answered}{_link(method.output_type)}"
    rule = descriptors.http_rule(method)
    also = f" In REST: `{rule.method} {rule.template}`." if rule else ""
    who = _who(method) + (" It is in the audit log." if policy.HasField("audit") else "")
    deadline = f"Deadline {policy.deadline_seconds:g} s{again}.{also}" if policy.deadline_seconds else f"Without a deadline{again}.{also}"
    return f"### {method.name}\n\n{types}\n\n{descriptors.comment_of(method)}\n\n{who}\n\n{deadline}\n"


def _who(method: MethodDescriptor) -> str:
    """Who may call an RPC."""
    policy = policy_of(descriptors.wire_name(method))
    who = _WHO[policy.access]
    if not policy.verb:
        return f"For {who}."
    narrowed = f"a key that is narrowed to kinds of calls needs `{policy.verb}`"
    functions = "looks only at the functions that it is narrowed to" if policy.within_functions else "is not for keys narrowed to functions"
    return f"For {who}; {narrowed}, and the call {functions}."


def _grpc_message(message: Descriptor) -> str:
    rows = [
        f"| {field.number} | `{field.name}` | {_grpc_type(field)} | {_line(descriptors.comment_of(field))} |" for field in message.fields
    ]
    head = f"## {_name(message)}\n\n{descriptors.comment_of(message)}\n"
    table = ["| number | field | type | meaning |", "|---|---|---|---|", *rows] if rows else []
    nested = [_grpc_enum(enum) for enum in message.enum_types]
    return "\n".join([head, *table, *([""] if table else []), *nested])


def _grpc_enum(enum: EnumDescriptor) -> str:
    rows = [f"| {value.number} | `{value.name}` | {_line(descriptors.comment_of(value))} |" for value in enum.values]
    title = f"### {_name(enum)}\n\n{descriptors.comment_of(enum)}\n"
    return "\n".join([title, "| number | value | meaning |", "|---|---|---|", *rows]) + "\n"


def _is_of_texts(field: FieldDescriptor) -> bool:
    """Whether the values of a map are texts."""
    return bool(surface.message_of(field).fields_by_name["value"].type == FieldDescriptor.TYPE_STRING)


def _grpc_type(field: FieldDescriptor) -> str:
    if surface.is_map(field):
        key, value = (_TYPES[surface.message_of(field).fields_by_name[name].type] for name in ("key", "value"))
        return f"map of {key} to {value}"
    if field.message_type:
        name = field.message_type.full_name
        single = f"`{name}`" if name.startswith(surface.WELL_KNOWN) else _link(field.message_type)
    elif field.enum_type:
        single = _link(field.enum_type)
    else:
        single = _TYPES[field.type]
    words = [single] if not field.is_repeated else ["repeated", single]
    if field.has_presence and not field.message_type and not field.containing_oneof:
        words.insert(0, "optional")
    options: Any = field.GetOptions()
    if field_behavior_pb2.REQUIRED in options.Extensions[field_behavior_pb2.field_behavior]:
        words.append("(required)")
    return " ".join(words)


def _only_internal(services: Iterable[ServiceDescriptor]) -> set[str]:
    """Messages of a file that only internal RPCs use."""
    public: dict[str, Descriptor] = {}
    internal: dict[str, Descriptor] = {}
    for service in services:
        for method in service.methods:
            found = internal if service.name.endswith("Internal") else public
            _collect(method.input_type, found)
            _collect(method.output_type, found)
    return set(internal) - set(public)


def _collect(message: Descriptor, found: dict[str, Descriptor]) -> None:
    """A message and all that it holds, in the order of their first use."""
    if message.full_name in found or message.full_name.startswith(surface.WELL_KNOWN):
        return
    found[message.full_name] = message
    _collect_members(message, found)


def _collect_members(message: Descriptor, found: dict[str, Descriptor]) -> None:
    for field in message.fields:
        if field.message_type:
            _collect(field.message_type, found)


def _name(described: Descriptor | EnumDescriptor) -> str:
    return str(described.full_name).removeprefix(f"{described.file.package}.")


def _link(described: Descriptor | EnumDescriptor) -> str:
    if described.full_name.startswith(surface.WELL_KNOWN):
        return f"`{described.full_name}`"
    return f"[{_name(described)}](#{_name(described).lower().replace('.', '')})"


def _prose(described: descriptors.Described) -> str:
    """A comment, its fields named as REST knows them."""
    return _FIELD_NAME.sub(lambda match: f"`{_camel(match[1])}`", descriptors.comment_of(described))


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _line(text: str) -> str:
    """Fit for the cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def pages() -> Iterator[tuple[Path, str]]:
    """Every generated file and what belongs in it."""
    for name, text in (("rest", rest()), ("grpc", grpc()), ("configuration", configuration())):
        yield REFERENCE / f"{name}.md", text.rstrip() + "\n"


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for path, text in pages():
        path.write_text(text, encoding="utf-8")
