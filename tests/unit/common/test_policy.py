"""Every RPC says how long it may take, whether it may be sent again, and who may call it."""

import asyncio
import re
from typing import Any, Final

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from kiln.options.v1 import options_pb2

from libs.common.access.guard import OpenGuard
from libs.common.carried import Handlers
from libs.common.interceptors import ServerInterceptor
from libs.common.policy import Access, policy_of
from libs.common.server import start_server
from services.gateway import descriptors

RPCS: Final = [descriptors.wire_name(method) for service in descriptors.services() for method in service.methods]
PUBLIC_RPCS: Final = [descriptors.wire_name(method) for method in descriptors.public_methods()]
# What anyone may call, who signs in by the first and verifies tokens by the second. Whoever adds one must say it here too.
ANYONES: Final = {
    f"/kiln.auth.v1.Auth/{name}" for name in ("Login", "ListIdentityProviders", "BeginOidcLogin", "CompleteOidcLogin", "GetKeySet")
}
# What every key may call, whatever it is narrowed to: it is about the caller alone.
OF_NO_KIND: Final = {f"/kiln.auth.v1.Auth/{name}" for name in ("Logout", "GetCaller", "ChangePassword", "RotateApiKey")}
# What no more than an ADMIN may. Everything else that changes something is the caller's own: its sessions, keys and password.
ADMINS: Final = {
    *(f"/kiln.registry.v1.Registry/{name}Function" for name in ("Create", "Update", "Delete", "Rollback")),
    "/kiln.registry.v1.Registry/BuildVersion",
    *(f"/kiln.registry.v1.Environments/{verb}Environment" for verb in ("Create", "Update", "Delete")),
    *(f"/kiln.auth.v1.Auth/{verb}{thing}" for verb in ("Create", "Get", "Update", "Delete") for thing in ("User", "Group")),
    "/kiln.auth.v1.Audit/ListAuditEvents",
    *(f"/kiln.auth.v1.Auth/{name}" for name in ("ListUsers", "ListGroups", "ListMembers", "AddMember", "RemoveMember")),
}


AUDITED: Final = [method for method in descriptors.public_methods() if policy_of(descriptors.wire_name(method)).audited]


def declared(name: str) -> Any:
    service, _, method = name.removeprefix("/").partition("/")
    options: Any = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method].GetOptions()
    return options.Extensions[options_pb2.policy]


def test_every_service_is_looked_at() -> None:
    services = {name.split("/")[1].split(".")[1] for name in RPCS}

    assert services == {"auth", "carrier", "compiler", "executor", "registry"}


@pytest.mark.parametrize("name", RPCS)
def test_every_rpc_declares_who_may_call_it(name: str) -> None:
    assert declared(name).access != options_pb2.ACCESS_UNSPECIFIED
    assert policy_of(name).access in Access


@pytest.mark.parametrize("name", RPCS)
def test_an_rpc_is_for_services_where_it_is_internal_and_nowhere_else(name: str) -> None:
    assert (policy_of(name).access is Access.SERVICE) == (name not in PUBLIC_RPCS)


def test_anyone_may_call_what_is_on_the_list_and_nothing_else() -> None:
    assert {name for name in RPCS if policy_of(name).access is Access.PUBLIC} == ANYONES


def test_only_an_admin_may_call_what_is_on_the_list() -> None:
    assert {name for name in RPCS if policy_of(name).access is Access.ADMIN} == ADMINS


@pytest.mark.parametrize("name", PUBLIC_RPCS)
def test_what_is_called_from_outside_is_of_a_kind_that_a_key_can_be_narrowed_to(name: str) -> None:
    assert (policy_of(name).verb == "") == (name in ANYONES | OF_NO_KIND)


@pytest.mark.parametrize("name", PUBLIC_RPCS)
def test_reads_are_for_reading_and_whatever_makes_or_changes_something_is_not(name: str) -> None:
    reads = name.rpartition("/")[2].startswith(("Get", "List"))

    assert (policy_of(name).verb == "READ") == (reads and name not in ANYONES | OF_NO_KIND)


def test_a_key_for_some_functions_is_for_calls_about_functions_alone() -> None:
    within = {name for name in RPCS if policy_of(name).within_functions}

    assert {name.split("/")[1] for name in within} == {"kiln.registry.v1.Registry", "kiln.executor.v1.Executor"}
    # A new function is none of those that it is for.
    assert "/kiln.registry.v1.Registry/CreateFunction" not in within


# The audit log


@pytest.mark.parametrize("name", RPCS)
def test_what_is_called_from_outside_and_changes_something_is_in_the_audit_log_and_nothing_else(name: str) -> None:
    # That a login begins is written nowhere.
    is_read = name.rpartition("/")[2].startswith(("Get", "List", "BeginOidc"))
    changes = name in PUBLIC_RPCS and not is_read and policy_of(name).verb != "EXECUTE"

    assert (policy_of(name).audited is not None) == changes


