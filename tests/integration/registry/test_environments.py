"""Environments: what comes back and what never does, what functions read, and what watchers are told."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID, uuid4

import pytest
from kiln.registry.v1 import environments_pb2 as pb
from kiln.registry.v1 import environments_pb2_grpc, registry_pb2

from libs.common.access.principal import Principal
from libs.common.channel import open_channel
from libs.common.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    KilnError,
    NotFound,
    PermissionDenied,
)
from libs.common.ids import uuid7
from libs.common.pages import Page
from libs.common.sealing import Sealer
from services.registry.access import AccessPatch
from services.registry.environment_repository import EnvironmentRepository
from services.registry.environments import Changes, EnvironmentPatch, Environments, NewEnvironment
from services.registry.repository import FunctionRepository
from services.registry.vault import Vault
from tests.integration.registry.conftest import Running, running_registry
from tests.support.callers import ADMIN, dev
from tests.support.postgres import TestPostgres
from tests.support.processes import SEALING_KEY
from tests.support.registry import postgres_world
from tests.support.waiting import until

CANARY: Final = "canary-9f3c1d7a55"
OTHER_KEY: Final = base64.b64encode(os.urandom(32)).decode()


class Calls:
    """Calls about environments."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def create(self, name: str, **fields: Any) -> pb.Environment:
        created: pb.Environment = await self._stub.CreateEnvironment(pb.CreateEnvironmentRequest(name=name, **fields))
        return created

    async def get(self, reference: str) -> pb.Environment:
        found: pb.Environment = await self._stub.GetEnvironment(pb.GetEnvironmentRequest(id=reference))
        return found

    async def update(self, reference: str, **fields: Any) -> pb.Environment:
        request = pb.UpdateEnvironmentRequest(id=reference)
        for list_of in ("allowed_users", "allowed_groups"):
            if list_of in fields:
                getattr(request, list_of).extend(fields.pop(list_of))
        request.MergeFrom(pb.UpdateEnvironmentRequest(**fields))
        updated: pb.Environment = await self._stub.UpdateEnvironment(request)
        return updated

    async def delete(self, reference: str) -> None:
        await self._stub.DeleteEnvironment(pb.DeleteEnvironmentRequest(id=reference))

    async def list(self, **page: Any) -> pb.ListEnvironmentsResponse:
        found: pb.ListEnvironmentsResponse = await self._stub.ListEnvironments(pb.ListEnvironmentsRequest(**page))
        return found


@asynccontextmanager
async def calling(running: Running) -> AsyncIterator[Calls]:
    async with open_channel(running.address, None) as channel:
        yield Calls(environments_pb2_grpc.EnvironmentsStub(channel))


@pytest.fixture(scope="module")
async def calls(running: Running) -> AsyncIterator[Calls]:
    async with calling(running) as made:
        yield made


async def refusal(kind: type[KilnError], call: Any) -> KilnError:
    with pytest.raises(kind) as caught:
        await call
    return caught.value


def values_of(found: registry_pb2.ResolveVersionResponse) -> Mapping[str, Mapping[str, str]]:
    return {one.name: dict(one.values) for one in found.environments}


# What comes back


async def test_an_environment_comes_back_without_the_values_of_its_secrets(calls: Calls) -> None:
    created = await calls.create(
        "first", description="é", variables={"GREETING": "Hi \u2028😀", "EMPTY": ""}, secrets={"TOKEN": CANARY, "KEY": CANARY}
    )

    found = await calls.get("first")

    assert found == created == await calls.get(created.id.upper())
    assert (found.name, found.description, dict(found.variables)) == ("first", "é", {"GREETING": "Hi \u2028😀", "EMPTY": ""})
    assert found.secret_names == ["KEY", "TOKEN"]
    assert CANARY not in str(found)


async def test_an_update_changes_what_it_names_and_nothing_else(calls: Calls) -> None:
    first = await calls.create("updated", description="old", variables={"A": "1", "B": "2", "C": "3"}, secrets={"S": "4", "T": "5"})

    changed = await calls.update("updated", variables={"A": "6", "S": "7"}, secrets={"B": "8"}, removed=["C", "NOT_THERE"])
    described = await calls.update(first.id, description="")

    assert (dict(changed.variables), list(changed.secret_names), changed.description) == ({"A": "6", "S": "7"}, ["B", "T"], "old")
    assert (dict(described.variables), list(described.secret_names), described.description) == ({"A": "6", "S": "7"}, ["B", "T"], "")
    assert len({first.etag, changed.etag, described.etag}) == 3


