"""What the protos declare: the public services, and the comments beside everything.

Generated Python code has no comments, so they are read from `kiln.binpb`, which `protos/generate.py` writes with them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

import kiln
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    EnumValueDescriptor,
    FieldDescriptor,
    MethodDescriptor,
    OneofDescriptor,
    ServiceDescriptor,
)
from google.protobuf.message import Message

DESCRIPTOR_SET: Final = Path(kiln.__file__).parents[1] / "kiln.binpb"
_INTERNAL_SUFFIX: Final = "Internal"

# Numbers of fields in descriptor.proto, of which the paths in source_code_info are made.
_OF_FILE: Final = {"message_type": 4, "enum_type": 5, "service": 6}
_OF_MESSAGE: Final = {"field": 2, "nested_type": 3, "enum_type": 4, "oneof_decl": 8}
_METHODS, _ENUM_VALUES = 2, 2

Described = Descriptor | EnumDescriptor | EnumValueDescriptor | FieldDescriptor | MethodDescriptor | OneofDescriptor | ServiceDescriptor


@dataclass(frozen=True, slots=True)
class HttpRule:
    """A `google.api.http` annotation: `body` is `*`, the name of a field, or empty."""

    method: str
    template: str
    body: str


@cache
def descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """All protos with their comments."""
    return descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET.read_bytes())


@cache
def services() -> tuple[ServiceDescriptor, ...]:
    """Every service that the protos declare, public or not, in the order of their names."""
    found: list[ServiceDescriptor] = []
    for file in descriptor_set().file:
        if file.service:
            # protoc names the module of a proto so.
            module = import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
            found.extend(module.DESCRIPTOR.services_by_name.values())
    return tuple(sorted(found, key=lambda service: service.full_name))


def public_services() -> tuple[ServiceDescriptor, ...]:
    """The services that may be called from outside."""
    return tuple(service for service in services() if not service.name.endswith(_INTERNAL_SUFFIX))


def public_methods() -> Iterator[MethodDescriptor]:
    """Every RPC that may be called from outside."""
    for service in public_services():
        yield from service.methods


def wire_name(method: MethodDescriptor) -> str:
    """`/package.Service/Method`."""
    return f"/{method.containing_service.full_name}/{method.name}"


def owner(service_name: str) -> str:
    """The service of the platform that answers for a proto service: `registry` for `kiln.registry.v1.Registry`."""
    return service_name.split(".")[1]


def message_class(descriptor: Descriptor) -> type[Message]:
    """The class of a message."""
    return message_factory.GetMessageClass(descriptor)


def http_rule(method: MethodDescriptor) -> HttpRule | None:
    """The RPC's place in REST; None where it has none."""
    options: Any = method.GetOptions()
    rule = options.Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    return HttpRule(verb.upper(), getattr(rule, verb), rule.body) if verb else None


def comment_of(described: Described) -> str:
    """The comment above something in the protos, without the marks; empty where there is none."""
    # A value of an enum knows its own name alone.
    scope: Any = described.type if isinstance(described, EnumValueDescriptor) else None
    return _comments().get(f"{scope.full_name}.{described.name}" if scope else cast(Any, described).full_name, "")


@cache
def _comments() -> dict[str, str]:
    """Full name → comment."""
    found: dict[str, str] = {}
    for file in descriptor_set().file:
        names = dict(_named(file))
        for location in file.source_code_info.location:
            if (name := names.get(tuple(location.path))) and location.leading_comments:
                found[name] = _unmarked(location.leading_comments)
    return found


def _unmarked(comment: str) -> str:
    return "\n".join(line.removeprefix(" ").rstrip() for line in comment.splitlines()).strip()


def _named(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Path in source_code_info → full name, of everything in a file."""
    for i, message in enumerate(file.message_type):
        yield from _named_in_message(message, (_OF_FILE["message_type"], i), file.package)
    for i, enum in enumerate(file.enum_type):
        yield from _named_in_enum(enum, (_OF_FILE["enum_type"], i), file.package)
    for i, service in enumerate(file.service):
        path, name = (_OF_FILE["service"], i), f"{file.package}.{service.name}"
        yield path, name
        yield from (((*path, _METHODS, j), f"{name}.{method.name}") for j, method in enumerate(service.method))


def _named_in_message(message: descriptor_pb2.DescriptorProto, path: tuple[int, ...], scope: str) -> Iterator[tuple[tuple[int, ...], str]]:
    name = f"{scope}.{message.name}"
    yield path, name
    yield from (((*path, _OF_MESSAGE["field"], i), f"{name}.{field.name}") for i, field in enumerate(message.field))
    yield from (((*path, _OF_MESSAGE["oneof_decl"], i), f"{name}.{oneof.name}") for i, oneof in enumerate(message.oneof_decl))
    for i, nested in enumerate(message.nested_type):
        yield from _named_in_message(nested, (*path, _OF_MESSAGE["nested_type"], i), name)
    for i, enum in enumerate(message.enum_type):
        yield from _named_in_enum(enum, (*path, _OF_MESSAGE["enum_type"], i), name)


def _named_in_enum(enum: descriptor_pb2.EnumDescriptorProto, path: tuple[int, ...], scope: str) -> Iterator[tuple[tuple[int, ...], str]]:
    name = f"{scope}.{enum.name}"
    yield path, name
    yield from (((*path, _ENUM_VALUES, i), f"{name}.{value.name}") for i, value in enumerate(enum.value))
