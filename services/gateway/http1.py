"""HTTP/1.1 for hostile clients: uvicorn's protocol on httptools, with deadlines and caps, and strict where a proxy might read otherwise.

llhttp refuses most of what request smuggling is made of (bare LF, folded headers, two lengths, a length beside chunks). What it lets
pass is refused here, before a request reaches the application. A refusal closes the connection, so that nothing behind it is ever served.
"""

import asyncio
import enum
import re
from dataclasses import dataclass
from typing import Any, Final, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from libs.common.errors import DeadlineExceeded, InvalidArgument, KilnError, ResourceExhausted
from libs.common.request import REQUEST_ID_HEADER, accept_request_id
from services.gateway import problems

# Data goes to the parser in pieces of this size, so that what it does not report is counted to within a piece.
_PIECE_BYTES: Final = 8 * 1024
# What chunks may cost besides the body in them: this, and as much again as the body. Chunks of one byte cost five times theirs.
_CHUNK_OVERHEAD_BYTES: Final = 16 * 1024
# Progress that a slow client must make in each period.
_PROGRESS_BYTES: Final = 64 * 1024
# How long a refused client may go on sending before the connection closes; closing at once would reset it before it reads the answer.
_LINGER_SECONDS: Final = 1.0
# How the head of an answer begins that is none of those that others follow (1xx).
_FINAL: Final = (b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4", b"HTTP/1.1 5")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may do; see the gateway's settings."""

    header_seconds: float
    body_seconds: float
    max_header_bytes: int
    max_headers: int
    max_body_bytes: int


class Phase(enum.Enum):
    """Where the parser is in a message."""

    BETWEEN = enum.auto()
    HEADERS = enum.auto()
    BODY = enum.auto()


class _Refused(Exception):
    """Raised in a callback of the parser, to be found behind the error that the parser makes of it."""

    def __init__(self, error: KilnError) -> None:
        super().__init__(error.message)
        self.error = error


class _OneWrite:
    """What uvicorn writes an answer to: head and body, which it writes apart, go out together. A write is dear, since it wakes the client.

    Args:
        transport: The connection.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        """Holds a head back; what comes next takes it along."""
        if not self._head and data.startswith(_FINAL):
            self._head = data
        else:
            self._transport.write(self._head + data)
            self._head = b""

    def flush(self) -> None:
        """No body comes."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        """Closes the connection behind what was written."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether it is closed, or will be."""
        return self._transport.is_closing()


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self, limits: Limits, *, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # uvicorn lets data follow `Connection: close`.
        self.parser = httptools.HttpRequestParser(self)
        self._limits = limits
        self._phase = Phase.BETWEEN
        self._is_deaf = False
        self._head_bytes = 0
        self._body_bytes = 0
        self._raw_body_bytes = 0
        self._answering: RequestResponseCycle | None = None
        self._task: asyncio.Task[None] | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._read_timer_phase = Phase.BETWEEN
        self._write_timer: asyncio.TimerHandle | None = None

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._read_timer, self._write_timer):
            if timer:
                timer.cancel()
        # Nobody is left to read the answer: the call behind it ends too.
        if self._task and self._answering and not self._answering.response_complete:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._unset_keepalive_if_required()
        view = memoryview(data)
        try:
            for start in range(0, len(view), _PIECE_BYTES):
                self._feed(view[start : start + _PIECE_BYTES])
        except httptools.HttpParserUpgrade:
            # No upgrade is offered. The request itself is answered; what follows it would be in the other protocol.
            self._answer_as_last()
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause.error if isinstance(cause, _Refused) else _malformed(error))
        except _Refused as refused:
            self._refuse(refused.error)
        self._watch_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer and not self.transport.is_closing():
            self._write_timer.cancel()
            self._write_timer = None

    # The parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._phase = Phase.HEADERS

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is Phase.BODY:
            return  # a trailer: nobody asked for it, and it must not pass for a header
        super().on_header(name, value)
        if len(self.headers) > self._limits.max_headers:
            raise _Refused(_headers_too_large(f"more than {self._limits.max_headers} headers"))

    def on_headers_complete(self) -> None:
        self._phase = Phase.BODY
        self._body_bytes = self._raw_body_bytes = 0
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._limits.max_header_bytes:
            raise _Refused(_headers_too_large(f"headers of more than {self._limits.max_header_bytes} bytes"))
        if error := fault_of_head(self.parser.get_http_version(), self.headers, self._limits.max_body_bytes):
            raise _Refused(error)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            raise _Refused(_body_too_large(self._limits.max_body_bytes))
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._phase = Phase.BETWEEN
        self._head_bytes = 0
        self._stop_watching_reading()

    def _feed(self, piece: memoryview) -> None:
        if self._is_deaf:
            return
        if self._phase is Phase.BODY:
            self._raw_body_bytes += len(piece)
        else:
            self._head_bytes += len(piece)
        self.parser.feed_data(piece)
        if self._phase is not Phase.BODY and self._head_bytes > self._limits.max_header_bytes:
            raise _Refused(_headers_too_large(f"headers of more than {self._limits.max_header_bytes} bytes"))
        if self._phase is Phase.BODY and self._raw_body_bytes - self._body_bytes > _CHUNK_OVERHEAD_BYTES + self._body_bytes:
            raise _Refused(InvalidArgument("the chunks of the body cost more than the body", reason="MALFORMED_REQUEST"))

    # Answers

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # As uvicorn does it, but the task is remembered, to be cancelled when the client goes away.
        cycle.transport = cast(asyncio.Transport, _OneWrite(self.transport))
        self._answering = cycle
        self._task = self.loop.create_task(cycle.run_asgi(app))
        self._task.add_done_callback(self.tasks.discard)
        self.tasks.add(self._task)

    def on_response_complete(self) -> None:
        if self._answering:
            cast(_OneWrite, self._answering.transport).flush()
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_writing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_writing()

    def _answer_as_last(self) -> None:
        """Lets the answer in progress be the last, and hears nothing more."""
        self._is_deaf = True
        self.pipeline.clear()
        if self._answering:
            self._answering.keep_alive = False
            if self._answering.response_complete:
                self.transport.close()

    def _refuse(self, error: KilnError) -> None:
        """Refuses the message that is being read; a message before it, still being answered, gets its answer first."""
        answering = self._answering if self._answering and not self._answering.response_complete else None
        is_own = self._phase is Phase.BODY and answering is self.cycle
        if answering and not is_own:
            self._answer_as_last()
            return
        self._is_deaf = True
        if answering:
            answering.disconnected = True
            answering.message_event.set()
            if self._task:
                self._task.cancel()
        if answering and answering.response_started:
            self.transport.close()
        else:
            self._write_refusal(error)
        self._watch_writing()

    def _write_refusal(self, error: KilnError) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(self.headers or [])}
        identity = accept_request_id(headers.get(REQUEST_ID_HEADER))
        answer = problems.answer_of(error, identity, headers)
        lines = [(b"content-type", answer.media_type.encode()), (b"content-length", b"%d" % len(answer.body))]
        lines += [(name.lower().encode(), value.encode()) for name, value in answer.headers]
        lines += [(REQUEST_ID_HEADER.encode(), identity.encode()), (b"connection", b"close")]
        head = b"".join(b"%s: %s\r\n" % line for line in (*self.server_state.default_headers, *lines))
        self.flow.resume_reading()
        self.transport.write(STATUS_LINE[answer.status] + head + b"\r\n" + answer.body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    # Deadlines

    def _watch_reading(self) -> None:
        """Sets the deadline of what is being read; none runs between messages while one is answered."""
        is_answering = self._answering is not None and not self._answering.response_complete
        phase = Phase.HEADERS if self._phase is Phase.BETWEEN and not is_answering else self._phase
        if self._is_deaf or phase is Phase.BETWEEN:
            self._stop_watching_reading()
        elif self._read_timer is None or phase is not self._read_timer_phase:
            self._stop_watching_reading()
            self._read_timer_phase = phase
            self._set_read_timer(0)

    def _set_read_timer(self, received: int) -> None:
        in_body = self._read_timer_phase is Phase.BODY
        seconds = self._limits.body_seconds if in_body else self._limits.header_seconds
        self._read_timer = self.loop.call_later(seconds, self._on_read_timer, received)

    def _on_read_timer(self, received: int) -> None:
        self._read_timer = None
        is_moving = self._read_timer_phase is Phase.BODY and self._body_bytes - received >= _PROGRESS_BYTES
        if self.flow.read_paused or is_moving:
            self._set_read_timer(self._body_bytes)
        elif self._head_bytes == 0 and self._phase is Phase.BETWEEN:
            self.transport.close()
        else:
            self._refuse(DeadlineExceeded("the request took too long to arrive", reason="REQUEST_TIMEOUT"))

    def _stop_watching_reading(self) -> None:
        if self._read_timer:
            self._read_timer.cancel()
            self._read_timer = None

    def _watch_writing(self) -> None:
        """Sets a deadline for the client to read what is written."""
        if self._write_timer is None:
            self._set_write_timer()

    def _set_write_timer(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(self._limits.body_seconds, self._on_write_timer, unread)

    def _on_write_timer(self, unread: int) -> None:
        self._write_timer = None
        if unread - self.transport.get_write_buffer_size() >= _PROGRESS_BYTES:
            self._set_write_timer()
        else:
            self.transport.abort()


def fault_of_head(version: str, headers: list[tuple[bytes, bytes]], max_body_bytes: int) -> KilnError | None:
    """What is wrong with a request's headers that the parser lets pass; None when nothing is.

    Args:
        version: `1.0` or `1.1`; the parser also takes `0.9`.
        headers: Names in lower case.
        max_body_bytes: Largest body.
    """
    hosts = [value for name, value in headers if name == b"host"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    lengths = [value for name, value in headers if name == b"content-length"]
    if version not in ("1.0", "1.1"):
        return _bad_head(f"HTTP/{version} is not served")
    if len(hosts) > 1 or (version == "1.1" and not hosts):
        return _bad_head("there must be one Host header")
    if codings and (lengths or version == "1.0" or [coding.lower() for coding in codings] != [b"chunked"]):
        return _bad_head("the only transfer coding is `chunked`, and no Content-Length may stand beside it")
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(length) for length in lengths):
        return _bad_head("Content-Length must be there once, in digits")
    if lengths and int(lengths[0]) > max_body_bytes:
        return _body_too_large(max_body_bytes)
    return None


def _malformed(error: httptools.HttpParserError) -> KilnError:
    # Errors of our own callbacks say nothing that a client could use.
    detail = "" if isinstance(error, httptools.HttpParserCallbackError) else f": {str(error).lower()}"
    return _bad_head(f"the request is no valid HTTP/1.1{detail}")


def _bad_head(message: str) -> KilnError:
    return InvalidArgument(message, reason="MALFORMED_REQUEST")


def _headers_too_large(message: str) -> KilnError:
    return ResourceExhausted(message, reason="HEADERS_TOO_LARGE")


def _body_too_large(most: int) -> KilnError:
    return ResourceExhausted(f"the body is larger than {most} bytes", reason="REQUEST_TOO_LARGE")
