"""JSON in its two gRPC forms: exact text, and `google.protobuf.Value`."""

import json
from collections.abc import Sequence
from typing import Any, Final

import orjson
from google.protobuf import json_format, struct_pb2
from google.protobuf.message import DecodeError, EncodeError
from kiln.executor.v1 import executor_pb2 as pb

from libs.common.errors import FailedPrecondition, InvalidArgument

# Above it, not every whole number is a double.
_MAX_EXACT: Final = 2**53


# A call by itself, or one of a stream.
AnyCall = pb.ExecuteFunctionRequest | pb.ExecuteStreamRequest
# An input in either form.
Given = struct_pb2.Value | bytes


def given_text(request: AnyCall) -> bytes:
    """The input of a call as text; `{}` when there is none.

    Raises:
        InvalidArgument: the value holds what JSON cannot say.
    """
    kind = request.WhichOneof("given")
    if kind is None:
        return b"{}"
    return as_text(request.input_text if kind == "input_text" else request.input)


def given_inputs(request: pb.ExecuteBatchRequest, most: int) -> Sequence[Given]:
    """The inputs of a batch.

    Raises:
        InvalidArgument: there are none, or more than so many, or some in each form.
    """
    if request.inputs and request.input_texts:
        raise InvalidArgument.of("inputs", "must be values or texts, not some of each")
    inputs: Sequence[Given] = request.input_texts or request.inputs
    if not inputs:
        raise InvalidArgument.of("inputs", "must hold at least one input")
    if len(inputs) > most:
        raise InvalidArgument.of("inputs", f"holds {len(inputs)}; at most {most} are taken in one call", reason="TOO_MANY_INPUTS")
    return inputs


def as_text(given: Given) -> bytes:
    """An input as text.

    Raises:
        InvalidArgument: the value holds what JSON cannot say.
    """
    if isinstance(given, bytes):
        return given
    try:
        # Separators as short as those of most clients.
        value = _without_fractions(json_format.MessageToDict(given))
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, json_format.Error):
        raise InvalidArgument.of("input", "holds a number that JSON cannot say, or a value of no kind") from None


def answer_form(request: AnyCall | pb.ExecuteBatchRequest) -> "pb.PayloadForm":
    """The form in which a call is answered: the one asked for, else that of its input."""
    if request.payload_form != pb.PAYLOAD_FORM_UNSPECIFIED:
        return request.payload_form
    if isinstance(request, pb.ExecuteBatchRequest):
        return pb.TEXT if request.input_texts else pb.VALUE
    return pb.TEXT if request.WhichOneof("given") == "input_text" else pb.VALUE


def as_value(text: bytes) -> struct_pb2.Value:
    """JSON text as a value.

    Raises:
        FailedPrecondition: it holds what a value cannot, or what clients could not read.
    """
    try:
        # It refuses half of a surrogate pair, and numbers past a double, which would become infinite.
        orjson.loads(text)
        value = json_format.Parse(text, struct_pb2.Value())
        # Parsers of protobuf stop at 100 messages in each other, of which an array is two and an object three.
        deepest = pb.ListExecutionsResponse(executions=[pb.Execution(output=value)])
        pb.ListExecutionsResponse.FromString(deepest.SerializeToString())
    except (orjson.JSONDecodeError, json_format.ParseError, DecodeError, EncodeError):
        raise FailedPrecondition(
            "the JSON does not fit into google.protobuf.Value: it is nested too deep, or has half of a surrogate pair, a number past a "
            "double, or a name twice; ask with payloadForm TEXT",
            reason="UNFIT_FOR_VALUE",
        ) from None
    return value


def _without_fractions(value: Any) -> Any:
    """Whole numbers as people write them: 1 and not 1.0, which readers of integers refuse."""
    match value:
        case float() if value.is_integer() and abs(value) <= _MAX_EXACT:
            return int(value)
        case list():
            return [_without_fractions(one) for one in value]
        case dict():
            return {name: _without_fractions(one) for name, one in value.items()}
    return value
