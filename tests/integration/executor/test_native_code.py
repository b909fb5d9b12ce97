"""Native code outlives the processes that made it: it is not made twice, and never run when it is not what was made."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec.structs import replace
from wasmtime import Config, Engine, WasmtimeError
from wasmtime import Module as Compiled
from wasmtime import _ffi as c

from libs.common.errors import NotFound
from services.executor.sandbox import Outcome, Sandbox
from services.executor.sandbox.abi import GUEST_ABIS
from services.executor.sandbox.child import Child
from services.executor.sandbox.engine import fingerprint, guest_config, new_compiler
from services.executor.sandbox.native import NativeCode
from services.executor.sandbox.native_store import SUFFIX, NativeStore, open_native_store
from services.executor.sandbox.process import Arguments
from services.executor.sandbox.sealed import Sealed
from services.executor.sandbox.wire import Load, Loaded, Ran, Run
from tests.integration.executor.calls import call, run
from tests.integration.executor.guests import ECHO, Module, answering, guest
from tests.integration.executor.test_service import deployed, running
from tests.support.engines import Preparer
from tests.support.engines import running as running_engine
from tests.support.postgres import TestPostgres
from tests.support.processes import ROOT, descendants, environment
from tests.support.services import Services, fail, running_services
from tests.support.watched import Registry

MAX_BYTES = 64 << 20
TEXT = '"' + "x" * 200_000 + '"'
# Its native code holds its text, and is so large that workers map it.
LARGE = guest("(i32.const 131072)", texts={131072: TEXT}, memory="12")
BOTH = pytest.mark.parametrize("function", [ECHO, LARGE], ids=["small", "large"])


def opened(folder: Path) -> NativeStore:
    store = open_native_store(folder, fingerprint(new_compiler()), MAX_BYTES)
    assert store is not None
    return store


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"*{SUFFIX}"))


def preparers() -> set[psutil.Process]:
    """Of all sandboxes of this process."""
    return {child for child in psutil.Process().children() if "services.executor.sandbox.preparer" in " ".join(child.cmdline())}


@asynccontextmanager
async def restarted(folder: Path) -> AsyncIterator[Sandbox]:
    """A sandbox over what another has left, in which no native code can be made: whoever wants some waits for ever."""
    others = preparers()
    async with Sandbox(workers=1, max_workers=1, store=opened(folder)) as sandbox:
        (preparer,) = preparers() - others
        preparer.suspend()
        yield sandbox


async def left(folder: Path, *guests: Module) -> None:
    """Runs guests in a sandbox that has ended since."""
    async with Sandbox(workers=1, max_workers=1, store=opened(folder)) as sandbox:
        for guest in guests:
            await run(sandbox, guest)


async def ran(sandbox: Sandbox, function: Module) -> Outcome:
    """Runs what is prepared."""
    async with asyncio.timeout(10), sandbox.reserve() as slot:
        return await slot.run(call(function, '"in"'))


def answer(function: Module) -> bytes:
    return TEXT.encode() if function is LARGE else b'"in"'


# After a restart


@BOTH
async def test_what_was_called_is_there_again_and_no_call_waits_for_it(tmp_path: Path, function: Module) -> None:
    await left(tmp_path, function)

    async with restarted(tmp_path) as sandbox:
        await sandbox.restore_recent(10)
        outcome = await ran(sandbox, function)

    assert outcome.output == answer(function)
    assert not outcome.cold_start


@BOTH
async def test_a_call_can_have_code_read_that_was_not_read_ahead(tmp_path: Path, function: Module) -> None:
    await left(tmp_path, function)

    async with restarted(tmp_path) as sandbox:
        assert not sandbox.is_prepared(function.digest)
        there = await asyncio.gather(*(sandbox.restore(function.digest, function.abi) for _ in range(5)))
        outcome = await ran(sandbox, function)

    assert there == [True] * 5
    assert outcome.output == answer(function)


async def test_what_was_called_last_is_first(tmp_path: Path) -> None:
    first, second = answering("1"), answering("2")
    await left(tmp_path, first, second)
    async with restarted(tmp_path) as sandbox:
        await sandbox.restore_recent(10)
        await ran(sandbox, first)

    assert [native.digest for native in opened(tmp_path).recent(MAX_BYTES)] == [first.digest, second.digest]


async def test_the_order_of_calls_outlives_the_sandbox(tmp_path: Path) -> None:
    functions = [answering(str(number)) for number in range(6)]
    await left(tmp_path, *functions, functions[2], functions[0])

    wanted = [functions[number].digest for number in (0, 2, 5, 4, 3, 1)]
    assert [native.digest for native in opened(tmp_path).recent(MAX_BYTES)] == wanted


async def test_what_is_there_again_takes_no_more_time_than_it_may(tmp_path: Path) -> None:
    await left(tmp_path, ECHO, LARGE)

    async with restarted(tmp_path) as sandbox:
        await sandbox.restore_recent(0)

        assert not sandbox.is_prepared(ECHO.digest)
        assert not sandbox.is_prepared(LARGE.digest)


async def test_no_more_is_read_ahead_than_workers_hold_ready(tmp_path: Path) -> None:
    await left(tmp_path, LARGE, ECHO)
    small = files(tmp_path)[0].stat().st_size + files(tmp_path)[1].stat().st_size - len(TEXT)

    async with Sandbox(workers=1, max_workers=1, store=opened(tmp_path), code_bytes=small) as sandbox:
        await sandbox.restore_recent(10)

        assert sandbox.is_prepared(ECHO.digest)
        assert not sandbox.is_prepared(LARGE.digest)


class SlowStore(NativeStore):
    """A disk that takes its time over everything but one module."""

    def __init__(self, quick: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._quick = quick
        self.may_read = threading.Event()

    def read(self, digest: str, abi: str) -> NativeCode | None:
        if digest != self._quick:
            self.may_read.wait(30)
        return super().read(digest, abi)


async def test_a_call_does_not_wait_behind_the_reading_of_others(tmp_path: Path) -> None:
    await left(tmp_path, ECHO)
    like = opened(tmp_path)
    store = SlowStore(ECHO.digest, like._folder, like._key, like._engine, MAX_BYTES)
    async with Sandbox(workers=1, max_workers=1, store=store) as sandbox:
        others = [asyncio.create_task(sandbox.restore(f"sha256:{number}", ECHO.abi)) for number in range(2)]
        await asyncio.sleep(0.05)

        async with asyncio.timeout(10):
            assert await sandbox.restore(ECHO.digest, ECHO.abi)
        assert (await ran(sandbox, ECHO)).output == b'"in"'

        assert not any(other.done() for other in others)
        store.may_read.set()
        assert await asyncio.gather(*others) == [False, False]


# What is not as it was made


@BOTH
async def test_a_file_that_was_tampered_with_is_made_again_and_the_call_answers_right(tmp_path: Path, function: Module) -> None:
    await left(tmp_path, function)
    (file,) = files(tmp_path)
    made = file.read_bytes()
    tampered = bytearray(made)
    tampered[len(made) // 2] ^= 1
    file.write_bytes(tampered)

    async with Sandbox(workers=1, max_workers=1, store=opened(tmp_path)) as sandbox:
        await sandbox.restore_recent(10)
        assert not sandbox.is_prepared(function.digest)
        assert not await sandbox.restore(function.digest, function.abi)
        outcome = await run(sandbox, function, '"in"')

    assert outcome.output == answer(function)
    assert file.read_bytes() == made


async def test_code_that_was_made_with_another_setting_never_reaches_a_worker(tmp_path: Path) -> None:
    config = guest_config()
    config.epoch_interruption = False
    other = Engine(config)
    code = bytes(Compiled(other, ECHO.wasm).serialize())
    store = open_native_store(tmp_path, fingerprint(other), MAX_BYTES)
    assert store is not None
    store.keep(NativeCode(ECHO.digest, ECHO.abi, code))

    async with Sandbox(workers=1, max_workers=1, store=opened(tmp_path)) as sandbox:
        assert not await sandbox.restore(ECHO.digest, ECHO.abi)
        assert (await run(sandbox, ECHO, '"in"')).output == b'"in"'


def without_epochs(config: Config) -> None:
    config.epoch_interruption = False


def for_any_processor(config: Config) -> None:
    # With a target Wasmtime asks nothing of the processor that it is on.
    c.wasmtime_config_target_set(config.ptr(), f"{os.uname().machine}-unknown-linux-gnu".encode())


def unoptimized(config: Config) -> None:
    config.cranelift_opt_level = "none"


@pytest.mark.parametrize("change", [without_epochs, for_any_processor, unoptimized])
def test_an_engine_of_another_kind_has_another_fingerprint(change: Any) -> None:
    config = guest_config()
    change(config)

    assert fingerprint(Engine(config)) != fingerprint(new_compiler())


def test_another_wasmtime_or_another_contract_with_guests_is_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(new_compiler())

    with monkeypatch.context() as patch:
        patch.setattr("services.executor.sandbox.engine.version", lambda _: "0.0.1")
        assert fingerprint(new_compiler()) != before
    with monkeypatch.context() as patch:
        patch.delitem(GUEST_ABIS, "kiln")
        assert fingerprint(new_compiler()) != before


def test_every_process_here_has_the_same_fingerprint() -> None:
    program = "from services.executor.sandbox.engine import *; print(fingerprint(new_compiler()))"

    printed = [subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, env=environment(), text=True) for _ in range(2)]

    assert {text.strip() for text in printed} == {fingerprint(new_compiler())}


# Files in memory


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_worker_that_takes_nothing_for_long_gets_all_the_code_in_the_end() -> None:
    sealed = Sealed(Preparer().compile(LARGE.abi, LARGE.wasm))
    arguments = Arguments(0, 0, 0, 64_052, 3 << 30, 1 << 30)
    worker = await Child.start("services.executor.sandbox.worker", arguments, max_message_bytes=1 << 20, start_seconds=30)
    try:
        with stopped(worker.pid):
            loads = [Load(0, f"{number}", LARGE.abi, worker.hand(sealed)) for number in range(450)]
            loaded = [worker.ask(load) for load in loads]
        answers = await asyncio.gather(*loaded)
        ran = await worker.ask(Run(0, replace(call(LARGE), digest="449")))
    finally:
        await worker.close()

    assert {load.code is None for load in loads} == {True, False}
    assert [answer.problem for answer in answers if isinstance(answer, Loaded)] == [None] * len(loads)
    assert isinstance(ran, Ran)
    assert ran.outcome.output == TEXT.encode()


async def test_a_new_worker_maps_what_the_dead_one_had(tmp_path: Path) -> None:
    others = set(psutil.Process().children())

    def workers() -> list[psutil.Process]:
        return [child for child in set(psutil.Process().children()) - others if "sandbox.worker" in " ".join(child.cmdline())]

    async with Sandbox(workers=1, max_workers=1) as sandbox:
        await run(sandbox, LARGE)
        (worker,) = workers()
        worker.kill()
        await asyncio.to_thread(worker.wait)
        # A call that is sent to it before its death is known would end with it.
        for _ in range(1000):
            if any(other != worker for other in workers()):
                break
            await asyncio.sleep(0.01)

        assert (await ran(sandbox, LARGE)).output == TEXT.encode()


def test_where_a_process_cannot_open_its_own_files_code_is_loaded_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: object) -> None:
        raise WasmtimeError("Permission denied")

    sealed = Sealed(Preparer().compile(LARGE.abi, LARGE.wasm))
    monkeypatch.setattr(Compiled, "deserialize_file", refused)
    with running_engine() as runner, open(sealed.descriptor, "rb", buffering=0, closefd=False) as file:
        runner.load_file(LARGE.digest, LARGE.abi, file)
        outcome = runner.run(call(LARGE))

    assert outcome is not None
    assert outcome.output == TEXT.encode()


# The executor


@pytest.fixture(scope="module")
async def url(postgres: TestPostgres) -> str:
    return await postgres.new_database()


@pytest.fixture
def following() -> Iterator[tuple[str, Services, Registry]]:
    """An address, what answers there, and its registry."""
    with running_services() as (address, services):
        registry = Registry(services)
        registry.end_snapshot()
        yield address, services, registry


async def until_kept(folder: Path, number: int) -> None:
    async with asyncio.timeout(10):
        while len(files(folder)) < number:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_an_executor_that_was_killed_serves_at_once_what_it_served_before(
    tmp_path: Path, url: str, following: tuple[str, Services, Registry]
) -> None:
    address, services, registry = following
    native = tmp_path / "native"
    async with running(tmp_path, url, address, KILN_EXECUTOR_NATIVE_FOLDER=str(native)) as before:
        function = await deployed(registry, LARGE.wasm)
        first = await before.execute(function.id)
        await until_kept(native, 1)
        before.process.kill()
    services.on("GetArtifact", lambda _, context: fail(context, NotFound("lost", reason="ARTIFACT_NOT_FOUND")))
    services.calls.clear()

    async with running(tmp_path, url, address, KILN_EXECUTOR_NATIVE_FOLDER=str(native)) as after:
        again = await after.execute(function.id)

    assert first.output_text == again.output_text == TEXT.encode()
    assert not again.cold_start
    assert "GetArtifact" not in [call.name for call in services.calls]


async def test_an_executor_whose_file_was_tampered_with_says_that_the_call_had_to_wait(
    tmp_path: Path, url: str, following: tuple[str, Services, Registry]
) -> None:
    address, _, registry = following
    native = tmp_path / "native"
    function = registry.function(ECHO.wasm)
    registry.answer_for(function)
    async with running(tmp_path, url, address, KILN_EXECUTOR_NATIVE_FOLDER=str(native)) as before:
        await before.execute(function.id)
        await until_kept(native, 1)
    (file,) = files(native)
    made = file.read_bytes()
    file.write_bytes(made[:-1] + bytes([made[-1] ^ 1]))

    async with running(tmp_path, url, address, KILN_EXECUTOR_NATIVE_FOLDER=str(native)) as after:
        answers = [await after.execute(function.id) for _ in range(2)]

    assert [answer.output_text for answer in answers] == [b"1", b"1"]
    assert [answer.cold_start for answer in answers] == [True, False]
    assert b"native_code_refused" in (tmp_path / "executor.log").read_bytes()
    assert len(files(native)) == 1


async def test_an_executor_that_cannot_keep_code_says_so_and_serves(
    tmp_path: Path, url: str, following: tuple[str, Services, Registry]
) -> None:
    address, _, registry = following
    (tmp_path / "native").write_bytes(b"")

    async with running(tmp_path, url, address, KILN_EXECUTOR_NATIVE_FOLDER=str(tmp_path / "native")) as executor:
        function = await deployed(registry, ECHO.wasm)

        assert (await executor.execute(function.id)).output_text == b"1"

    assert b"native_folder_unusable" in (tmp_path / "executor.log").read_bytes()


async def test_the_processes_that_run_guests_see_nothing_of_the_folder(
    tmp_path: Path, url: str, following: tuple[str, Services, Registry]
) -> None:
    address, _, registry = following
    native = tmp_path / "native"
    async with running(tmp_path, url, address, KILN_EXECUTOR_NATIVE_FOLDER=str(native)) as executor:
        await executor.execute((await deployed(registry, LARGE.wasm)).id)
        await until_kept(native, 1)
        children = descendants(executor.process.pid)

        assert children
        for child in children:
            assert not [name for name in links(child.pid) + mapped(child) if str(native) in name]
            assert str(native) not in " ".join(child.cmdline())
            assert str(native) not in " ".join(child.environ().values())


def links(pid: int) -> list[str]:
    return [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]


def mapped(process: psutil.Process) -> list[str]:
    return [region.path for region in process.memory_maps()]
