"""What was answered is in the history once, as it was answered, whatever dies or goes away in between."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import asyncpg
import grpc
import pytest
from kiln.executor.v1 import executor_pb2 as pb
from kiln.registry.v1 import registry_pb2

from libs.common.errors import InvalidArgument, KilnError, NotFound, ResourceExhausted, Unavailable
from libs.common.ids import uuid7
from tests.integration.executor.guests import ECHO, ENDLESS
from tests.integration.executor.test_service import PATIENT_MS, Executor, deployed, running
from tests.support.journals import Answers, check_answers
from tests.support.postgres import TestPostgres
from tests.support.proxy import Proxy, proxied
from tests.support.waiting import until
from tests.support.watched import Registry

MORE = {"KILN_EXECUTOR_WORKERS": "2", "KILN_EXECUTOR_MAX_WORKERS": "2", "KILN_EXECUTOR_MAX_WAITING": "64"}
CALLERS = 4


@pytest.fixture
async def url(postgres: TestPostgres) -> str:
    return await postgres.new_database()


@pytest.fixture
async def echo(registry: tuple[str, Registry]) -> registry_pb2.WatchedFunction:
    """A function that any executor finds when it asks."""
    function = registry[1].function(ECHO.wasm)
    registry[1].answer_for(function)
    return function


@pytest.fixture
async def cut_off(
    tmp_path: Path, url: str, registry: tuple[str, Registry], echo: registry_pb2.WatchedFunction
) -> AsyncIterator[tuple[Executor, Proxy]]:
    """An executor with warm code, and the way to its database."""
    async with proxied(url) as (through, proxy), running(tmp_path, through, registry[0], **MORE) as executor:
        await executor.execute(echo.id)
        yield executor, proxy
        await proxy.cut()
        await proxy.mend()


@asynccontextmanager
async def calls_on(executor: Executor, reference: str, answers: Answers) -> AsyncIterator[None]:
    """Callers that call without pause while the block runs, and remember what they were answered."""
    stop = asyncio.Event()

    async def call(chance: random.Random) -> None:
        while not stop.is_set():
            given = b'"%d%s"' % (chance.getrandbits(60), b"x" * chance.choice((0, 10, 2000, 100_000)))
            try:
                answers.add(await executor.execute(reference, given), given)
            except (KilnError, grpc.aio.AioRpcError) as error:
                answers.failures.append(error)
                await asyncio.sleep(0.02)

    callers = [asyncio.create_task(call(random.Random(number))) for number in range(CALLERS)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*callers)


async def more(answers: Answers, count: int) -> None:
    """Returns once so many more calls were answered."""
    wanted = len(answers.given) + count
    await until(lambda: len(answers.given) >= wanted, 60)


async def test_no_call_of_a_warm_function_fails_while_the_database_is_away_and_nothing_is_lost(
    cut_off: tuple[Executor, Proxy], echo: registry_pb2.WatchedFunction, url: str
) -> None:
    executor, proxy = cut_off
    answers = Answers()

    async with calls_on(executor, echo.id, answers):
        for _ in range(2):
            await more(answers, 20)
            await proxy.cut()
            before = len(answers.given)
            await asyncio.sleep(4)
            assert len(answers.given) > before
            await proxy.mend()

    assert answers.failures == []
    await check_answers(url, answers)


async def test_no_call_of_a_warm_function_waits_for_a_history_that_is_locked(
    tmp_path: Path, url: str, registry: tuple[str, Registry], echo: registry_pb2.WatchedFunction
) -> None:
    answers = Answers()
    connection = await asyncpg.connect(url)
    async with running(tmp_path, url, registry[0], **MORE) as executor:
        await executor.execute(echo.id)
        async with calls_on(executor, echo.id, answers):
            await more(answers, 20)
            async with connection.transaction():
                await connection.execute("LOCK TABLE executor.executions IN ACCESS EXCLUSIVE MODE")
                before = len(answers.given)
                await asyncio.sleep(5)
                assert len(answers.given) > before + 50
        await connection.close()

        assert answers.failures == []
        await check_answers(url, answers)


async def test_an_executor_that_is_told_to_stop_under_load_ends_every_call_that_it_took(
    tmp_path: Path, url: str, registry: tuple[str, Registry], echo: registry_pb2.WatchedFunction
) -> None:
    answers = Answers()
    async with running(tmp_path, url, registry[0], **MORE) as executor:
        await executor.execute(echo.id)
        async with calls_on(executor, echo.id, answers):
            await more(answers, 50)
            executor.process.terminate()
            assert await asyncio.to_thread(executor.process.wait, 20) == 0

    await check_answers(url, answers)
    connection = await asyncpg.connect(url)
    try:
        ended = await connection.fetch("SELECT status, count(*) FROM executor.executions GROUP BY status")
    finally:
        await connection.close()
    # One made the function warm.
    assert {row["status"]: row["count"] for row in ended} == {"COMPLETED": len(answers.given) + 1}


async def test_what_is_not_in_the_database_yet_is_read_all_the_same_and_a_list_that_cannot_be_had_says_so(
    cut_off: tuple[Executor, Proxy], echo: registry_pb2.WatchedFunction
) -> None:
    executor, proxy = cut_off
    await proxy.cut()

    answer = await executor.execute(echo.id, b"7")
    found = await executor.get(UUID(answer.id))
    with pytest.raises(Unavailable) as refusal:
        await executor.list(echo.id)
    await proxy.mend()

    assert (found.input_text, found.output_text) == (b"7", b"7")
    assert refusal.value.reason == "DATABASE_AWAY"

    async def listed() -> bool:
        try:
            return (await executor.list(echo.id)).executions[0].id == answer.id
        except Unavailable:
            return False

    await until(listed)


async def test_a_list_right_after_a_call_has_it(cut_off: tuple[Executor, Proxy], echo: registry_pb2.WatchedFunction) -> None:
    executor, _ = cut_off

    for number in range(30):
        answer = await executor.execute(echo.id, b"%d" % number)
        assert (await executor.list(echo.id, page_size=1)).executions[0].id == answer.id


async def test_a_call_that_asks_for_a_commit_is_answered_when_the_database_has_it(
    cut_off: tuple[Executor, Proxy], echo: registry_pb2.WatchedFunction, url: str
) -> None:
    executor, proxy = cut_off
    connection = await asyncpg.connect(url)
    try:
        for _ in range(10):
            answer = await executor.execute(echo.id, durability=pb.COMMIT)
            assert await connection.fetchval("SELECT status FROM executor.executions WHERE id = $1", UUID(answer.id)) == "COMPLETED"
    finally:
        await connection.close()

    await proxy.cut()
    identity = uuid7()
    with pytest.raises(Unavailable) as refusal:
        await executor.execute(echo.id, b"8", identity=identity, durability=pb.COMMIT)
    await proxy.mend()

    assert refusal.value.reason == "NOT_RECORDED"
    assert str(identity) in refusal.value.message
    assert (await executor.status(identity, pb.Execution.COMPLETED)).output_text == b"8"


async def test_a_durability_that_there_is_not_is_refused_by_its_name(
    cut_off: tuple[Executor, Proxy], echo: registry_pb2.WatchedFunction
) -> None:
    with pytest.raises(InvalidArgument, match="durability"):
        await cut_off[0].execute(echo.id, durability=99)


async def test_a_full_journal_refuses_calls_with_a_time_to_wait_and_empties_when_the_database_is_back(
    tmp_path: Path, url: str, registry: tuple[str, Registry], echo: registry_pb2.WatchedFunction
) -> None:
    large, answers = b'"' + b"x" * 900_000 + b'"', Answers()
    async with proxied(url) as (through, proxy), running(tmp_path, through, registry[0], KILN_EXECUTOR_JOURNAL_MB="64") as executor:
        answers.add(await executor.execute(echo.id), b"1")
        await proxy.cut()

        with pytest.raises(ResourceExhausted) as refusal:  # noqa: PT012
            for _ in range(100):
                answers.add(await executor.execute(echo.id, large), large)
        await proxy.mend()
        await until(lambda: _answered(executor, echo.id, answers))

        await check_answers(url, answers)
    assert (refusal.value.reason, refusal.value.retry_after) == ("JOURNAL_FULL", 1)
    assert 25 < len(answers.given) < 40


async def _answered(executor: Executor, reference: str, answers: Answers) -> bool:
    try:
        answers.add(await executor.execute(reference, b"2"), b"2")
    except ResourceExhausted:
        return False
    return True


async def test_a_run_that_was_ended_by_another_while_its_executor_was_cut_off_has_its_own_end_later(
    cut_off: tuple[Executor, Proxy], registry: tuple[str, Registry], tmp_path: Path, url: str
) -> None:
    executor, proxy = cut_off
    slow = await deployed(registry[1], ENDLESS.wasm, timeout_ms=9000)
    registry[1].answer_for(slow)
    (tmp_path / "other").mkdir()
    async with running(tmp_path / "other", url, registry[0]) as other:
        call, identity = executor.calling(slow.id)
        await other.status(identity, pb.Execution.RUNNING)
        await proxy.cut()
        swept = await other.status(identity, pb.Execution.FAILED)
        assert swept.error.type == pb.ExecutionError.PLATFORM

        answer = await call
        await proxy.mend()

        own = await other.until(identity, lambda found: found.error.type == pb.ExecutionError.TIMEOUT)
    assert answer.error == own.error


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.timeout(400)
async def test_an_executor_that_is_killed_under_load_loses_nothing_that_it_answered(
    tmp_path: Path, url: str, registry: tuple[str, Registry], echo: registry_pb2.WatchedFunction, seed: int
) -> None:
    answers, chance = Answers(), random.Random(seed)

    for _ in range(3):
        async with running(tmp_path, url, registry[0], **MORE) as executor:
            await executor.execute(echo.id)
            async with calls_on(executor, echo.id, answers):
                await more(answers, 30)
                await asyncio.sleep(chance.uniform(0, 0.5))
                executor.process.kill()
                await asyncio.to_thread(executor.process.wait, 10)
    async with running(tmp_path, url, registry[0], **MORE):
        pass

    await check_answers(url, answers)
    assert [path.name for path in (tmp_path / "journal").iterdir()] == ["lock"]


async def test_a_run_whose_executor_was_killed_has_failed_once_the_next_has_started(
    tmp_path: Path, url: str, registry: tuple[str, Registry]
) -> None:
    endless = registry[1].function(ENDLESS.wasm, timeout_ms=PATIENT_MS)
    registry[1].answer_for(endless)
    async with running(tmp_path, url, registry[0]) as doomed:
        call, identity = doomed.calling(endless.id)
        await doomed.status(identity, pb.Execution.RUNNING)
        doomed.process.kill()
        await asyncio.gather(call, return_exceptions=True)

    async with running(tmp_path, url, registry[0], KILN_EXECUTOR_LEASE_SECONDS="3600") as after:
        ended = await after.get(identity)

    assert (ended.status, ended.error.type) == (pb.Execution.FAILED, pb.ExecutionError.PLATFORM)


async def test_the_processes_that_run_guests_have_no_way_to_the_journal(
    cut_off: tuple[Executor, Proxy], echo: registry_pb2.WatchedFunction, tmp_path: Path
) -> None:
    executor, _ = cut_off
    await executor.execute(echo.id)

    assert any(str(tmp_path / "journal") in target for target in _open_files(executor.process.pid))
    for child in executor.process.children(recursive=True):
        assert not [target for target in _open_files(child.pid) if "journal" in target]


def _open_files(pid: int) -> list[str]:
    return [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]


async def test_an_executor_whose_journal_folder_cannot_be_used_says_so_and_does_not_start(
    tmp_path: Path, url: str, registry: tuple[str, Registry]
) -> None:
    (tmp_path / "journal").write_bytes(b"")

    with pytest.raises(AssertionError, match="KILN_EXECUTOR_JOURNAL_FOLDER"):
        async with running(tmp_path, url, registry[0]):
            pass


async def test_a_call_that_was_never_made_is_still_not_found(cut_off: tuple[Executor, Proxy]) -> None:
    with pytest.raises(NotFound):
        await cut_off[0].get(uuid7())
