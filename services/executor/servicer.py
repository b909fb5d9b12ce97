"""The executor's RPCs: between messages and the domain, nothing else."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from kiln.executor.v1 import executor_pb2 as pb
from kiln.executor.v1 import executor_pb2_grpc

from libs.common import request as current
from libs.common.errors import InvalidArgument
from libs.common.ids import parse_uuid, uuid7
from libs.common.pages import page_of
from services.executor.execution import Durability, Execution
from services.executor.executions import Executions, Request
from services.executor.payload import answer_form, as_value, given_text
from services.executor.repository import Filter


class ExecutorServicer(executor_pb2_grpc.ExecutorServicer):
    """Public RPCs."""

    def __init__(self, executions: Executions) -> None:
        self._executions = executions

    async def ExecuteFunction(self, request: pb.ExecuteFunctionRequest, context: Any) -> pb.Execution:
        version = request.version if request.HasField("version") else None
        durability = Durability(_word(pb.Durability, request.durability, "durability") or Durability.JOURNAL)
        call = Request(_execution_id(context), current.request_id.get(), request.id, given_text(request), version, durability)
        answer = execution_to_proto(await self._executions.execute(call), answer_form(request))
        answer.ClearField("given")
        return answer

    async def ListExecutions(self, request: pb.ListExecutionsRequest, context: Any) -> pb.ListExecutionsResponse:
        wanted = Filter(
            _word(pb.Execution.Status, request.status, "status"),
            _word(pb.ExecutionError.Type, request.error_type, "error_type"),
            request.version if request.HasField("version") else None,
            _moment(request, "started_after"),
            _moment(request, "started_before"),
        )
        page = page_of(request.page_size, request.page_token, "executions", request.id, wanted)
        found = await self._executions.list(request.id, page, wanted)
        return pb.ListExecutionsResponse(
            executions=[execution_to_proto(one, request.payload_form) for one in found.items], next_page_token=found.next_page_token
        )

    async def GetExecution(self, request: pb.GetExecutionRequest, context: Any) -> pb.Execution:
        return execution_to_proto(await self._executions.get(request.id), request.payload_form)


def execution_to_proto(execution: Execution, form: "pb.PayloadForm | int") -> pb.Execution:
    """A run as it travels."""
    message = pb.Execution(
        id=str(execution.id),
        function_id=str(execution.function_id),
        function_name=execution.function_name,
        function_version=execution.function_version,
        status=execution.status.value,
        logs=[pb.LogLine(level=line.level.value, message=line.message) for line in execution.logs],
        logs_truncated=execution.logs_truncated,
        duration_us=execution.duration_us,
        queue_us=execution.queue_us,
        cold_start=execution.cold_start,
        memory_peak_bytes=execution.memory_peak_bytes,
        request_id=execution.request_id,
        created_at=_time(execution.created_at),
        started_at=_time(execution.started_at),
        completed_at=_time(execution.completed_at),
        **_payloads(execution, form),
    )
    if execution.error:
        stack = [
            pb.StackFrame(function=frame.function, file=frame.file, line=frame.line, column=frame.column) for frame in execution.error.stack
        ]
        message.error_message = execution.error.message
        message.error.CopyFrom(pb.ExecutionError(type=execution.error.type.value, message=execution.error.message, stack=stack))
    return message


def _payloads(execution: Execution, form: "pb.PayloadForm | int") -> Mapping[str, Any]:
    given, answered = execution.input, execution.output
    if form == pb.TEXT:
        return {"input_text": given} | ({} if answered is None else {"output_text": answered})
    return {"input": as_value(given)} | ({} if answered is None else {"output": as_value(answered)})


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


def _moment(message: Message, field: str) -> datetime | None:
    if not message.HasField(field):
        return None
    stamp: Timestamp = getattr(message, field)
    try:
        return stamp.ToDatetime(UTC)
    except ValueError:
        raise InvalidArgument.of(field, "is no time between the years 1 and 9999") from None


def _time(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
