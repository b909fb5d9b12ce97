"""The one table between errors, gRPC codes and HTTP statuses, and the way an error travels: as a `google.rpc.Status` with details."""

from typing import Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from libs.common import errors
from libs.common.errors import InvalidArgument, KilnError, Violation

DOMAIN: Final = "kiln"
# The trailing metadata that a `google.rpc.Status` travels as.
DETAILS: Final = "grpc-status-details-bin"

# 499 is nginx's word for a caller that went away; the rest are those of google/rpc/code.proto.
TABLE: Final[tuple[tuple[type[KilnError], grpc.StatusCode, int], ...]] = (
    (errors.InvalidArgument, grpc.StatusCode.INVALID_ARGUMENT, 400),
    (errors.FailedPrecondition, grpc.StatusCode.FAILED_PRECONDITION, 400),
    (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED, 401),
    (errors.PermissionDenied, grpc.StatusCode.PERMISSION_DENIED, 403),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND, 404),
    (errors.AlreadyExists, grpc.StatusCode.ALREADY_EXISTS, 409),
    (errors.Aborted, grpc.StatusCode.ABORTED, 409),
    (errors.ResourceExhausted, grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    (errors.Cancelled, grpc.StatusCode.CANCELLED, 499),
    (errors.Internal, grpc.StatusCode.INTERNAL, 500),
    (errors.Unimplemented, grpc.StatusCode.UNIMPLEMENTED, 501),
    (errors.Unavailable, grpc.StatusCode.UNAVAILABLE, 503),
    (errors.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED, 504),
)

# Reasons for which HTTP has a better word than their code's.
HTTP_BY_REASON: Final = {
    "METHOD_NOT_ALLOWED": 405,
    "REQUEST_TIMEOUT": 408,
    "ETAG_MISMATCH": 412,
    "SOURCE_TOO_LARGE": 413,
    "WASM_TOO_LARGE": 413,
    "INPUT_TOO_LARGE": 413,
    "REQUEST_TOO_LARGE": 413,
    "ANSWER_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "HEADERS_TOO_LARGE": 431,
}

_CODE_OF: Final = {kind: code for kind, code, _ in TABLE}
_HTTP_OF: Final = {kind: http for kind, _, http in TABLE}
_CODE_NUMBERED: Final[dict[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}
_KIND_OF: Final = {code: kind for kind, code, _ in TABLE}


def code_of(error: KilnError) -> grpc.StatusCode:
    """The gRPC code of an error."""
    return _CODE_OF[type(error)]


def code_numbered(number: int) -> grpc.StatusCode:
    """The gRPC code of a number on the wire; UNKNOWN for one that is none."""
    return _CODE_NUMBERED.get(number, grpc.StatusCode.UNKNOWN)


def http_status(error: KilnError) -> int:
    """The HTTP status of an error."""
    return HTTP_BY_REASON.get(error.reason, _HTTP_OF[type(error)])


def to_proto(error: KilnError, request_id: str) -> status_pb2.Status:
    """The error as it travels: exactly one `ErrorInfo` and at most one of each other detail (AIP-193)."""
    number: int = code_of(error).value[0]
    status = status_pb2.Status(code=number, message=error.message)
    details: list[any_pb2.Any] = [
        _pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)),
        _pack(error_details_pb2.RequestInfo(request_id=request_id)),
    ]
    if isinstance(error, InvalidArgument) and error.violations:
        violations = [error_details_pb2.BadRequest.FieldViolation(field=one.field, description=one.description) for one in error.violations]
        details.append(_pack(error_details_pb2.BadRequest(field_violations=violations)))
    if error.retry_after is not None:
        delay = duration_pb2.Duration(nanos=int(error.retry_after % 1 * 1e9), seconds=int(error.retry_after))
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    status.details.extend(details)
    return status


def from_proto(status: status_pb2.Status) -> KilnError:
    """The error that `to_proto` was given, as far as details carry it."""
    return _build(code_numbered(status.code), status.message, status)


def from_rpc_error(error: grpc.aio.AioRpcError) -> KilnError:
    """The error behind a failed call, also of servers that send no details."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # AioRpcError has what it asks for
    return _build(error.code(), error.details() or error.code().name, status)


def _build(code: grpc.StatusCode, message: str, status: status_pb2.Status | None) -> KilnError:
    kind = _KIND_OF.get(code, errors.Internal)
    info, violations, retry_after = _unpack(status)
    reason = info.reason or None
    if kind is InvalidArgument:
        return InvalidArgument(message, reason=reason, violations=violations)
    return kind(message, reason=reason, metadata=dict(info.metadata), retry_after=retry_after)


def _unpack(status: status_pb2.Status | None) -> tuple[error_details_pb2.ErrorInfo, list[Violation], float | None]:
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details if status else ():
        for known in (info, bad, retry):
            detail.Unpack(known)
    violations = [Violation(one.field, one.description) for one in bad.field_violations]
    delay = retry.retry_delay
    return info, violations, delay.seconds + delay.nanos / 1e9 if retry.HasField("retry_delay") else None


def _pack(
    detail: error_details_pb2.ErrorInfo | error_details_pb2.RequestInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
