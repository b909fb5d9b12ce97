"""Errors as HTTP answers: the JSON of AIP-193, or RFC 9457's where the caller prefers `application/problem+json`."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.rpc import status_pb2

from libs.common import status
from libs.common.errors import InvalidArgument, KilnError, Violation
from services.gateway import surface
from services.gateway.exchange import JSON, Answer, Header, prefers
from services.gateway.routes import METHOD_NOT_ALLOWED

PROBLEM: Final = "application/problem+json"
# Statuses that ask to come back, and after how many seconds where the error does not say.
_COME_BACK: Final = {429: 1, 503: 1}
_TITLES: Final = {one.value: one.phrase for one in HTTPStatus} | {499: "Client Closed Request"}


def answer_of(error: KilnError, request_id: str, headers: Mapping[str, str]) -> Answer:
    """The answer that tells of an error.

    Args:
        error: The error, as REST callers know its fields.
        request_id: Stands in its details.
        headers: Of the request.
    """
    code = status.http_status(error)
    told = error_object(status.to_proto(error, request_id))
    extra = _headers(error, code)
    if prefers(headers, PROBLEM):
        return Answer(code, orjson.dumps(_problem(error, code, told)), PROBLEM, extra)
    return Answer(code, orjson.dumps({"error": told}), JSON, extra)


def error_object(refusal: status_pb2.Status) -> dict[str, Any]:
    """An error as REST has it, wherever it stands: as the answer, or in the place of one of several."""
    error = status.from_proto(refusal)
    details = [json_format.MessageToDict(detail) for detail in refusal.details]
    return {"code": status.http_status(error), "status": status.code_of(error).name, "message": refusal.message, "details": details}


def in_rest_words(error: KilnError, request: Descriptor) -> KilnError:
    """The same error with the fields it names, also at the start of its message, as REST knows them.

    Args:
        error: As the service sent it, with proto names.
        request: The type of the request it is about.
    """
    if not isinstance(error, InvalidArgument) or not error.violations:
        return error
    message = error.message
    violations: list[Violation] = []
    for violation in error.violations:
        name = surface.rest_path(request, violation.field)
        message = message.replace(f"{violation.field}: ", f"{name}: ", 1)
        violations.append(Violation(name, violation.description))
    return InvalidArgument(message, reason=error.reason, violations=violations)


def _headers(error: KilnError, code: int) -> list[Header]:
    headers: list[Header] = []
    seconds = error.retry_after if error.retry_after is not None else _COME_BACK.get(code)
    if seconds is not None:
        headers.append(("Retry-After", str(max(1, math.ceil(seconds)))))
    if code == 401:
        headers.append(("WWW-Authenticate", 'Bearer realm="kiln"'))
    if error.reason == METHOD_NOT_ALLOWED:
        headers.append(("Allow", error.metadata["allow"]))
    return headers


def _problem(error: KilnError, code: int, told: Mapping[str, Any]) -> dict[str, Any]:
    known = {"type": "about:blank", "title": _TITLES[code], "status": code, "detail": error.message}
    return {**known, "code": told["status"], "reason": error.reason, "details": told["details"]}
