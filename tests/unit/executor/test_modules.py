"""A module is fetched and prepared once for all who need it; what can never be loaded is remembered, what may work later is not."""

import asyncio
import hashlib
import time
from typing import Any, cast

import pytest

from libs.common import request as current
from libs.common.errors import FailedPrecondition, Internal, KilnError, NotFound, Unavailable
from services.executor import modules as tested
from services.executor.catalog import Runnable
from services.executor.modules import Modules
from services.executor.sandbox import Sandbox, StartFailed, Unloadable

WASM = b"\0asm and so on"


def runnable(wasm: bytes = WASM, version: int = 1) -> Runnable:
    return Runnable(version, f"sha256:{hashlib.sha256(wasm).hexdigest()}", "assemblyscript")


class FakeSandbox:
    """Prepares at once, unless a test says how it fails.

    Attributes:
        kept: What it has from before.
    """

    def __init__(self) -> None:
        self.kept: set[tuple[str, str]] = set()
        self.restored: list[str] = []
        self.prepared: list[str] = []
        self.failure: Exception | None = None

    def is_prepared(self, digest: str) -> bool:
        return digest in self.prepared or digest in self.restored

    async def restore(self, digest: str, abi: str) -> bool:
        if (digest, abi) in self.kept:
            self.restored.append(digest)
        return digest in self.restored

    async def prepare(self, digest: str, wasm: bytes, abi: str) -> None:
        if self.failure:
            raise self.failure
        self.prepared.append(digest)


class FakeCompiler:
    """Answers with the artifacts it has, once it may.

    Attributes:
        left: How long each who asked could have waited.
    """

    def __init__(self, *artifacts: bytes) -> None:
        self.artifacts = {runnable(wasm).artifact_digest: wasm for wasm in artifacts}
        self.asked: list[str] = []
        self.left: list[float | None] = []
        self.failure: KilnError = Unavailable("away")
        self.asked_first = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def fetch(self, digest: str) -> bytes:
        self.asked.append(digest)
        self.left.append(current.remaining_seconds())
        self.asked_first.set()
        await self.may_answer.wait()
        if digest not in self.artifacts:
            raise self.failure
        return self.artifacts[digest]


def new_modules(*artifacts: bytes) -> tuple[Modules, FakeSandbox, FakeCompiler]:
    sandbox, compiler = FakeSandbox(), FakeCompiler(*artifacts)
    return Modules(cast(Sandbox, sandbox), compiler.fetch), sandbox, compiler


async def test_the_first_who_needs_a_module_waits_for_it_and_the_next_does_not() -> None:
    modules, sandbox, compiler = new_modules(WASM)

    waited = [await modules.ensure(runnable()), await modules.ensure(runnable())]

    assert waited == [True, False]
    assert sandbox.prepared == compiler.asked == [runnable().artifact_digest]


async def test_what_was_kept_is_not_asked_of_the_compiler_and_is_waited_for_all_the_same() -> None:
    modules, sandbox, compiler = new_modules()
    sandbox.kept = {(runnable().artifact_digest, runnable().abi)}

    waited = [await modules.ensure(runnable()), await modules.ensure(runnable())]

    assert waited == [True, False]
    assert sandbox.restored == [runnable().artifact_digest]
    assert sandbox.prepared == compiler.asked == []


async def test_many_callers_share_one_preparation_and_all_are_told_that_they_waited() -> None:
    modules, sandbox, compiler = new_modules(WASM)

    waited = await asyncio.gather(*(modules.ensure(runnable(version=number)) for number in range(1, 20)))

    assert set(waited) == {True}
    assert len(compiler.asked) == len(sandbox.prepared) == 1


async def test_a_caller_that_goes_away_takes_nothing_from_the_others() -> None:
    modules, sandbox, compiler = new_modules(WASM)
    compiler.may_answer.clear()
    first, second = (asyncio.create_task(modules.ensure(runnable())) for _ in range(2))
    await compiler.asked_first.wait()

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    compiler.may_answer.set()

    assert await second
    assert len(compiler.asked) == len(sandbox.prepared) == 1


async def test_the_work_goes_on_for_the_next_caller_when_all_have_gone_away() -> None:
    modules, _, compiler = new_modules(WASM)
    compiler.may_answer.clear()
    alone = asyncio.create_task(modules.ensure(runnable()))
    await compiler.asked_first.wait()

    alone.cancel()
    await asyncio.gather(alone, return_exceptions=True)
    compiler.may_answer.set()
    await modules.ensure(runnable())

    assert len(compiler.asked) == 1


async def test_the_deadline_of_the_first_caller_is_none_of_those_who_wait_with_it() -> None:
    modules, _, compiler = new_modules(WASM)
    current.deadline.set(time.monotonic() + 0.1)
    hurried = asyncio.create_task(modules.ensure(runnable()))

    await hurried

    assert compiler.left == [None]


async def test_bytes_that_do_not_belong_to_the_digest_never_reach_the_sandbox() -> None:
    modules, sandbox, compiler = new_modules()
    compiler.artifacts[runnable().artifact_digest] = b"\0asm of another"

    with pytest.raises(Internal):
        await modules.ensure(runnable())

    assert sandbox.prepared == []


async def test_an_artifact_that_is_lost_is_the_platforms_fault_and_no_missing_function() -> None:
    modules, _, compiler = new_modules()
    compiler.failure = NotFound("there is no such artifact", reason="ARTIFACT_NOT_FOUND")

    with pytest.raises(Internal):
        await modules.ensure(runnable())


async def test_an_artifact_that_arrived_wrong_is_asked_for_again() -> None:
    modules, _, compiler = new_modules()
    compiler.artifacts[runnable().artifact_digest] = WASM[:-1]
    with pytest.raises(Internal):
        await modules.ensure(runnable())

    compiler.artifacts[runnable().artifact_digest] = WASM

    assert await modules.ensure(runnable())


async def test_a_module_that_can_never_be_loaded_is_remembered_and_names_the_version_asked_for() -> None:
    modules, sandbox, compiler = new_modules(WASM)
    sandbox.failure = Unloadable("it exports no handle")

    refusals = []
    for version in (3, 4):
        with pytest.raises(FailedPrecondition) as refusal:
            await modules.ensure(runnable(version=version))
        refusals.append((refusal.value.reason, refusal.value.message))

    assert refusals == [("VERSION_UNLOADABLE", f"version {version} cannot be loaded: it exports no handle") for version in (3, 4)]
    assert len(compiler.asked) == 1


async def test_so_many_unloadable_modules_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "MAX_UNLOADABLE", 2)
    sources = [bytes([number]) for number in range(3)]
    modules, sandbox, compiler = new_modules(*sources)
    sandbox.failure = Unloadable("no")

    for wasm in [*sources, sources[2], sources[1], sources[0]]:
        with pytest.raises(FailedPrecondition):
            await modules.ensure(runnable(wasm))

    assert compiler.asked == [runnable(wasm).artifact_digest for wasm in [*sources, sources[0]]]


@pytest.mark.parametrize("failure", [StartFailed("no process"), None], ids=["no sandbox", "no compiler"])
async def test_what_may_work_later_is_tried_again(failure: Any) -> None:
    modules, sandbox, compiler = new_modules(*([WASM] if failure else []))
    sandbox.failure = failure
    with pytest.raises(Unavailable):
        await modules.ensure(runnable())

    sandbox.failure = None
    compiler.artifacts[runnable().artifact_digest] = WASM

    assert await modules.ensure(runnable())