async def test_an_update_can_be_kept_to_the_edition_that_was_read(calls: Calls) -> None:
    first = await calls.create("edited", variables={"A": "1"})
    await calls.update("edited", etag=first.etag, variables={"A": "2"})

    refused = await refusal(Aborted, calls.update("edited", etag=first.etag, variables={"A": "3"}))
    await calls.update("edited", etag="*", description="any")

    assert refused.reason == "ETAG_MISMATCH"
    assert dict((await calls.get("edited")).variables) == {"A": "2"}


async def test_a_list_has_each_once_newest_first_and_no_variables(calls: Calls) -> None:
    made = [(await calls.create(f"listed-{n}", variables={"A": CANARY}, secrets={"B": CANARY})).id for n in range(5)]

    pages: list[Sequence[pb.Environment]] = []
    token = ""
    while not pages or token:
        answer = await calls.list(page_size=2, page_token=token)
        pages.append(answer.environments)
        token = answer.next_page_token

    listed = [one.id for page in pages for one in page]
    assert listed == sorted(listed, reverse=True)
    assert [one for one in listed if one in made] == made[::-1]
    assert all(len(page) <= 2 for page in pages)
    assert CANARY not in str(pages)
    assert not any(one.variables or one.secret_names for page in pages for one in page)


async def test_a_deleted_environment_is_gone_with_its_values_and_its_name_is_free(calls: Calls, running: Running) -> None:
    first = await calls.create("again", secrets={"A": CANARY})
    await calls.delete("again")

    gone = [await refusal(NotFound, call) for call in (calls.get("again"), calls.get(first.id), calls.delete("again"))]
    second = await calls.create("again")

    assert {one.reason for one in gone} == {"ENVIRONMENT_NOT_FOUND"}
    assert (second.id != first.id, list(second.secret_names)) == (True, [])
    assert await running.database.fetchval("SELECT count(*) FROM registry.variables WHERE environment_id = $1", UUID(first.id)) == 0


