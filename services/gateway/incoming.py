"""What comes in over a connection: requests of HTTP/1.1, read by httptools within bounds, and strictly where a proxy might read otherwise.

llhttp refuses most of what request smuggling is made of (bare LF, folded headers, two lengths, a length beside chunks). What it lets
pass is refused here, before a request is served.
"""

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import httptools

from libs.common.errors import InvalidArgument, KilnError
from services.gateway import heads
from services.gateway.exchange import Request

# Data goes to the parser in pieces of this size, so that what it does not report is counted to within a piece.
_PIECE_BYTES: Final = 8 * 1024
# What chunks may cost besides the body in them: this, and as much again as the body. Chunks of one byte cost five times theirs.
_CHUNK_OVERHEAD_BYTES: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may do; see the gateway's settings."""

    header_seconds: float
    body_seconds: float
    keep_alive_seconds: float
    max_header_bytes: int
    max_headers: int
    max_body_bytes: int


class Phase(enum.Enum):
    """Where the parser is in a message."""

    BETWEEN = enum.auto()
    HEADERS = enum.auto()
    BODY = enum.auto()


# A member is found much faster by a name of its own than in its class.
BETWEEN: Final = Phase.BETWEEN
HEADERS: Final = Phase.HEADERS
BODY: Final = Phase.BODY


class Incoming:
    """The requests of one connection, as they come in.

    Args:
        limits: What the client may do.
        address: Where it is.
        take: Called with each request once its headers are there, and whether it is the last by its own word.

    Attributes:
        phase: Where the parser is in a message.
        head_bytes: What came since the last message and before the body of the next.
        body_bytes: What is there of the body of a message.
        reading: The request whose body is still to come, as long as somebody wants it.
        headers: Those of the message that is read, so far: by lower-case name, of several of one name the first.
    """

    __slots__ = (
        "_address", "_arrived", "_header_bytes", "_limits", "_parser", "_parts", "_raw_body_bytes", "_repeated", "_take", "_url",
        "body_bytes", "head_bytes", "headers", "phase", "reading",
    )  # fmt: skip

    def __init__(self, limits: Limits, address: str, take: Callable[[Request, bool], None]) -> None:
        self._limits, self._address, self._take = limits, address, take
        self._parser: Any = httptools.HttpRequestParser(self)
        self.phase = BETWEEN
        self._url = b""
        self.headers: dict[str, str] = {}
        self._repeated: list[str] = []
        self.head_bytes = self.body_bytes = self._header_bytes = self._raw_body_bytes = 0
        self.reading: Request | None = None
        self._parts: list[bytes] = []
        self._arrived: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        """Reads on.

        Raises:
            KilnError: this is no request, or none that may be. Nothing may be fed from here on.
            HttpParserUpgrade: the request asks for another protocol, which follows it.
        """
        try:
            if len(data) <= _PIECE_BYTES:
                self._feed(data)
                return
            view = memoryview(data)
            for start in range(0, len(view), _PIECE_BYTES):
                self._feed(view[start : start + _PIECE_BYTES])
        except httptools.HttpParserUpgrade:
            raise
        except httptools.HttpParserError as error:
            raise _cause(error) from None

    async def body(self) -> None:
        """Waits until the body is there of the request that is read."""
        self._arrived = asyncio.get_running_loop().create_future()
        await self._arrived

    def forget_body(self) -> None:
        """Passes over what is still to come of a body: nobody wants it."""
        self.reading = None
        self._parts = []

    def close(self) -> None:
        """Lets go of the parser, which holds on to this."""
        self._parser = None

    # Called by the parser

    def on_message_begin(self) -> None:
        self.phase = HEADERS

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.phase is BODY:
            return  # a trailer: nobody asked for it, and it must not pass for a header
        self._header_bytes += len(name) + len(value) + 4
        known, word = self.headers, name.decode("latin-1").lower()
        if word in known:
            self._repeated.append(word)
        else:
            known[word] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._bound_head(len(self._url) + self._header_bytes)
        parser, headers = self._parser, self.headers
        version = parser.get_http_version()
        heads.check(version, headers, self._repeated, self._limits.max_body_bytes)
        url = httptools.parse_url(self._url)
        method, path = parser.get_method().decode("ascii"), url.path.decode("ascii")
        request = Request(url.query or b"", headers, {}, b"", method, self._address, path)
        self.phase, self.reading = BODY, request
        self.body_bytes = self._raw_body_bytes = 0
        self._take(request, version == "1.0" or not parser.should_keep_alive())

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        if self.body_bytes > self._limits.max_body_bytes:
            raise heads.body_too_large(self._limits.max_body_bytes)
        if self.reading is not None:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        self.phase = BETWEEN
        self._url, self.headers = b"", {}
        if self._repeated:
            self._repeated = []
        self.head_bytes = self._header_bytes = 0
        request = self.reading
        if request is None:
            return
        if parts := self._parts:
            request.body = parts[0] if len(parts) == 1 else b"".join(parts)
        request.arrival = None
        self.forget_body()
        if self._arrived is not None:
            if not self._arrived.done():
                self._arrived.set_result(None)
            self._arrived = None

    def _feed(self, piece: bytes | memoryview) -> None:
        if self.phase is BODY:
            self._raw_body_bytes += len(piece)
        else:
            self.head_bytes += len(piece)
        self._parser.feed_data(piece)
        if self.phase is BODY:
            if self._raw_body_bytes - self.body_bytes > _CHUNK_OVERHEAD_BYTES + self.body_bytes:
                raise InvalidArgument("the chunks of the body cost more than the body", reason="MALFORMED_REQUEST")
        elif self.head_bytes:
            self._bound_head(self.head_bytes)

    def _bound_head(self, size: int) -> None:
        most = self._limits
        if size > most.max_header_bytes:
            raise heads.headers_too_large(f"headers of more than {most.max_header_bytes} bytes")
        if len(self.headers) + len(self._repeated) > most.max_headers:
            raise heads.headers_too_large(f"more than {most.max_headers} headers")


def _cause(error: httptools.HttpParserError) -> KilnError:
    """What a callback of ours raised, which stands behind the error that the parser makes of it; else what the parser says."""
    cause = error.__context__
    if isinstance(cause, KilnError):
        return cause
    # Other errors of our own callbacks say nothing that a client could use.
    detail = "" if isinstance(error, httptools.HttpParserCallbackError) else f": {str(error).lower()}"
    return heads.bad_head(f"the request is no valid HTTP/1.1{detail}")
