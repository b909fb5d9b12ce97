"""Every RPC says how long it may take and whether it may be sent again."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from kiln.compiler.v1 import compiler_pb2
from kiln.executor.v1 import executor_pb2
from kiln.options.v1 import options_pb2
from kiln.registry.v1 import registry_pb2

from libs.common.policy import policy_of

FILES = (compiler_pb2, executor_pb2, registry_pb2)


def rpcs() -> Iterator[str]:
    """Wire names of all RPCs."""
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from (f"/{service.full_name}/{method.name}" for method in service.methods)


def declared(name: str) -> bool:
    service, _, method = name.removeprefix("/").partition("/")
    options: Any = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method].GetOptions()
    return bool(options.HasExtension(options_pb2.policy))


@pytest.mark.parametrize("name", list(rpcs()))
def test_every_rpc_declares_its_policy(name: str) -> None:
    assert declared(name)


def test_a_read_has_its_deadline_and_may_be_sent_again() -> None:
    policy = policy_of("/kiln.registry.v1.Registry/GetFunction")

    assert policy.deadline_seconds == 10
    assert policy.idempotent


def test_a_change_that_must_not_happen_twice_says_so() -> None:
    assert not policy_of("/kiln.registry.v1.Registry/CreateFunction").idempotent


def test_a_stream_that_stays_open_has_no_deadline() -> None:
    assert policy_of("/kiln.registry.v1.RegistryInternal/WatchFunctions").deadline_seconds is None


@pytest.mark.parametrize("method", ["/grpc.health.v1.Health/Watch", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"])
def test_open_streams_of_the_standard_services_have_no_deadline(method: str) -> None:
    assert policy_of(method).deadline_seconds is None


def test_a_health_check_has_a_deadline() -> None:
    assert policy_of("/grpc.health.v1.Health/Check").deadline_seconds == 10


@pytest.mark.parametrize("method", ["/kiln.registry.v1.Nothing/Get", "/kiln.registry.v1.Registry/Nothing", "", "/"])
def test_an_unknown_rpc_has_no_policy(method: str) -> None:
    with pytest.raises(KeyError):
        policy_of(method)
