"""Several calls run side by side, are told in order, and end together."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from google.rpc import error_details_pb2
from kiln.executor.v1 import executor_pb2 as pb

from libs.common import request
from libs.common.channel import MAX_MESSAGE_BYTES
from libs.common.errors import InvalidArgument, NotFound, ResourceExhausted
from services.executor.many import MAX_ANSWER_BYTES, AnswerRoom, Streams, answer_of, in_order, side_by_side
from tests.support.waiting import until


class Work:
    """Runs that last until they are let go.

    Attributes:
        begun: What was begun, in order.
        cancelled: What was cancelled.
        most_at_once: How many ran at once at most.
    """

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.most_at_once = 0
        self._running = 0
        self._may_end: dict[int, asyncio.Event] = {}

    async def run(self, number: int) -> int:
        self.begun.append(number)
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        try:
            await self._event(number).wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            self._running -= 1
        return number

    def let_go(self, *numbers: int) -> None:
        for number in numbers:
            self._event(number).set()

    def _event(self, number: int) -> asyncio.Event:
        return self._may_end.setdefault(number, asyncio.Event())


class Told:
    """What was told, in order."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    async def tell(self, number: int) -> None:
        self.numbers.append(number)


async def settle() -> None:
    """Lets every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def given(numbers: Sequence[int], error: Exception | None = None) -> AsyncIterator[int]:
    for number in numbers:
        yield number
    if error:
        raise error


# Batches


async def test_results_are_in_the_order_of_what_was_given_whatever_ends_first() -> None:
    work = Work()
    batch = asyncio.create_task(side_by_side([0, 1, 2, 3], work.run, 2))
    await settle()

    for number in (1, 2, 3, 0):
        work.let_go(number)
        await settle()

    assert await batch == [0, 1, 2, 3]
    assert work.most_at_once == 2


async def test_one_that_lasts_keeps_no_other_from_running() -> None:
    work = Work()
    work.let_go(*range(1, 100))
    batch = asyncio.create_task(side_by_side(range(100), work.run, 2))
    await settle()
    await until(lambda: len(work.begun) == 100)

    work.let_go(0)

    assert await batch == list(range(100))


async def test_a_batch_that_is_cancelled_stops_what_runs_and_begins_nothing_more() -> None:
    work = Work()
    batch = asyncio.create_task(side_by_side(range(10), work.run, 3))
    await settle()

    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch

    assert work.begun == [0, 1, 2]
    assert sorted(work.cancelled) == [0, 1, 2]


# Streams


async def test_a_stream_is_told_in_order_as_soon_as_what_was_before_is() -> None:
    work, told = Work(), Told()
    stream = asyncio.create_task(in_order(given(range(4)), work.run, told.tell, 10))

    work.let_go(1, 2)
    await settle()
    assert (work.begun, told.numbers) == ([0, 1, 2, 3], [])
    work.let_go(0)
    await settle()
    assert told.numbers == [0, 1, 2]
    work.let_go(3)
    await stream

    assert told.numbers == [0, 1, 2, 3]


async def test_no_more_are_taken_while_so_many_are_not_told_of() -> None:
    work, told = Work(), Told()
    taken: list[int] = []

    async def taking() -> AsyncIterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    work.let_go(*range(1, 100))
    stream = asyncio.create_task(in_order(taking(), work.run, told.tell, 3))
    await settle()
    assert taken == [0, 1, 2]
    work.let_go(0)
    await stream

    assert told.numbers == list(range(100))
    assert work.most_at_once <= 3


async def test_a_stream_whose_caller_does_not_listen_reads_no_more() -> None:
    work, listens = Work(), asyncio.Event()
    work.let_go(*range(100))

    async def tell(number: int) -> None:
        await listens.wait()

    stream = asyncio.create_task(in_order(given(range(100)), work.run, tell, 3))
    await settle()
    assert work.begun == [0, 1, 2]
    listens.set()
    await stream

    assert len(work.begun) == 100


async def test_a_stream_that_is_cancelled_stops_what_runs() -> None:
    work, told = Work(), Told()

    async def open_end() -> AsyncIterator[int]:
        yield 0
        yield 1
        await asyncio.Event().wait()

    stream = asyncio.create_task(in_order(open_end(), work.run, told.tell, 10))
    await settle()

    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream

    assert sorted(work.cancelled) == [0, 1]


async def test_what_goes_wrong_with_the_stream_itself_is_raised_as_itself() -> None:
    work, told = Work(), Told()

    with pytest.raises(InvalidArgument, match="no message"):
        await in_order(given([0], InvalidArgument("no message")), work.run, told.tell, 10)

    assert work.cancelled == [0] or work.begun == []


async def test_a_stream_of_nothing_ends() -> None:
    await in_order(given([]), Work().run, Told().tell, 1)


# Answers


async def test_a_refusal_stands_in_the_place_of_the_run_with_its_details_and_looks_failed() -> None:
    async def call() -> pb.Execution:
        raise NotFound("there is no such thing", reason="FUNCTION_NOT_FOUND")

    answer = await answer_of(call())

    info = error_details_pb2.ErrorInfo()
    assert (answer.id, answer.status, answer.error_message) == ("", pb.Execution.FAILED, "there is no such thing")
    assert (answer.refusal.code, answer.refusal.message) == (5, "there is no such thing")
    assert answer.refusal.details[0].Unpack(info)
    assert info.reason == "FUNCTION_NOT_FOUND"


async def test_a_run_is_answered_as_it_is() -> None:
    run = pb.Execution(id="e", status=pb.Execution.COMPLETED, output_text=b"1")

    async def call() -> pb.Execution:
        return run

    answer = await answer_of(call())

    assert answer == run
    assert not answer.HasField("refusal")


async def test_a_fault_of_the_platform_keeps_its_words_to_itself() -> None:
    async def call() -> pb.Execution:
        raise RuntimeError("the password is swordfish")

    answer = await answer_of(call())

    assert answer.refusal.code == 13
    assert "swordfish" not in str(answer)


def run(name: str, size: int) -> pb.Execution:
    return pb.Execution(
        id=name,
        function_id="f",
        function_name="echo",
        function_version=3,
        status=pb.Execution.COMPLETED,
        output_text=b"x" * size,
        logs=[pb.LogLine(message="said")],
    )


def test_what_no_longer_fits_has_a_refusal_that_leads_to_the_run_and_what_fits_goes_on() -> None:
    large, small = run("l", 900), run("s", 20)
    room = AnswerRoom(1000)

    fitted = [room.fitted(one) for one in (large, large, small)]

    info = error_details_pb2.ErrorInfo()
    assert (fitted[0], fitted[2]) == (large, small)
    assert "execution l has run" in fitted[1].refusal.message
    assert fitted[1].refusal.details[0].Unpack(info)
    assert (info.reason, dict(info.metadata)) == ("ANSWER_TOO_LARGE", {"execution_id": "l"})


def test_of_what_no_longer_fits_it_is_told_which_it_is_and_how_it_ended_and_nothing_else() -> None:
    answer = AnswerRoom(10).fitted(run("l", 900))

    answer.ClearField("refusal")
    assert answer == pb.Execution(id="l", function_id="f", function_name="echo", function_version=3, status=pb.Execution.COMPLETED)


async def test_a_thousand_refusals_fit_beside_what_is_answered_at_most() -> None:
    whole = run("0" * 36, 900)
    whole.function_id, whole.function_name = "0" * 36, "n" * 63
    token = request.request_id.set("r" * 128)

    async def call() -> pb.Execution:
        raise InvalidArgument.of("input", "is no JSON: at byte 1048576 stands what none begins with", reason="INPUT_NOT_JSON")

    try:
        answers = [await answer_of(call()), AnswerRoom(10).fitted(whole)]
    finally:
        request.request_id.reset(token)

    assert max(answer.ByteSize() for answer in answers) * 1000 < MAX_MESSAGE_BYTES - MAX_ANSWER_BYTES


def test_streams_beyond_the_limit_are_refused_until_one_ends() -> None:
    streams = Streams(1)

    with streams.opened(), pytest.raises(ResourceExhausted) as refusal, streams.opened():
        pass
    with streams.opened():
        pass

    assert (refusal.value.reason, refusal.value.retry_after) == ("TOO_MANY_STREAMS", 1)
