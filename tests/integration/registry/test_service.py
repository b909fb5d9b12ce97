"""The registry as other services and the gateway meet it: a process with a database, a queue and streams."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import psutil
import pytest
from kiln.registry.v1 import registry_pb2 as pb

from libs.common.errors import Aborted, AlreadyExists, FailedPrecondition, Internal, InvalidArgument, KilnError, NotFound
from libs.common.ids import uuid7
from services.registry.watch import ACKNOWLEDGEMENT_SECONDS
from tests.integration.registry.conftest import Running, running_registry
from tests.support.postgres import TestPostgres
from tests.support.registry import digest, failed, ready, started
from tests.support.waiting import until


async def refusal(kind: type[KilnError], call: Any) -> KilnError:
    with pytest.raises(kind) as caught:
        await call
    return caught.value


async def ready_function(running: Running, name: str) -> pb.Function:
    function = await running.create(name)
    await running.send(ready(UUID(function.id), 1))
    return await running.until_status(name, "READY")


class Watcher:
    """A client of the watch that acknowledges what it is told, unless it is deaf."""

    def __init__(self, running: Running, *, deaf: bool = False) -> None:
        self._deaf = deaf
        self._words: asyncio.Queue[pb.WatchRequest] = asyncio.Queue()
        self._words.put_nowait(pb.WatchRequest())
        self._stream = running.internal.Watch(self._speak())
        self.told: list[pb.WatchedFunction] = []
        self.snapshot_end: int | None = None
        self.listening = asyncio.create_task(self._listen())

    def known(self) -> dict[str, pb.WatchedFunction]:
        """The newest word on each function."""
        return {one.id: one for one in self.told}

    async def _speak(self) -> AsyncIterator[pb.WatchRequest]:
        while True:
            yield await self._words.get()

    async def _listen(self) -> None:
        async for event in self._stream:
            if event.WhichOneof("event") == "snapshot_end":
                self.snapshot_end = event.snapshot_end
                self._acknowledge("", event.snapshot_end)
            else:
                self.told.append(event.function)
                if self.snapshot_end is not None:
                    self._acknowledge(event.function.id, event.function.revision)

    def _acknowledge(self, identity: str, revision: int) -> None:
        if not self._deaf:
            self._words.put_nowait(pb.WatchRequest(id=identity, revision=revision))


@asynccontextmanager
async def watching(running: Running, *, deaf: bool = False) -> AsyncIterator[Watcher]:
    """A watcher that has its snapshot."""
    watcher = Watcher(running, deaf=deaf)
    try:
        await until(lambda: watcher.snapshot_end is not None)
        yield watcher
    finally:
        watcher.listening.cancel()
        await asyncio.gather(watcher.listening, return_exceptions=True)


# Calls


async def test_a_function_comes_back_as_it_was_sent_and_its_job_is_in_the_queue_once(running: Running) -> None:
    created = await running.create("sent", "a\r\n😀\u2028", description="é", limits=pb.Limits(timeout_ms=100))

    found = await running.get(created.id)

    assert found == created
    assert (found.source, found.description, found.limits.timeout_ms, found.limits.memory_mb) == ("a\r\n😀\u2028", "é", 100, 64)
    assert (found.status, found.HasField("live_version"), found.latest_version) == (pb.Function.PENDING, False, 1)
    assert await running.jobs_of(created) == [(1, 1)]


async def test_a_result_in_the_queue_is_applied_and_live_moves(running: Running) -> None:
    function = await running.create("applied")
    await running.send(started(UUID(function.id), 1))
    compiling = await running.until_status("applied", "COMPILING")

    await running.send(ready(UUID(function.id), 1))
    serving = await running.until_status("applied", "READY")
    version = await running.registry.GetVersion(pb.GetVersionRequest(id="applied", version=1))

    assert (compiling.HasField("live_version"), serving.live_version) == (False, 1)
    assert (version.artifact_digest, version.artifact_bytes, version.queue_ms, version.build_ms) == (digest(1), 8, 3, 5)


async def test_a_failed_edit_tells_why_and_leaves_the_old_version_serving(running: Running) -> None:
    function = await ready_function(running, "edited")
    await running.update("edited", source="two")

    await running.send(failed(UUID(function.id), 2))
    found = await running.until_status("edited", "FAILED")

    assert (found.live_version, found.latest_version, found.compile_error) == (1, 2, "1:2: error TS2322: no")
    assert [(one.severity, one.line, one.column, one.code) for one in found.diagnostics] == [(pb.Diagnostic.ERROR, 1, 2, "TS2322")]


async def test_a_failed_version_is_built_again_and_serves(running: Running) -> None:
    function = await running.create("again")
    await running.send(failed(UUID(function.id), 1))
    await running.until_status("again", "FAILED")

    again = await running.registry.BuildVersion(pb.BuildVersionRequest(id="again", version=1))
    await running.send(ready(UUID(function.id), 1, 2))

    assert (again.status, again.build) == (pb.Function.PENDING, 2)
    assert (await running.until_status("again", "READY")).live_version == 1


async def test_absent_fields_of_an_update_stay_and_empty_ones_clear(running: Running) -> None:
    before = await running.create("patched", description="old", limits=pb.Limits(memory_mb=128))

    after = await running.update("patched", limits=pb.Limits(timeout_ms=7, max_concurrency=9))
    cleared = await running.update("patched", description="")

    assert (after.description, after.source, after.limits.memory_mb, after.limits.timeout_ms) == ("old", "one", 128, 7)
    assert (before.limits.max_concurrency, after.limits.max_concurrency) == (256, 9)
    assert after.latest_version == before.latest_version
    assert cleared.description == ""


async def test_a_prebuilt_module_of_the_largest_size_is_taken_and_not_answered_back(running: Running) -> None:
    wasm = b"\0asm" + os.urandom((8 << 20) - 4)

    created = await running.create_from(name="prebuilt", language="wasm", wasm=wasm)
    updated = await running.update("prebuilt", description="new")
    version = await running.registry.GetVersion(pb.GetVersionRequest(id="prebuilt", version=1))

    assert await running.jobs_of(created) == [(1, 1)]
    for answer in (created, updated, await running.get("prebuilt"), version):
        assert (answer.language, answer.HasField("source"), answer.ByteSize() < 1000) == ("wasm", False, True)


async def test_every_mistake_has_its_error(running: Running) -> None:
    function = await ready_function(running, "mistaken")
    stub, identity = running.registry, function.id

    refusals = [
        (InvalidArgument, "INVALID_ARGUMENT", running.create("Bad Name")),
        (InvalidArgument, "INVALID_ARGUMENT", running.create("empty", "")),
        (InvalidArgument, "INVALID_ARGUMENT", running.create("nul", "a\0b")),
        (InvalidArgument, "SOURCE_TOO_LARGE", running.create("large", "x" * ((1 << 20) + 1))),
        (InvalidArgument, "INVALID_ARGUMENT", running.create_from(name="absent", language="assemblyscript")),
        (InvalidArgument, "INVALID_ARGUMENT", running.create_from(name="absent", language="wasm")),
        (InvalidArgument, "INVALID_ARGUMENT", running.create("both", wasm=b"\0asm")),
        (InvalidArgument, "INVALID_ARGUMENT", running.update(identity, wasm=b"\0asm")),
        (InvalidArgument, "WASM_TOO_LARGE", running.update(identity, language="wasm", wasm=bytes((8 << 20) + 1))),
        (InvalidArgument, "INVALID_ARGUMENT", running.create("greedy", limits=pb.Limits(timeout_ms=60_001))),
        (InvalidArgument, "INVALID_ARGUMENT", running.create("none", limits=pb.Limits(memory_mb=0))),
        (InvalidArgument, "UNKNOWN_LANGUAGE", running.update(identity, language="cobol")),
        (AlreadyExists, "NAME_TAKEN", running.create("mistaken")),
        (NotFound, "FUNCTION_NOT_FOUND", running.get("nobody")),
        (NotFound, "FUNCTION_NOT_FOUND", running.get(str(uuid7()))),
        (NotFound, "FUNCTION_NOT_FOUND", running.get("a\0b")),
        (NotFound, "VERSION_NOT_FOUND", stub.GetVersion(pb.GetVersionRequest(id=identity, version=2**31 - 1))),
        (InvalidArgument, "INVALID_ARGUMENT", stub.GetVersion(pb.GetVersionRequest(id=identity, version=-1))),
        (Aborted, "ETAG_MISMATCH", running.update(identity, description="x", etag="old")),
        (FailedPrecondition, "VERSION_NOT_FAILED", stub.BuildVersion(pb.BuildVersionRequest(id=identity, version=1))),
        (NotFound, "VERSION_NOT_FOUND", stub.RollbackFunction(pb.RollbackFunctionRequest(id=identity, version=2))),
        (InvalidArgument, "INVALID_ARGUMENT", stub.ListFunctions(pb.ListFunctionsRequest(page_size=-1))),
        (InvalidArgument, "INVALID_ARGUMENT", stub.ListFunctions(pb.ListFunctionsRequest(page_token="x"))),
    ]

    for kind, reason, call in refusals:
        assert (await refusal(kind, call)).reason == reason
    assert await running.get(identity) == function


async def test_text_that_is_none_never_reaches_the_database(running: Running) -> None:
    half_a_surrogate_pair = b"\x0a\x04half\x1a\x0eassemblyscript\x22\x03\xed\xa0\x80"
    async with grpc.aio.insecure_channel(running.address) as channel:
        call: Any = channel.unary_unary("/kiln.registry.v1.Registry/CreateFunction")

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(half_a_surrogate_pair, timeout=10)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await refusal(NotFound, running.get("half"))


async def test_lists_lead_on_by_their_tokens(running: Running) -> None:
    names = [f"listed-{number}" for number in range(5)]
    for name in names:
        await running.create(name)
    seen: list[str] = []
    token = ""

    while token or not seen:
        page = await running.registry.ListFunctions(pb.ListFunctionsRequest(page_size=2, page_token=token))
        assert 1 <= len(page.functions) <= 2
        seen += [one.name for one in page.functions]
        token = page.next_page_token

    assert [name for name in seen if name in names] == names[::-1]
    assert len(seen) == len(set(seen))


# All or nothing


async def test_a_function_whose_job_cannot_be_sent_is_not_created(running: Running) -> None:
    await running.database.execute("ALTER TABLE pgmq.q_compilation_jobs ADD CONSTRAINT refused CHECK (message ->> 'source' <> 'refused')")
    kept = await running.create("kept", "good")

    await refusal(Internal, running.create("unsent", "refused"))
    await refusal(Internal, running.update("kept", source="refused"))

    await refusal(NotFound, running.get("unsent"))
    assert await running.get("kept") == kept
    assert await running.jobs_of(kept) == [(1, 1)]
    assert (await running.create("unsent", "good")).latest_version == 1


async def test_a_function_whose_transaction_does_not_commit_leaves_no_job(running: Running) -> None:
    await running.database.execute("CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'doomed'; END $$")
    await running.database.execute(
        "CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON registry.functions DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW WHEN (NEW.name = 'doomed') EXECUTE FUNCTION fail()"
    )

    await refusal(Internal, running.create("doomed", "doomed source"))

    await refusal(NotFound, running.get("doomed"))
    assert await running.database.fetchval("SELECT count(*) FROM pgmq.q_compilation_jobs WHERE message ->> 'source' = 'doomed source'") == 0


# Lost builds


async def test_a_build_that_lost_its_job_is_sent_again_and_only_once(running: Running) -> None:
    async def lose(function: pb.Function) -> None:
        await running.database.execute("DELETE FROM pgmq.q_compilation_jobs WHERE message ->> 'function_id' = $1", function.id)

    async def sent_again(function: pb.Function) -> None:
        async def is_there() -> bool:
            return bool(await running.jobs_of(function))

        await until(is_there)

    first, second = await running.create("lost-first"), await running.create("lost-second")
    await lose(first)
    await sent_again(first)
    await lose(second)
    # That one is sent again proves another round of looking, which must leave the first alone.
    await sent_again(second)

    assert await running.jobs_of(first) == await running.jobs_of(second) == [(1, 1)]


# The watch and what executors ask


async def test_a_watcher_gets_a_snapshot_and_then_every_change(running: Running) -> None:
    old = await ready_function(running, "watched-old")
    async with watching(running) as watcher:
        snapshot = watcher.known()[old.id]
        new = await running.create("watched-new")
        await until(lambda: new.id in watcher.known())
        before = watcher.known()[new.id]

        await running.send(ready(UUID(new.id), 1))
        await until(lambda: watcher.known()[new.id].HasField("live"))
        serving = watcher.known()[new.id]
        await running.registry.DeleteFunction(pb.DeleteFunctionRequest(id=new.id))
        await until(lambda: watcher.known()[new.id].deleted)

    assert (snapshot.name, snapshot.live.version, snapshot.live.artifact_digest, snapshot.live.abi) == (
        "watched-old",
        1,
        digest(1),
        "assemblyscript",
    )
    assert (snapshot.limits.timeout_ms, snapshot.limits.memory_mb) == (5000, 64)
    assert (before.HasField("live"), serving.live.version) == (False, 1)
    assert not watcher.known()[new.id].HasField("live")


async def test_nothing_falls_between_a_snapshot_and_the_changes(running: Running) -> None:
    async def change(name: str) -> pb.Function:
        await running.create(name)
        return await running.update(name, description="changed")

    changing = [asyncio.create_task(change(f"gap-{number}")) for number in range(40)]
    watchers = []
    for count in (10, 20, 30):
        await until(lambda count=count: sum(task.done() for task in changing) >= count)  # type: ignore[misc]
        watchers.append(Watcher(running))
    functions = await asyncio.gather(*changing)
    try:
        for watcher in watchers:
            await until(lambda watcher=watcher: {one.id for one in functions} <= watcher.known().keys())  # type: ignore[misc]
        await running.create("gap-last")
        for watcher in watchers:
            await until(lambda watcher=watcher: "gap-last" in {one.name for one in watcher.told})  # type: ignore[misc]
            for function in functions:
                revisions = [one.revision for one in watcher.told if one.id == function.id]
                assert revisions == sorted(set(revisions))
    finally:
        for watcher in watchers:
            watcher.listening.cancel()
        await asyncio.gather(*(watcher.listening for watcher in watchers), return_exceptions=True)


async def test_when_a_rollback_is_answered_a_watcher_acts_by_it_already_unless_it_took_too_long(running: Running) -> None:
    function = await ready_function(running, "rolled")
    await running.update("rolled", source="two")
    await running.send(ready(UUID(function.id), 2))
    await running.until_status("rolled", "READY")
    async with watching(running) as watcher:
        for version in (1, 2, 1, 2, 1):
            began = time.monotonic()
            answer = await running.registry.RollbackFunction(pb.RollbackFunctionRequest(id="rolled", version=version))

            assert answer.live_version == version
            waited = time.monotonic() - began
            assert watcher.known()[function.id].live.version == version or waited >= ACKNOWLEDGEMENT_SECONDS


async def test_a_watcher_that_says_nothing_or_is_gone_stops_no_change(running: Running) -> None:
    await running.create("unheard")
    async with watching(running, deaf=True):
        beside = await running.update("unheard", description="beside a deaf one")

    after = await running.update("unheard", description="after it left")

    assert (beside.description, after.description) == ("beside a deaf one", "after it left")


async def test_a_version_is_resolved_by_id_or_name_and_number(running: Running) -> None:
    function = await ready_function(running, "resolved")
    await running.update("resolved", source="two")

    async def resolve(reference: str, **version: Any) -> pb.ResolveVersionResponse:
        answer: pb.ResolveVersionResponse = await running.internal.ResolveVersion(pb.ResolveVersionRequest(id=reference, **version))
        return answer

    by_name, by_id = await resolve("resolved"), await resolve(function.id, version=1)
    pending = await refusal(FailedPrecondition, resolve("resolved", version=2))
    absent = await refusal(NotFound, resolve("resolved", version=3))

    assert by_name == by_id
    assert (by_name.function.id, by_name.function.live.version) == (function.id, 1)
    assert (by_name.version.version, by_name.version.artifact_digest, by_name.version.abi) == (1, digest(1), "assemblyscript")
    assert (pending.reason, absent.reason) == ("VERSION_NOT_READY", "VERSION_NOT_FOUND")
    assert pending.metadata["function_id"] == function.id


async def test_where_nothing_is_ready_or_nothing_is_nothing_is_resolved(running: Running) -> None:
    function = await running.create("unresolved")

    waiting = await refusal(FailedPrecondition, running.internal.ResolveVersion(pb.ResolveVersionRequest(id="unresolved")))
    await running.registry.DeleteFunction(pb.DeleteFunctionRequest(id="unresolved"))
    gone = [
        await refusal(NotFound, running.internal.ResolveVersion(pb.ResolveVersionRequest(id=reference)))
        for reference in ("unresolved", function.id, "", "No")
    ]

    assert (waiting.reason, waiting.metadata["function_id"]) == ("NO_READY_VERSION", function.id)
    assert {one.reason for one in gone} == {"FUNCTION_NOT_FOUND"}


# Restarts and several at once


async def test_results_that_came_while_no_registry_ran_are_applied_by_the_next(postgres: TestPostgres, home: Path) -> None:
    url, log = await postgres.new_database(), home / "restarted.log"
    async with running_registry(url, log) as first:
        function = await first.create("greet")
    async with running_registry(url, log) as second:
        await second.send(ready(UUID(function.id), 1))

        assert (await second.until_status("greet", "READY")).live_version == 1


async def test_a_change_through_one_registry_reaches_the_watchers_of_another(running: Running, home: Path) -> None:
    async with running_registry(running.url, home / "other.log") as other, watching(other) as watcher:
        function = await running.create("from-one")
        await until(lambda: function.id in watcher.known())
        await running.send(ready(UUID(function.id), 1))
        await until(lambda: watcher.known()[function.id].HasField("live"))

        assert await other.get("from-one") == await running.get(function.id)


async def test_a_registry_whose_connections_are_cut_listens_again(running: Running) -> None:
    function = await running.create("cut")
    async with watching(running) as watcher:
        await running.database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'kiln-%' AND application_name <> 'kiln-test'"
        )
        # Heard by the new connection, or found when that is made; the poll is a minute away.
        await running.send(ready(UUID(function.id), 1))
        await until(lambda: watcher.known()[function.id].HasField("live"))

    assert (await running.until_status("cut", "READY")).live_version == 1


async def test_a_registry_that_is_told_to_stop_does_not_wait_for_those_who_follow_it(postgres: TestPostgres, home: Path) -> None:
    drain_seconds = 20.0
    settings = {"KILN_DRAIN_SECONDS": str(drain_seconds)}
    async with running_registry(await postgres.new_database(), home / "stopping.log", **settings) as running, watching(running) as watcher:
        (process,) = [one for one in psutil.Process().children() if running.address in str(one.environ())]
        began = time.monotonic()
        process.terminate()

        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await watcher.listening
        await asyncio.to_thread(process.wait, drain_seconds)

    assert (ended.value.code(), ended.value.details()) == (grpc.StatusCode.UNAVAILABLE, "the service is stopping")
    assert time.monotonic() - began < drain_seconds / 2
