"""The executor's RPCs: between messages and the domain, nothing else."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from uuid import UUID

from kiln.executor.v1 import executor_pb2 as pb
from kiln.executor.v1 import executor_pb2_grpc

from libs.common import request as current
from libs.common.errors import FailedPrecondition, InvalidArgument
from libs.common.ids import parse_uuid, uuid7
from libs.common.messages import moment_given, timestamp_of
from libs.common.pages import page_of
from services.executor.execution import Durability, Execution
from services.executor.executions import Executions, Request
from services.executor.many import AnswerRoom, Streams, answer_of, in_order, only_named, side_by_side
from services.executor.payload import AnyCall, Given, answer_form, as_text, as_value, given_inputs, given_text
from services.executor.repository import Filter

_DURABILITY: Final[Mapping[int, Durability]] = {
    pb.DURABILITY_UNSPECIFIED: Durability.JOURNAL,
    pb.JOURNAL: Durability.JOURNAL,
    pb.COMMIT: Durability.COMMIT,
}


class ExecutorServicer(executor_pb2_grpc.ExecutorServicer):
    """Public RPCs."""

    def __init__(self, executions: Executions, streams: Streams, *, max_batch_inputs: int) -> None:
        self._executions = executions
        self._streams = streams
        self._max_batch_inputs = max_batch_inputs

    async def ExecuteFunction(self, request: pb.ExecuteFunctionRequest, context: Any) -> pb.Execution:
        call = _call(request, given_text(request), _execution_id(context))
        return answer_to_proto(await self._executions.execute(call), answer_form(request))

    async def ExecuteBatch(self, request: pb.ExecuteBatchRequest, context: Any) -> pb.ExecuteBatchResponse:
        inputs, form = given_inputs(request, self._max_batch_inputs), answer_form(request)
        target = await self._executions.target(request.id, _version(request))
        many = self._executions.many()

        async def run(given: Given) -> pb.Execution:
            call = _call(request, as_text(given), uuid7())
            return _one_of_many(await self._executions.execute_in_turn(many, call, target), form)

        room = AnswerRoom()

        async def answer(given: Given) -> pb.Execution:
            return room.fitted(await answer_of(run(given)))

        return pb.ExecuteBatchResponse(executions=await side_by_side(inputs, answer, self._executions.most_of_brief))

    # It writes through the context instead of giving an iterator, so that what ends the call ends what runs for it, too.
    async def ExecuteStream(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.ExecuteStreamRequest], context: Any
    ) -> None:
        many = self._executions.many()

        async def run(request: pb.ExecuteStreamRequest) -> pb.Execution:
            call = _call(request, given_text(request), uuid7())
            return _one_of_many(await self._executions.execute_in_turn(many, call), answer_form(request))

        async def answer(request: pb.ExecuteStreamRequest) -> pb.Execution:
            return await answer_of(run(request))

        with self._streams.opened():
            # Twice as many as run at once, so that one that lasts does not keep those behind it from running.
            await in_order(request_iterator, answer, context.write, self._executions.most_of_many * 2)

    async def ListExecutions(self, request: pb.ListExecutionsRequest, context: Any) -> pb.ListExecutionsResponse:
        wanted = Filter(
            _word(pb.Execution.Status, request.status, "status"),
            _word(pb.ExecutionError.Type, request.error_type, "error_type"),
            _version(request),
            moment_given(request, "started_after"),
            moment_given(request, "started_before"),
        )
        page = page_of(request.page_size, request.page_token, "executions", request.id, wanted)
        found = await self._executions.list(request.id, page, wanted)
        return pb.ListExecutionsResponse(
            executions=[execution_to_proto(one, request.payload_form) for one in found.items], next_page_token=found.next_page_token
        )

    async def GetExecution(self, request: pb.GetExecutionRequest, context: Any) -> pb.Execution:
        return execution_to_proto(await self._executions.get(request.id), request.payload_form)


def answer_to_proto(execution: Execution, form: "pb.PayloadForm | int") -> pb.Execution:
    """A run as its caller is told of it, who has the input."""
    message = _without_payloads(execution)
    if execution.output is not None:
        if form == pb.TEXT:
            message.output_text = execution.output
        else:
            message.output.CopyFrom(as_value(execution.output))
    return message


def _one_of_many(execution: Execution, form: "pb.PayloadForm | int") -> pb.Execution:
    """A run as the caller of many is told of it: one that does not fit into the form has run all the same, and keeps its id and status."""
    try:
        return answer_to_proto(execution, form)
    except FailedPrecondition as unfit:
        return only_named(answer_to_proto(execution, pb.TEXT), unfit)


def execution_to_proto(execution: Execution, form: "pb.PayloadForm | int") -> pb.Execution:
    """A run as it is read in the history."""
    message = answer_to_proto(execution, form)
    if form == pb.TEXT:
        message.input_text = execution.input
    else:
        message.input.CopyFrom(as_value(execution.input))
    return message


def _without_payloads(execution: Execution) -> pb.Execution:
    message = pb.Execution(
        id=str(execution.id),
        function_id=str(execution.function_id),
        function_name=execution.function_name,
        function_version=execution.function_version,
        status=execution.status.value,
        logs_truncated=execution.logs_truncated,
        duration_us=execution.duration_us,
        queue_us=execution.queue_us,
        cold_start=execution.cold_start,
        memory_peak_bytes=execution.memory_peak_bytes,
        request_id=execution.request_id,
        created_at=timestamp_of(execution.created_at),
        started_at=timestamp_of(execution.started_at),
        completed_at=timestamp_of(execution.completed_at),
        created_by=execution.created_by,
    )
    for line in execution.logs:
        message.logs.add(level=line.level.value, message=line.message)
    if error := execution.error:
        stack = [pb.StackFrame(function=frame.function, file=frame.file, line=frame.line, column=frame.column) for frame in error.stack]
        message.error_message = error.message
        message.error.CopyFrom(pb.ExecutionError(type=error.type.value, message=error.message, stack=stack))
    return message


def _call(request: AnyCall | pb.ExecuteBatchRequest, text: bytes, identity: UUID) -> Request:
    durability = _DURABILITY.get(request.durability)
    if durability is None:
        raise InvalidArgument.of("durability", f"has no value {request.durability}")
    return Request(identity, current.request_id.get(), request.id, text, _version(request), durability)


def _version(request: AnyCall | pb.ExecuteBatchRequest | pb.ListExecutionsRequest) -> int | None:
    return request.version if request.HasField("version") else None


def _execution_id(context: Any) -> UUID:
    """The id that the gateway made, so that a call is never taken twice; one of our own for direct callers."""
    offered = dict(context.invocation_metadata() or ()).get(current.EXECUTION_ID_HEADER)
    if offered is None:
        return uuid7()
    identity = parse_uuid(str(offered))
    if identity is None or identity.version != 7:
        raise InvalidArgument.of(current.EXECUTION_ID_HEADER, "must be a UUIDv7")
    return identity


def _word(kind: Any, number: int, field: str) -> str | None:
    """The name of an enum's value; None for the one that was not given. A sender may know more values than we do."""
    try:
        return str(kind.Name(number)) if number else None
    except ValueError:
        raise InvalidArgument.of(field, f"has no value {number}") from None
