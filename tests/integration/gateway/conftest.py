"""A gateway in front of services that answer as a test says."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from libs.local.ports import free_ports
from tests.support.access import SERVICE_SECRET, PlayedAuth, playing_auth
from tests.support.processes import running_process
from tests.support.services import Services, running_services


@dataclass(frozen=True)
class Gateway:
    """A running gateway.

    Attributes:
        http_address, grpc_address: `host:port`.
        http: A client of its REST.
        services: What it asks.
        process: Its own.
    """

    http_address: str
    grpc_address: str
    http: httpx.Client
    services: Services
    process: psutil.Process


@pytest.fixture(scope="session")
def shared_gateway(home: Path) -> Iterator[Gateway]:
    """One gateway for all tests, with little patience."""
    http, grpc = (f"127.0.0.1:{port}" for port in free_ports(2))
    with running_services() as (address, services):
        settings = {
            "KILN_HTTP_ADDRESS": http,
            "KILN_GRPC_ADDRESS": grpc,
            "KILN_REGISTRY_ADDRESS": address,
            "KILN_COMPILER_ADDRESS": address,
            "KILN_EXECUTOR_ADDRESS": address,
            "KILN_AUTH_ADDRESS": address,
            "KILN_MAX_CONCURRENT_CALLS": "8",
            "KILN_GATEWAY_HEADER_SECONDS": "1",
            "KILN_GATEWAY_BODY_SECONDS": "1",
        }
        with (
            running_process("gateway", grpc, home / "gateway.log", **settings) as process,
            httpx.Client(base_url=f"http://{http}", timeout=20, trust_env=False) as client,
        ):
            yield Gateway(http, grpc, client, services, process)


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Iterator[Gateway]:
    """The gateway, with services that know nothing yet."""
    yield shared_gateway
    shared_gateway.services.forget()


@dataclass(frozen=True)
class GuardedGateway(Gateway):
    """A gateway that asks who calls.

    Attributes:
        auth: Whom it asks; `services` are all others.
    """

    auth: PlayedAuth


@contextmanager
def running_guarded_gateway(log: Path, **more: str) -> Iterator[GuardedGateway]:
    """A gateway that asks who calls, with these settings besides."""
    http, grpc = (f"127.0.0.1:{port}" for port in free_ports(2))
    with running_services() as (address, services), playing_auth() as (auth_address, auth):
        settings = {
            "KILN_AUTH": "on",
            "KILN_SERVICE_SECRET": SERVICE_SECRET,
            "KILN_AUTH_ADDRESS": auth_address,
            "KILN_HTTP_ADDRESS": http,
            "KILN_GRPC_ADDRESS": grpc,
            "KILN_REGISTRY_ADDRESS": address,
            "KILN_COMPILER_ADDRESS": address,
            "KILN_EXECUTOR_ADDRESS": address,
            **more,
        }
        with (
            running_process("gateway", grpc, log, **settings) as process,
            httpx.Client(base_url=f"http://{http}", timeout=20, trust_env=False) as client,
        ):
            yield GuardedGateway(http, grpc, client, services, process, auth)


@pytest.fixture(scope="session")
def shared_guarded_gateway(home: Path) -> Iterator[GuardedGateway]:
    """One gateway for all tests of who calls."""
    with running_guarded_gateway(home / "guarded-gateway.log") as gateway:
        yield gateway


@pytest.fixture
def guarded(shared_guarded_gateway: GuardedGateway) -> Iterator[GuardedGateway]:
    """The gateway, with services that know nothing yet and an auth service that knows nobody."""
    gateway = shared_guarded_gateway
    gateway.http.cookies.clear()
    yield gateway
    gateway.services.forget()
    gateway.auth.forget()