def test_an_rpc_of_the_kind_manage_is_in_the_audit_log() -> None:
    assert [name for name in RPCS if policy_of(name).verb == "MANAGE" and not policy_of(name).audited] == []


@pytest.mark.parametrize("method", AUDITED, ids=descriptors.wire_name)
def test_the_audit_log_finds_its_ids_where_they_are_said_to_be(method: MethodDescriptor) -> None:
    audited = policy_of(descriptors.wire_name(method)).audited
    assert audited
    roots = {"request": method.input_type, "answer": method.output_type}

    assert re.fullmatch("[a-z_]+", audited.entity)
    assert audited.id
    for path in (*audited.id, *audited.user):
        root, *names = path.split(".")
        if root == "caller":
            assert names in (["id"], ["session"])
            continue
        message: Any = roots[root]
        for name in names[:-1]:
            message = message.fields_by_name[name].message_type
        field = message.fields_by_name[names[-1]]
        assert (field.type, field.is_repeated) == (field.TYPE_STRING, False)


def test_an_action_of_the_audit_log_is_of_one_rpc() -> None:
    assert len({method.name for method in AUDITED}) == len(AUDITED)


def test_no_stream_is_in_the_audit_log() -> None:
    assert not [method.full_name for method in AUDITED if method.client_streaming or method.server_streaming]


# An RPC that says nothing


@pytest.fixture(scope="module")
def unspoken() -> str:
    """A service of which one RPC does not say who may call it."""
    file = descriptor_pb2.FileDescriptorProto(name="kiln/unspoken/v1/unspoken.proto", package="kiln.unspoken.v1", syntax="proto3")
    file.message_type.add(name="Message")
    service = file.service.add(name="Unspoken")
    for name in ("Spoken", "Get", "Watch"):
        method = service.method.add(name=name, input_type=".kiln.unspoken.v1.Message", output_type=".kiln.unspoken.v1.Message")
        options: Any = method.options
        options.Extensions[options_pb2.policy].deadline_seconds = 10
    options = service.method[0].options
    options.Extensions[options_pb2.policy].access = options_pb2.SIGNED_IN
    file.dependency.append("kiln/options/v1/options.proto")
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    return "kiln.unspoken.v1.Unspoken"


def test_an_rpc_that_does_not_say_who_may_call_it_has_no_policy(unspoken: str) -> None:
    assert policy_of(f"/{unspoken}/Spoken").access is Access.SIGNED_IN
    with pytest.raises(ValueError, match="Unspoken/Get does not declare who may call it"):
        policy_of(f"/{unspoken}/Get")


@pytest.mark.parametrize("method", ["Get", "Watch"])
async def test_a_service_with_such_an_rpc_is_not_started(unspoken: str, method: str) -> None:
    async def answer(message: bytes, context: Any) -> bytes:
        return message

    async def stream(message: bytes, context: Any) -> Any:
        yield message

    handlers: dict[str, Any] = {"Get": grpc.unary_unary_rpc_method_handler(answer), "Watch": grpc.unary_stream_rpc_method_handler(stream)}
    around = ServerInterceptor(OpenGuard(), max_concurrent=4)

    def register(server: Any, name: str = method) -> None:
        server.add_registered_method_handlers(unspoken, {name: handlers[name]})

    with pytest.raises(ValueError, match=f"Unspoken/{method} does not declare who may call it"):
        await asyncio.wait_for(start_server("127.0.0.1:0", [register], services=[unspoken], around=around), 5)
    spoken = Handlers(around, grpc.aio.server())
    spoken.add_registered_method_handlers(unspoken, {"Spoken": handlers["Get"]})
    assert list(spoken.by_method) == [f"/{unspoken}/Spoken"]


# Deadlines


def test_a_read_has_its_deadline_and_may_be_sent_again() -> None:
    policy = policy_of("/kiln.registry.v1.Registry/GetFunction")

    assert policy.deadline_seconds == 10
    assert policy.idempotent


def test_a_change_that_must_not_happen_twice_says_so() -> None:
    assert not policy_of("/kiln.registry.v1.Registry/CreateFunction").idempotent


def test_a_stream_that_stays_open_has_no_deadline() -> None:
    assert policy_of("/kiln.registry.v1.RegistryInternal/Watch").deadline_seconds is None


@pytest.mark.parametrize("method", ["/grpc.health.v1.Health/Watch", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"])
def test_open_streams_of_the_standard_services_have_no_deadline(method: str) -> None:
    assert policy_of(method).deadline_seconds is None


def test_a_health_check_has_a_deadline() -> None:
    assert policy_of("/grpc.health.v1.Health/Check").deadline_seconds == 10


@pytest.mark.parametrize("method", ["/kiln.registry.v1.Nothing/Get", "/kiln.registry.v1.Registry/Nothing", "", "/"])
def test_an_unknown_rpc_has_no_policy(method: str) -> None:
    with pytest.raises(KeyError):
        policy_of(method)