MANY: Final = {f"N{n}": "" for n in range(101)}
MISTAKES: Final[Mapping[str, tuple[Mapping[str, Any], str, str]]] = {
    "a name with capitals": ({"name": "Production"}, "name", "must be 1 to 63"),
    "an id for a name": ({"name": str(uuid7())}, "name", "must be 1 to 63"),
    "no name": ({"name": ""}, "name", "must be 1 to 63"),
    "a long description": ({"description": "x" * 1001}, "description", "1001 characters"),
    "a variable that begins with a digit": ({"variables": {"1A": ""}}, "variables", "'1A' is no name"),
    "a variable with an equals sign": ({"variables": {"A=B": ""}}, "variables", "'A=B' is no name"),
    "a variable without a name": ({"secrets": {"": "x"}}, "secrets", "'' is no name"),
    "a long name": ({"secrets": {"A" * 129: "x"}}, "secrets", "is no name"),
    "a NUL in a value": ({"variables": {"A": "x\0y"}}, "variables", "the value of A has a NUL"),
    "a NUL in a secret": ({"secrets": {"A": f"{CANARY}\0"}}, "secrets", "the value of A has a NUL"),
    "a name in both": ({"variables": {"A": "x"}, "secrets": {"A": "y"}}, "secrets", "A is in variables too"),
    "too many": ({"variables": MANY}, "variables", "make 101 in all"),
    "too many secrets": ({"secrets": MANY}, "secrets", "make 101 in all"),
    "too much": ({"variables": {"A": "x" * 65_536}}, "variables", "make 65537 bytes in all"),
    "a user that is none": ({"allowed_users": ["ada"]}, "allowed_users", "'ada' is none"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_is_told_by_its_field_and_nothing_is_made(calls: Calls, mistake: str) -> None:
    fields, field, words = MISTAKES[mistake]

    refused = await refusal(InvalidArgument, calls.create(**{"name": "mistaken", **fields}))

    assert isinstance(refused, InvalidArgument)
    assert [one.field for one in refused.violations] == [field]
    assert words in refused.message
    assert CANARY not in refused.message
    assert (await refusal(NotFound, calls.get("mistaken"))).reason == "ENVIRONMENT_NOT_FOUND"


async def test_the_bounds_hold_for_all_that_an_environment_has_and_not_for_what_is_sent_alone(calls: Calls) -> None:
    await calls.create("bounded", variables={"A": "x" * 65_000})

    refused = await refusal(InvalidArgument, calls.update("bounded", secrets={"B": "x" * 600}))
    await calls.update("bounded", secrets={"B": "x" * 600}, removed=["A"])
    await calls.update("bounded", variables={"B": "x" * 65_535})

    assert "make 65602 bytes in all" in refused.message
    assert dict((await calls.get("bounded")).variables) == {"B": "x" * 65_535}


async def test_a_name_is_taken_once_however_many_try(calls: Calls) -> None:
    tries = await asyncio.gather(*(calls.create("raced", variables={"N": str(n)}) for n in range(8)), return_exceptions=True)

    made = [one for one in tries if isinstance(one, pb.Environment)]
    assert len(made) == 1
    assert {type(one) for one in tries if one is not made[0]} == {AlreadyExists}
    assert await calls.get("raced") == made[0]


# At rest


async def test_no_value_is_in_any_table_or_log(calls: Calls, running: Running, home: Path) -> None:
    await calls.create("at-rest", variables={"A": f"{CANARY}-plain"}, secrets={"B": CANARY})
    await calls.update("at-rest", secrets={"B": f"{CANARY}-new", "C": CANARY})
    await calls.create("at-rest-too", secrets={"B": CANARY})

    tables = "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname <> 'pg_catalog'"
    names = await running.database.fetch(tables)
    dumps = [str(row) for one in names for row in await running.database.fetch(f"SELECT t::text FROM {one['name']} AS t")]
    raw = await running.database.fetch("SELECT sealed FROM registry.variables")

    assert any("at-rest-too" in row for row in dumps)
    assert not [row[:200] for row in dumps if CANARY in row or CANARY.encode().hex() in row]
    assert not any(CANARY.encode() in row["sealed"] for row in raw)
    assert len({row["sealed"] for row in raw}) == len(raw)
    assert CANARY not in (home / "registry.log").read_text()


async def test_a_sealed_value_opens_in_its_own_row_alone_and_a_secret_cannot_be_made_plain(calls: Calls, running: Running) -> None:
    one = await calls.create("moved", variables={"A": "a", "B": "b"}, secrets={"S": CANARY})
    function = await running.create("moved", environments=["moved"])
    other = "SELECT sealed FROM registry.variables WHERE environment_id = $1 AND name = $2"
    move = f"UPDATE registry.variables SET sealed = ({other}), secret = $4 WHERE environment_id = $1 AND name = $3"

    for source, target, secret in (("B", "A", False), ("S", "A", False), ("S", "S", False)):
        await running.database.execute(move, UUID(one.id), source, target, secret)
        shown = await calls.get("moved")
        assert (list(shown.broken_names), CANARY in str(shown), target in shown.variables) == ([target], False, False)
        (told,) = [one.environment async for one in snapshot(running) if one.environment.name == "moved"]
        assert (told.broken, dict(told.values)) == (True, {})
        repaired = await calls.update("moved", variables={"A": "a", "B": "b"}, secrets={"S": CANARY})
        assert (dict(repaired.variables), list(repaired.secret_names)) == ({"A": "a", "B": "b"}, ["S"])
        assert list(repaired.broken_names) == []
    assert (await running.get(function.id)).environments == ["moved"]


async def snapshot(running: Running) -> AsyncIterator[registry_pb2.WatchResponse]:
    """What a watcher is told first."""

    async def say() -> AsyncIterator[registry_pb2.WatchRequest]:
        yield registry_pb2.WatchRequest()
        await asyncio.sleep(60)

    stream = running.internal.Watch(say())
    try:
        async for event in stream:
            if event.WhichOneof("event") == "snapshot_end":
                return
            yield event
    finally:
        stream.cancel()


async def test_a_new_key_seals_again_what_the_old_one_has_sealed_and_then_does_alone(postgres: TestPostgres, home: Path) -> None:
    url, log = await postgres.new_database(), home / "turning.log"
    async with running_registry(url, log) as running, calling(running) as calls:
        for n in range(3):
            await calls.create(f"kept-{n}", variables={f"A{m}": f"a{n}{m}" for m in range(40)}, secrets={"S": CANARY})

    async with running_registry(url, log, KILN_SEALING_KEY=f"{OTHER_KEY},{SEALING_KEY}") as running, calling(running) as calls:
        assert (await calls.get("kept-1")).variables["A7"] == "a17"

        async def sealed_again() -> bool:
            return len(await EnvironmentRepository(running.database).keys()) == 1

        await until(sealed_again)

    async with running_registry(url, log, KILN_SEALING_KEY=OTHER_KEY) as running, calling(running) as calls:
        assert (await calls.get("kept-2")).variables["A39"] == "a239"
        function = await running.create("reads", environments=["kept-0"])
        told = [one.environment async for one in snapshot(running) if one.WhichOneof("event") == "environment"]
        assert {one.name: one.values["S"] for one in told} == {f"kept-{n}": CANARY for n in range(3)}
        assert function.environments == ["kept-0"]

    with pytest.raises(AssertionError, match="KILN_SEALING_KEY: there are variables of environments that are sealed with another key"):
        async with running_registry(url, home / "lost.log"):
            pass
    assert CANARY not in log.read_text()


# What functions read


async def test_a_function_reads_environments_in_the_order_that_it_names_them(calls: Calls, running: Running) -> None:
    one, two = await calls.create("base", variables={"A": "1"}), await calls.create("over", secrets={"A": "2"})

    created = await running.create("reader", environments=["base", two.id])
    turned = await running.registry.UpdateFunction(updating("reader", "over", one.id.upper()))
    same = await running.update("reader", description="the same")
    none = await running.registry.UpdateFunction(updating("reader"))

    assert [list(one.environments) for one in (created, turned, same, none)] == [["base", "over"], ["over", "base"], ["over", "base"], []]
    assert (turned.latest_version, turned.etag != created.etag) == (1, True)


def updating(reference: str, *environments: Any) -> registry_pb2.UpdateFunctionRequest:
    request = registry_pb2.UpdateFunctionRequest(id=reference)
    request.environments.SetInParent()
    request.environments.extend(environments)
    return request


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (["absent"], "there is no environment 'absent'"),
        ([str(uuid7())], "there is no environment"),
        (["No Name"], "there is no environment 'No Name'"),
        (["named", "named"], "names 'named' twice"),
        ([f"e{n}" for n in range(11)], "has 11 entries"),
    ],
)
async def test_what_no_function_can_read_is_told_and_nothing_is_changed(
    calls: Calls, running: Running, named: list[str], words: str
) -> None:
    if "named" not in [one.name for one in (await calls.list(page_size=1000)).environments]:
        await calls.create("named")
        await running.create("reads-named", environments=["named"])

    refused = [
        await refusal(InvalidArgument, running.create("never-made", environments=named)),
        await refusal(InvalidArgument, running.registry.UpdateFunction(updating("reads-named", *named))),
    ]

    for one in refused:
        assert isinstance(one, InvalidArgument)
        assert ([violation.field for violation in one.violations], words in one.message) == (["environments"], True)
    await refusal(NotFound, running.get("never-made"))
    assert (await running.get("reads-named")).environments == ["named"]


