"""Errors as HTTP answers: the JSON of AIP-193, or RFC 9457's where the caller prefers `application/problem+json`."""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor

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
    name = status.code_of(error).name
    details = [json_format.MessageToDict(detail) for detail in status.to_proto(error, request_id).details]
    extra = _headers(error, code)
    if prefers(headers, PROBLEM):
        return Answer(code, orjson.dumps(_problem(error, code, name, details)), PROBLEM, extra)
    body = {"error": {"code": code, "status": name, "message": error.message, "details": details}}
    return Answer(code, orjson.dumps(body), JSON, extra)


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
    if error.reason == METHOD_NOT_ALLOWED:
        headers.append(("Allow", error.metadata["allow"]))
    return headers


def _problem(error: KilnError, code: int, name: str, details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    known = {"type": "about:blank", "title": _TITLES[code], "status": code, "detail": error.message}
    return {**known, "code": name, "reason": error.reason, "details": details}
