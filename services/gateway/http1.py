"""HTTP/1.1 for hostile clients: connections with deadlines, whose requests are answered in order, each in a task of its own.

A refusal closes the connection, so that nothing behind it is ever served.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from httptools import HttpParserUpgrade

from libs.common.errors import DeadlineExceeded, KilnError
from libs.common.request import REQUEST_ID_HEADER, accept_request_id, request_id
from libs.common.served import shown
from services.gateway import heads, problems
from services.gateway.deadlines import Deadline
from services.gateway.exchange import Answer, Endpoint, Header, Request
from services.gateway.incoming import BETWEEN, BODY, HEADERS, Incoming, Limits, Phase

# Progress that a slow client must make in each period.
_PROGRESS_BYTES: Final = 64 * 1024
# How long a refused client may go on sending before the connection closes; closing at once would reset it before it reads the answer.
_LINGER_SECONDS: Final = 1.0


class Connections:
    """All connections of a server.

    Args:
        serve: Answers requests. It is called when the headers of one are there, and is cancelled when its client goes away.
        limits: What clients may do.
        headers: What every answer has besides its own.
    """

    def __init__(self, serve: Endpoint, limits: Limits, headers: Sequence[Header] = ()) -> None:
        self.serve = serve
        self.limits = limits
        self.defaults = heads.Defaults(headers)
        self._open: set[Connection] = set()
        self._is_ending = False
        self._all_gone = asyncio.Event()

    def new(self) -> "Connection":
        """A protocol for a connection to come."""
        return Connection(self)

    def opened(self, connection: "Connection") -> None:
        """One is there."""
        self._open.add(connection)
        if self._is_ending:
            connection.end()

    def closed(self, connection: "Connection") -> None:
        """One is gone."""
        self._open.discard(connection)
        if not self._open:
            self._all_gone.set()

    async def end(self, seconds: float) -> None:
        """Ends all of them: those that are idle at once, others behind their answers, and after some time those that are left."""
        self._is_ending = True
        for connection in list(self._open):
            connection.end()
        if self._open:
            self._all_gone.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), seconds)
        for connection in list(self._open):
            connection.abort()


class Connection(asyncio.Protocol):
    """One connection.

    Args:
        connections: All of the server's.
    """

    __slots__ = (
        "_body_bytes_seen", "_bytes_unread", "_connections", "_incoming", "_is_deaf", "_is_last", "_is_paused", "_is_write_paused",
        "_limits", "_loop", "_read_deadline", "_read_phase", "_serving", "_task", "_transport", "_waiting", "_write_deadline",
    )  # fmt: skip
    _incoming: Incoming
    _transport: asyncio.Transport

    def __init__(self, connections: Connections) -> None:
        self._connections, self._limits = connections, connections.limits
        self._loop = loop = asyncio.get_running_loop()
        # The request that is served, and those behind it.
        self._serving: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[Request] = deque()
        self._is_last = False
        # What may still come from the client, and how long that may take.
        self._is_deaf = self._is_paused = self._is_write_paused = False
        self._read_phase: Phase | None = None
        self._body_bytes_seen = self._bytes_unread = 0
        self._read_deadline = Deadline(loop, self._on_read_deadline)
        self._write_deadline = Deadline(loop, self._on_write_deadline)

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        peer = transport.get_extra_info("peername")
        self._incoming = Incoming(self._limits, peer[0] if peer else "", self._take)
        self._set_read_deadline(HEADERS)
        self._connections.opened(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._connections.closed(self)
        self._read_deadline.end()
        self._write_deadline.end()
        self._is_deaf = True
        self._waiting.clear()
        # Nobody is left to read the answer: the call behind it ends too.
        self._stop_serving()
        self._incoming.close()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        try:
            self._incoming.feed(data)
        except HttpParserUpgrade:
            # No upgrade is offered. The request itself is answered; what follows it would be in the other protocol.
            self._answer_as_last()
        except KilnError as error:
            self._refuse(error)
        self._watch_reading()

    def pause_writing(self) -> None:
        self._is_write_paused = True
        self._watch_writing()

    def resume_writing(self) -> None:
        self._is_write_paused = False
        if not self._transport.is_closing():
            self._write_deadline.clear()
            self._serve_next()

    def end(self) -> None:
        """Closes it behind the answers to what was asked; at once where nothing was."""
        self._is_last = True
        if self._serving is None and not self._waiting:
            self._hang_up()

    def abort(self) -> None:
        """Ends it now."""
        self._transport.abort()

    # Answers

    def _take(self, request: Request, is_last: bool) -> None:
        """Has a request served: now, or behind others, and not before the client has read what is written."""
        request.arrival = self._arrive
        self._read_phase = None  # its body has a deadline of its own
        if is_last:
            self._is_last = True
        if self._serving is None and not self._waiting and not self._is_write_paused:
            self._serve(request)
        else:
            self._waiting.append(request)
            self._pause_reading()

    def _serve(self, request: Request) -> None:
        self._serving = request
        self._task = self._loop.create_task(self._answer(request))

    def _serve_next(self) -> None:
        if self._waiting and self._serving is None and not self._is_write_paused:
            self._serve(self._waiting.popleft())
        if not self._waiting:
            self._resume_reading()

    async def _answer(self, request: Request) -> None:
        try:
            answer = self._encoded(request, await self._connections.serve(request))
        except asyncio.CancelledError:
            if self._serving is request:  # not by this connection, so that its client still waits
                self._transport.abort()
            raise
        except Exception as error:
            told = _told(shown(error, path=request.path), request_id.get(), request.headers)
            answer = self._encoded(request, told)
        if self._serving is request:
            self._write(answer)

    def _encoded(self, request: Request, answer: Answer) -> bytes:
        is_last = self._is_last and not self._waiting
        return heads.encoded(answer, self._connections.defaults, has_body=request.method != "HEAD", is_last=is_last)

    async def _arrive(self) -> None:
        """Waits for the body of the request that is served, which has the client send it where that waits to be told."""
        request = self._incoming.reading
        if request and request.headers.get("expect", "").lower() == "100-continue" and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await self._incoming.body()

    def _write(self, answer: bytes) -> None:
        """Writes the answer to the request that is served, and goes on to what is behind it."""
        if self._incoming.reading is self._serving:
            self._incoming.forget_body()  # it was answered without
        self._serving = self._task = None
        if self._transport.is_closing():
            return
        self._transport.write(answer)
        if self._waiting:
            self._serve_next()
        elif self._is_last:
            self._hang_up()
            return
        elif self._is_paused:
            self._resume_reading()
        self._watch_reading()

    def _stop_serving(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._serving = self._task = None

    def _answer_as_last(self) -> None:
        """Answers what was asked completely, and hears nothing more."""
        self._is_deaf = self._is_last = True
        if self._incoming.reading is not None:
            self._waiting.pop()
            self._incoming.forget_body()
        if self._serving is None and not self._waiting:
            self._hang_up()

    def _hang_up(self) -> None:
        """Closes the connection behind what was written."""
        if self._transport.is_closing():
            return
        self._is_deaf = True
        self._read_phase = None
        if self._incoming.phase is BODY:
            self._linger()
        else:
            self._transport.close()
        self._watch_writing()

    def _linger(self) -> None:
        """Closes the connection once the client has had time to read the answer, since it is still sending."""
        self._is_deaf = True
        self._resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._loop.call_later(_LINGER_SECONDS, self._transport.close)

    def _refuse(self, error: KilnError) -> None:
        """Refuses the message that is being read; a message before it, still being answered, gets its answer first."""
        in_body = self._incoming.phase is BODY
        is_own = in_body and self._serving is self._incoming.reading
        if (self._serving or self._waiting) and not is_own:
            self._answer_as_last()
            return
        is_answered = in_body and self._incoming.reading is None
        self._stop_serving()
        if not is_answered:
            self._write_refusal(error)
        self._linger()
        self._watch_writing()

    def _write_refusal(self, error: KilnError) -> None:
        headers = self._incoming.headers
        told = _told(error, accept_request_id(headers.get(REQUEST_ID_HEADER)), headers)
        self._transport.write(heads.encoded(told, self._connections.defaults, has_body=True, is_last=True))

    # Reading

    def _pause_reading(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    # Deadlines

    def _watch_reading(self) -> None:
        """Sets the deadline of what is being read; none runs between messages while one is answered."""
        phase = self._incoming.phase
        if self._is_deaf or (phase is BETWEEN and (self._serving or self._waiting)):
            self._read_phase = None
            return
        if phase is BETWEEN and self._incoming.head_bytes:
            phase = HEADERS  # empty lines before a message
        if phase is not self._read_phase:
            self._set_read_deadline(phase)

    def _set_read_deadline(self, phase: Phase) -> None:
        self._read_phase = phase
        if phase is BODY:
            self._body_bytes_seen = 0
            self._read_deadline.set(self._limits.body_seconds)
        else:
            self._read_deadline.set(self._limits.header_seconds if phase is HEADERS else self._limits.keep_alive_seconds)

    def _on_read_deadline(self) -> None:
        if self._read_phase is None:
            return  # it is of what is there by now
        in_body = self._read_phase is BODY
        if self._is_paused or (in_body and self._incoming.body_bytes - self._body_bytes_seen >= _PROGRESS_BYTES):
            self._body_bytes_seen = self._incoming.body_bytes
            self._read_deadline.set(self._limits.body_seconds if in_body else self._limits.header_seconds)
        elif self._incoming.phase is BETWEEN and self._incoming.head_bytes == 0:
            self._hang_up()
        else:
            self._refuse(DeadlineExceeded("the request took too long to arrive", reason="REQUEST_TIMEOUT"))

    def _watch_writing(self) -> None:
        """Sets a deadline for the client to read what is written."""
        if not self._write_deadline.runs:
            self._bytes_unread = self._transport.get_write_buffer_size()
            self._write_deadline.set(self._limits.body_seconds)

    def _on_write_deadline(self) -> None:
        if self._bytes_unread - self._transport.get_write_buffer_size() >= _PROGRESS_BYTES:
            self._watch_writing()
        else:
            self._transport.abort()


def _told(error: KilnError, identity: str, headers: Mapping[str, str]) -> Answer:
    answer = problems.answer_of(error, identity, headers)
    answer.headers = [*answer.headers, (REQUEST_ID_HEADER, identity)]
    return answer