async def test_what_is_no_text_is_no_environment(running: Running) -> None:
    await running.create("typed")

    refused = await refusal(InvalidArgument, running.registry.UpdateFunction(updating("typed", 1)))

    assert "environments: must be a list of texts" in refused.message


async def test_an_environment_stays_as_long_as_a_function_reads_it(calls: Calls, running: Running) -> None:
    await calls.create("needed")
    for n in range(7):
        await running.create(f"needs-{n}", environments=["needed"])

    refused = await refusal(FailedPrecondition, calls.delete("needed"))
    for n in range(6):
        await running.registry.DeleteFunction(registry_pb2.DeleteFunctionRequest(id=f"needs-{n}"))
    still = await refusal(FailedPrecondition, calls.delete("needed"))
    await running.registry.UpdateFunction(updating("needs-6"))
    await calls.delete("needed")

    assert refused.reason == still.reason == "ENVIRONMENT_IN_USE"
    assert "needs-0, needs-1, needs-2, needs-3, needs-4 and others" in refused.message
    assert "read by needs-6;" in still.message


async def test_no_function_reads_what_is_deleted_however_they_race(calls: Calls, running: Running) -> None:
    for n in range(10):
        await calls.create(f"race-{n}")
        made, gone = await asyncio.gather(
            running.create(f"race-{n}", environments=[f"race-{n}"]), calls.delete(f"race-{n}"), return_exceptions=True
        )

        assert isinstance(made, InvalidArgument) != isinstance(gone, FailedPrecondition), (made, gone)


