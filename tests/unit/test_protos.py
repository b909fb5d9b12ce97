"""The protos say everything there is to say, and what is generated from them is fresh."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor

from protos.generate import generate
from services.gateway import descriptors
from services.gateway.descriptors import Described, comment_of, http_rule, wire_name

GENERATED: Final = Path(__file__).parents[2] / "libs" / "gen"
RPCS: Final = [method for service in descriptors.services() for method in service.methods]
PUBLIC: Final = list(descriptors.public_methods())
# What is asked and answered as long as the caller wants, which HTTP/1.1 has no form for.
STREAMS: Final = [method for method in PUBLIC if method.client_streaming]


def files_in(folder: Path) -> dict[str, bytes]:
    """Relative path → contents of everything generated in a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def described() -> Iterator[tuple[str, Described]]:
    """Everything in Kiln's own protos that a comment can stand above, with its name."""
    seen: set[str] = set()
    for service in descriptors.services():
        yield service.full_name, service
        for method in service.methods:
            yield wire_name(method), method
            for message in (method.input_type, method.output_type):
                yield from described_in(message, seen)


def described_in(message: Descriptor, seen: set[str]) -> Iterator[tuple[str, Described]]:
    """A message of Kiln's, its fields, and all that they are made of, each once."""
    if message.full_name in seen or not message.full_name.startswith("kiln.") or message.GetOptions().map_entry:
        return
    seen.add(message.full_name)
    yield message.full_name, message
    for field in message.fields:
        yield field.full_name, field
        if field.message_type:
            yield from described_in(field.message_type, seen)
        if (enum := field.enum_type) and enum.full_name not in seen:
            seen.add(enum.full_name)
            yield enum.full_name, enum
            yield from ((f"{enum.full_name}.{value.name}", value) for value in enum.values)


def is_in_a_oneof_with_a_comment(thing: Described) -> bool:
    """Whether the comment stands above the choice of which a field is one."""
    oneof = getattr(thing, "containing_oneof", None)
    return bool(oneof and comment_of(oneof))


def test_what_is_generated_is_fresh(tmp_path: Path) -> None:
    generate(tmp_path / "gen")

    fresh, kept = files_in(tmp_path / "gen"), files_in(GENERATED)

    assert sorted(kept) == sorted(fresh), "run `make protos`"
    assert [name for name in fresh if fresh[name] != kept[name]] == [], "run `make protos`"


@pytest.mark.parametrize("thing", [pytest.param(thing, id=name) for name, thing in described()])
def test_everything_has_a_comment(thing: Described) -> None:
    assert comment_of(thing) or is_in_a_oneof_with_a_comment(thing)


@pytest.mark.parametrize("method", [method for method in PUBLIC if method not in STREAMS], ids=wire_name)
def test_every_public_rpc_that_is_no_stream_has_a_place_in_rest(method: MethodDescriptor) -> None:
    rule = http_rule(method)

    assert rule is not None
    assert rule.template.startswith("/")


@pytest.mark.parametrize("method", [method for method in RPCS if method not in PUBLIC or method in STREAMS], ids=wire_name)
def test_no_internal_rpc_and_no_stream_has_a_place_in_rest(method: MethodDescriptor) -> None:
    assert http_rule(method) is None


def test_no_two_rpcs_have_the_same_place_in_rest() -> None:
    places = [(rule.method, rule.template) for method in PUBLIC if (rule := http_rule(method))]

    assert len(places) == len(set(places)) == len(PUBLIC) - len(STREAMS)
