"""Heads of HTTP/1.1 messages: what one of a request may be, and one of an answer as it is sent."""

import re
import time
from collections.abc import Collection, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from libs.common.errors import InvalidArgument, KilnError, ResourceExhausted
from services.gateway.exchange import Answer, Header

_VERSIONS: Final = ("1.0", "1.1")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
# What would end a header, or is shown to nobody; a tab is neither.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Defaults:
    """The headers that every answer has, as they are sent.

    Args:
        headers: Those besides the date.
    """

    def __init__(self, headers: Sequence[Header] = ()) -> None:
        self._fixed = "".join(f"{name}: {value}\r\n" for name, value in headers)
        self._second = 0
        self._lines = ""

    def lines(self) -> str:
        """All of them, now. The date is written once for all answers of a second."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._lines = f"date: {formatdate(second, usegmt=True)}\r\n{self._fixed}"
        return self._lines


def check(version: str, headers: Mapping[str, str], repeated: Collection[str], max_body_bytes: int) -> None:
    """Refuses a request whose headers have what the parser lets pass and two readers could understand differently.

    Args:
        version: `1.0` or `1.1`; the parser also takes `0.9`.
        headers: By name in lower case; of several of one name the first.
        repeated: Names of those that were given again.
        max_body_bytes: Largest body.

    Raises:
        KilnError: it says what is wrong.
    """
    if version not in _VERSIONS:
        raise bad_head(f"HTTP/{version} is not served")
    if "host" in repeated or ("host" not in headers and version == "1.1"):
        raise bad_head("there must be one Host header")
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None and (length is not None or version == "1.0" or "transfer-encoding" in repeated or coding.lower() != "chunked"):
        raise bad_head("the only transfer coding is `chunked`, and no Content-Length may stand beside it")
    if length is not None:
        if "content-length" in repeated or not _LENGTH.fullmatch(length):
            raise bad_head("Content-Length must be there once, in digits")
        if int(length) > max_body_bytes:
            raise body_too_large(max_body_bytes)


def encoded(answer: Answer, defaults: Defaults, *, has_body: bool, is_last: bool) -> bytes:
    """An answer as it is sent.

    Args:
        answer: The answer.
        defaults: What it has besides its own headers.
        has_body: Whether its body goes with it, other than to `HEAD`.
        is_last: Whether the connection ends behind it.

    Raises:
        ValueError: the value of a header has characters that cannot be in one.
    """
    lines = [_STATUS_LINES.get(answer.status) or f"HTTP/1.1 {answer.status} \r\n", defaults.lines()]
    for name, value in answer.headers:
        if _CONTROL.search(value):
            raise ValueError(f"the header {name} would have control characters")
        lines.append(f"{name.lower()}: {value}\r\n")
    body = answer.body
    if body:
        lines.append(f"content-length: {len(body)}\r\ncontent-type: {answer.media_type}\r\n")
    elif answer.status != 204:
        lines.append("content-length: 0\r\n")
    lines.append("connection: close\r\n\r\n" if is_last else "\r\n")
    head = "".join(lines).encode("latin-1", "replace")
    return head + body if has_body else head


def bad_head(message: str) -> KilnError:
    """The error of what is no proper HTTP/1.1."""
    return InvalidArgument(message, reason="MALFORMED_REQUEST")


def headers_too_large(message: str) -> KilnError:
    """The error of too many headers, or too large ones."""
    return ResourceExhausted(message, reason="HEADERS_TOO_LARGE")


def body_too_large(most: int) -> KilnError:
    """The error of a body of more bytes than may be."""
    return ResourceExhausted(f"the body is larger than {most} bytes", reason="REQUEST_TOO_LARGE")
