"""The REST application, and the HTTP server that runs it inside this process."""

import asyncio
import math
import socket
import time
from types import TracebackType
from typing import Any, Final, Self

import uvicorn
from uvicorn.lifespan.off import LifespanOff

from libs.common import errors, request
from libs.common.interceptors import shown
from libs.common.logs import logger
from libs.common.loopback import is_loopback_authority
from services.gateway import problems
from services.gateway.exchange import Answer, Endpoint, Request
from services.gateway.http1 import GuardedProtocol, Limits
from services.gateway.routes import Routes
from services.gateway.settings import Settings
from services.gateway.tls import Certificate

_CLIENT_GONE: Final = 499
# Browsers come back by TLS alone for a year.
_HSTS: Final = ("strict-transport-security", "max-age=31536000")


class RestApplication:
    """An ASGI application over a table of routes: reads the request, finds its endpoint, and answers, with errors always in JSON.

    Args:
        routes: Where requests go.
        max_concurrent: Requests served at once; more are refused.
        loopback_only: Refuse what is asked of another name than this machine's own. Where nobody is asked who calls, a page of any site
            whose name was made to lead here could call otherwise: to its browser that is the page's own site.
    """

    def __init__(self, routes: Routes[Endpoint], *, max_concurrent: int, loopback_only: bool) -> None:
        self._routes = routes
        self._loopback_only = loopback_only
        self._max_concurrent = max_concurrent
        self._serving = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serves one request."""
        began = time.monotonic()
        headers = _headers(scope["headers"])
        identity = request.accept_request_id(headers.get(request.REQUEST_ID_HEADER))
        request.request_id.set(identity)
        status = _CLIENT_GONE
        self._serving += 1
        try:
            answer = await self._answer(scope, headers, receive, identity)
            status = answer.status
            await _send(answer, identity, send)
        except asyncio.CancelledError:
            # The connection is gone, and with it the call; nobody waits for this task.
            pass
        finally:
            self._serving -= 1
            milliseconds = round((time.monotonic() - began) * 1000, 1)
            logger().info("http", method=scope["method"], path=scope["path"], status=status, ms=milliseconds)

    async def _answer(self, scope: Any, headers: dict[str, str], receive: Any, identity: str) -> Answer:
        try:
            if self._serving > self._max_concurrent:
                raise errors.ResourceExhausted("too many calls at once", reason="TOO_MANY_CALLS", retry_after=1)
            return await self._dispatch(scope, headers, receive)
        except Exception as error:
            return problems.answer_of(shown(error, path=scope["path"]), identity, headers)

    async def _dispatch(self, scope: Any, headers: dict[str, str], receive: Any) -> Answer:
        if self._loopback_only and not is_loopback_authority(headers.get("host", "")):
            raise errors.PermissionDenied(
                "Host: must be localhost or a loopback address while KILN_AUTH is off", reason="HOST_NOT_LOOPBACK"
            )
        method, raw_path = scope["method"], scope["raw_path"].decode("ascii")
        if method == "OPTIONS":
            return Answer(204, headers=[("Allow", ", ".join(self._routes.methods(raw_path)))])
        match = self._routes.find(method, raw_path)
        body = await _body(receive)
        address = scope["client"][0] if scope["client"] else ""
        return await match.target(Request(scope["query_string"], headers, match.variables, body, method, address))


class RestServer:
    """The HTTP server. It listens when `start` returns, and has answered what it began when `stop` does. An async context manager.

    Args:
        settings: The gateway's.
        application: What it runs.
        certificate: What it speaks TLS with; None for no TLS.

    Raises:
        OSError: the address cannot be had.
    """

    def __init__(self, settings: Settings, application: RestApplication, certificate: Certificate | None) -> None:
        self._socket = _listen(settings.http_address)
        self._tls: dict[str, Any] = {}
        if certificate:
            # The loop would wait a minute for a handshake.
            seconds = {"ssl_handshake_timeout": settings.gateway_header_seconds, "ssl_shutdown_timeout": settings.gateway_body_seconds}
            self._tls = {"ssl": certificate.context(), **seconds}
        self._limits = Limits(
            header_seconds=settings.gateway_header_seconds,
            body_seconds=settings.gateway_body_seconds,
            max_header_bytes=settings.gateway_max_header_bytes,
            max_headers=settings.gateway_max_headers,
            max_body_bytes=settings.gateway_max_body_bytes,
        )
        config = uvicorn.Config(
            application,
            http=GuardedProtocol,
            loop="none",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            headers=[_HSTS] if certificate else [],
            timeout_keep_alive=settings.gateway_keep_alive_seconds,
            timeout_graceful_shutdown=math.ceil(settings.drain_seconds),
        )
        self._server = uvicorn.Server(config)
        self._ticking: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._socket.getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        # What `uvicorn.Server.serve` does, without its signal handlers: when to stop is decided in one place. And without its way to
        # listen, which does not bound handshakes.
        self._server.config.load()
        self._server.lifespan = LifespanOff(self._server.config)
        self._server.servers = [await asyncio.get_running_loop().create_server(self._protocol, sock=self._socket, **self._tls)]
        self._server.started = True
        self._ticking = asyncio.create_task(self._server.main_loop())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stops accepting, and lets requests in flight end within the drain time. A second call does nothing."""
        if self._ticking is None:
            return
        ticking, self._ticking = self._ticking, None
        self._server.should_exit = True
        await ticking
        await self._server.shutdown(sockets=[self._socket])
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()

    def _protocol(self) -> asyncio.Protocol:
        loop, config, state = asyncio.get_running_loop(), self._server.config, self._server.server_state
        return GuardedProtocol(self._limits, config=config, server_state=state, app_state={}, _loop=loop)


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except (OSError, ValueError) as error:
        raise OSError(f"cannot listen on {address}: {error}") from error


def _headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(raw)}


async def _body(receive: Any) -> bytes:
    event = await receive()
    body: bytes = event.get("body", b"")
    parts = [body]
    while event.get("more_body"):
        event = await receive()
        parts.append(event.get("body", b""))
    if event["type"] == "http.disconnect":
        raise asyncio.CancelledError
    return b"".join(parts) if len(parts) > 1 else body


async def _send(answer: Answer, identity: str, send: Any) -> None:
    headers = [(name.encode(), value.encode("latin-1", errors="replace")) for name, value in answer.headers]
    headers.append((request.REQUEST_ID_HEADER.encode(), identity.encode()))
    if answer.status != 204:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    if answer.body:
        headers.append((b"content-type", answer.media_type.encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
