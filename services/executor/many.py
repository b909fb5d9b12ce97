"""Several calls at once, side by side: as a batch that is answered as a whole, and as a stream that is answered in order."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

from google.rpc import status_pb2
from kiln.executor.v1 import executor_pb2 as pb

from libs.common import request, status
from libs.common.channel import MAX_MESSAGE_BYTES
from libs.common.errors import KilnError, ResourceExhausted
from libs.common.served import shown

# What a batch answers at most; the rest of a message is for the refusals of a thousand inputs.
MAX_ANSWER_BYTES: Final = MAX_MESSAGE_BYTES - (1 << 20)

G = TypeVar("G")
T = TypeVar("T")


async def side_by_side(given: Sequence[G], run: Callable[[G], Awaitable[T]], most: int) -> list[T]:
    """What comes of each that is given, in their order. So many run at once; when this is cancelled the others are not begun."""
    results: dict[int, T] = {}
    left = iter(enumerate(given))

    async def run_some() -> None:
        for index, one in left:
            results[index] = await run(one)

    async with _first_error(), asyncio.TaskGroup() as group:
        for _ in range(min(most, len(given))):
            group.create_task(run_some())
    return [results[index] for index in range(len(given))]


async def in_order(
    given: AsyncIterable[G], run: Callable[[G], Coroutine[Any, Any, T]], tell: Callable[[T], Awaitable[None]], most: int
) -> None:
    """Tells what comes of each that is given, in their order, while more is given. No more are taken while so many are not told of."""
    runs: asyncio.Queue[asyncio.Task[T] | None] = asyncio.Queue()
    room = asyncio.Semaphore(most)

    async def tell_all() -> None:
        while task := await runs.get():
            await tell(await task)
            room.release()

    async with _first_error(), asyncio.TaskGroup() as group:
        group.create_task(tell_all())
        await room.acquire()
        async for one in given:
            runs.put_nowait(group.create_task(run(one)))
            await room.acquire()
        runs.put_nowait(None)


async def answer_of(call: Awaitable[pb.Execution]) -> pb.Execution:
    """What one of several calls is answered with: one that is refused has its refusal in its place, and hurts no other."""
    try:
        return await call
    except Exception as error:
        return _refused(shown(error))


def only_named(execution: pb.Execution, why: KilnError) -> pb.Execution:
    """A run of which no more can be told than which it is and how it ended, and why that is so."""
    return pb.Execution(
        id=execution.id,
        function_id=execution.function_id,
        function_name=execution.function_name,
        function_version=execution.function_version,
        status=execution.status,
        refusal=_refusal(why),
    )


class AnswerRoom:
    """How much of what came of a batch fits into its answer: whatever comes first."""

    def __init__(self, most_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._most = most_bytes
        self._left = most_bytes

    def fitted(self, answer: pb.Execution) -> pb.Execution:
        """The answer, or where it no longer fits what leads to the run."""
        if answer.HasField("refusal"):
            return answer
        size = answer.ByteSize()
        if size > self._left:
            return only_named(answer, self._too_large(answer))
        self._left -= size
        return answer

    def _too_large(self, execution: pb.Execution) -> KilnError:
        return ResourceExhausted(
            f"execution {execution.id} has run and is {pb.Execution.Status.Name(execution.status)}, but does not fit into an answer of at "
            f"most {self._most} bytes: read it with GetExecution (GET /executions/{{id}}), or send fewer inputs at once",
            reason="ANSWER_TOO_LARGE",
            metadata={"execution_id": execution.id},
        )


class Streams:
    """The streams that are open, so many at most: each may hold as much as many calls."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Counts one while the block lasts.

        Raises:
            ResourceExhausted: there are as many as there may be.
        """
        if self._open >= self._most:
            raise ResourceExhausted(
                f"{self._open} streams are open already, which is all that KILN_EXECUTOR_MAX_STREAMS lets there be",
                reason="TOO_MANY_STREAMS",
                retry_after=1,
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


@asynccontextmanager
async def _first_error() -> AsyncIterator[None]:
    """Raises what first went wrong in a group of tasks as itself."""
    try:
        yield
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from None


def _refused(error: KilnError) -> pb.Execution:
    """What stands in the place of a run that there is not: failed, so that whoever reads nothing but the status is right."""
    return pb.Execution(status=pb.Execution.FAILED, error_message=error.message, refusal=_refusal(error))


def _refusal(error: KilnError) -> status_pb2.Status:
    return status.to_proto(error, request.request_id.get())
