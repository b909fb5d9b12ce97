"""The audit log between processes: calls go on while auth is away, and one that a kill cuts off is not forgotten."""

import asyncio
import base64
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from kiln.auth.v1 import auth_pb2 as pb
from kiln.auth.v1 import auth_pb2_grpc
from kiln.registry.v1 import registry_pb2, registry_pb2_grpc

from libs.common.audit import UNFINISHED
from libs.common.channel import open_channel
from libs.common.errors import KilnError
from libs.common.postgres import Database
from libs.local.ports import free_ports
from tests.support.processes import running_process, running_service
from tests.support.waiting import until

AUTH: Final = {"KILN_SEALING_KEY": base64.b64encode(bytes(range(32))).decode()}


async def until_told(address: str, count: int) -> Sequence[pb.AuditEvent]:
    """The log of a running auth service, oldest first, once it has that many events."""
    found: list[pb.AuditEvent] = []
    async with open_channel(address, None) as channel:
        audit: Any = auth_pb2_grpc.AuditStub(channel)

        async def is_there() -> bool:
            found[:] = reversed((await audit.ListAuditEvents(pb.ListAuditEventsRequest())).audit_events)
            return len(found) == count and all(one.outcome != UNFINISHED for one in found)

        await until(is_there)
    return found


async def test_what_a_service_does_while_auth_is_away_is_in_the_log_once_it_is_back(database_url: str, home: Path) -> None:
    with running_service("registry", home / "registry-audit.log", KILN_DATABASE_URL=database_url) as address:
        async with open_channel(address, None) as channel:
            registry: Any = registry_pb2_grpc.RegistryStub(channel)
            new = registry_pb2.CreateFunctionRequest(name="greet", language="assemblyscript", source="one")
            function = await registry.CreateFunction(new)
            await registry.UpdateFunction(registry_pb2.UpdateFunctionRequest(id="greet", description="x"))
            with suppress(KilnError):
                await registry.RollbackFunction(registry_pb2.RollbackFunctionRequest(id="greet", version=1))
            with suppress(KilnError):
                await registry.BuildVersion(registry_pb2.BuildVersionRequest(id="nothing", version=1))
            await registry.GetFunction(registry_pb2.GetFunctionRequest(id="greet"))
            await registry.DeleteFunction(registry_pb2.DeleteFunctionRequest(id="greet"))

    with running_service("auth", home / "auth-audit.log", KILN_DATABASE_URL=database_url, **AUTH) as address:
        log = await until_told(address, 5)

    assert [(one.action, one.entity_kind, one.entity_id, one.outcome) for one in log] == [
        ("CreateFunction", "function", function.id, "OK"),
        ("UpdateFunction", "function", function.id, "OK"),
        ("RollbackFunction", "function", "greet", "FAILED_PRECONDITION"),
        ("BuildVersion", "function", "nothing", "NOT_FOUND"),
        ("DeleteFunction", "function", function.id, "OK"),
    ]
    assert {(one.actor, one.actor_name, one.address) for one in log} == {("", "anyone", "127.0.0.1")}


async def test_a_call_that_was_cut_off_by_a_kill_is_in_the_log_as_unfinished(database: Database, database_url: str, home: Path) -> None:
    log, address = home / "auth-audit-killed.log", f"127.0.0.1:{free_ports(1)[0]}"
    settings = {"KILN_DATABASE_URL": database_url, "KILN_LISTEN_ADDRESS": address, **AUTH}

    async def outcomes() -> list[str]:
        return [row["outcome"] for row in await database.fetch("SELECT outcome FROM auth.audit_events")]

    async def is_begun() -> bool:
        return await outcomes() == [UNFINISHED]

    with running_process("auth", address, log, **settings) as process:
        async with open_channel(address, None) as channel, database.transaction() as transaction:
            # Every change waits for this.
            await transaction.execute("UPDATE auth.revision SET revision = revision")
            auth: Any = auth_pb2_grpc.AuthStub(channel)
            call = asyncio.ensure_future(auth.CreateGroup(pb.CreateGroupRequest(name="crew")))
            await until(is_begun)
            process.kill()
            await asyncio.wait([call])
            assert isinstance(call.exception(), KilnError)

    with running_process("auth", address, log, **settings):
        async with open_channel(address, None) as channel:
            audit: Any = auth_pb2_grpc.AuditStub(channel)
            (event,) = (await audit.ListAuditEvents(pb.ListAuditEventsRequest(outcome=UNFINISHED))).audit_events

    assert (event.action, event.actor_name, event.outcome, event.reason) == ("CreateGroup", "anyone", UNFINISHED, "")
