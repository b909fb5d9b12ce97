"""JSON in its two gRPC forms: exact text, and `google.protobuf.Value`."""

import json

from google.protobuf import json_format, struct_pb2
from kiln.executor.v1 import executor_pb2 as pb

from libs.common.errors import FailedPrecondition, InvalidArgument


def given_text(request: pb.ExecuteFunctionRequest) -> bytes:
    """The input of a call as text; `{}` when there is none.

    Raises:
        InvalidArgument: the value holds what JSON cannot say.
    """
    kind = request.WhichOneof("given")
    if kind is None:
        return b"{}"
    if kind == "input_text":
        return request.input_text
    try:
        # MessageToDict makes whole doubles ints; separators as short as those of most clients.
        value = json_format.MessageToDict(request.input)
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, json_format.Error):
        raise InvalidArgument.of("input", "holds a number that JSON cannot say, or a value of no kind") from None


def answer_form(request: pb.ExecuteFunctionRequest) -> "pb.PayloadForm":
    """The form in which a call is answered: the one asked for, else that of its input."""
    if request.payload_form != pb.PAYLOAD_FORM_UNSPECIFIED:
        return request.payload_form
    return pb.TEXT if request.WhichOneof("given") == "input_text" else pb.VALUE


def as_value(text: bytes) -> struct_pb2.Value:
    """JSON text as a value.

    Raises:
        FailedPrecondition: it is nested deeper than protobuf carries.
    """
    try:
        return json_format.Parse(text, struct_pb2.Value(), max_recursion_depth=100)
    except (json_format.ParseError, RecursionError):
        raise FailedPrecondition(
            "the JSON is nested too deep for google.protobuf.Value; ask with payloadForm TEXT", reason="TOO_DEEP_FOR_VALUE"
        ) from None