# Watchers


async def test_a_watcher_knows_values_before_the_function_that_reads_them(calls: Calls, running: Running) -> None:
    environment = await calls.create("told", variables={"A": "1"}, secrets={"S": "2"})
    await running.create("told", environments=["told"])

    events = [one async for one in snapshot(running)]

    kinds = [one.WhichOneof("event") for one in events]
    assert kinds == sorted(kinds)
    told = next(one.environment for one in events if one.environment.name == "told")
    function = next(one.function for one in events if one.function.name == "told")
    assert (told.id, dict(told.values), told.broken) == (environment.id, {"A": "1", "S": "2"}, False)
    assert list(function.environments) == [environment.id]


async def test_an_executor_that_asks_for_a_function_gets_what_it_reads(calls: Calls, running: Running) -> None:
    await calls.create("asked-a", variables={"A": "1"})
    await calls.create("asked-b", secrets={"A": "2"})
    function = await running.create("asked", environments=["asked-b", "asked-a"])
    await running.send(
        {
            "type": "FINISHED",
            "function_id": function.id,
            "version": 1,
            "build": 1,
            "queue_ms": 0,
            "build_ms": 0,
            "status": "READY",
            "artifact_digest": f"sha256:{1:064x}",
            "artifact_bytes": 8,
            "abi": "kiln",
            "diagnostics": [],
        }
    )
    await running.until_status("asked", "READY")

    found = await running.internal.ResolveVersion(registry_pb2.ResolveVersionRequest(id="asked"))

    assert values_of(found) == {"asked-a": {"A": "1"}, "asked-b": {"A": "2"}}
    assert len(found.function.environments) == 2


# Who may


ADA: Final = dev(name="ada")
BOB: Final = dev(name="bob", groups=frozenset({str(uuid4())}))


async def test_what_a_caller_may_not_access_is_not_there(postgres: TestPostgres, template: str) -> None:
    async with postgres_world(await postgres.new_database(template)) as world:
        caller: list[Principal] = [ADMIN]
        database = cast(FunctionRepository, world.repository).database
        environments = Environments(EnvironmentRepository(database), Vault(Sealer([bytes(32)])), lambda: caller[0])
        nothing = Changes({}, {})
        for name, access in {
            "everyones": AccessPatch(),
            "adas": AccessPatch([ADA.id], []),
            "friends": AccessPatch([], sorted(BOB.groups)),
        }.items():
            await environments.create(NewEnvironment(name, "", nothing, access))
        await world.create("mixed", environments=["adas", "everyones", "friends"])

        seen = {}
        for who in (ADMIN, ADA, BOB):
            caller[0] = world.caller = who
            listed = [one.name for one in (await environments.list(Page(10, None, "environments"))).items]
            for name in {"everyones", "adas", "friends"} - set(listed):
                absent = await refusal(NotFound, environments.get(name))
                never = await refusal(NotFound, environments.get("never-was"))
                assert absent.message == never.message.replace("never-was", name)
            for name in listed:
                assert (await environments.get(name)).name == name
            shown = [[one.name for one in (await world.functions.get("mixed")).environments]]
            shown += [[one.name for one in found.environments] for found in (await world.functions.list(Page(10, None, "functions"))).items]
            seen[who.name] = (listed, shown)

        assert seen == {
            ADMIN.name: (["friends", "adas", "everyones"], [["adas", "everyones", "friends"]] * 2),
            ADA.name: (["adas", "everyones"], [["adas", "everyones"]] * 2),
            BOB.name: (["friends", "everyones"], [["everyones", "friends"]] * 2),
        }
        world.caller = replace(ADMIN, functions=frozenset({str((await world.functions.get("mixed")).id)}))
        for names in (["never-was"], ["everyones", "other"], [str(uuid7())]):
            with pytest.raises(PermissionDenied, match="cannot have them read other environments"):
                await world.update(await world.functions.get("mixed"), environments=names)
        fewer = await world.update(await world.functions.get("mixed"), environments=["friends", "adas"])
        assert [one.name for one in fewer.environments] == ["friends", "adas"]
        caller[0] = ADMIN
        await environments.update("adas", EnvironmentPatch(None, nothing, AccessPatch([], []), ""))
        caller[0] = BOB
        assert (await environments.get("adas")).name == "adas"
