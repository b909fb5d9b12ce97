"""The REST application, and the HTTP server that runs it inside this process."""

import asyncio
import socket
import time
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote

from libs.common import errors, request
from libs.common.logs import logger
from libs.common.loopback import is_loopback_authority
from libs.common.served import shown
from services.gateway import problems
from services.gateway.exchange import Answer, Endpoint, Request
from services.gateway.http1 import Connections
from services.gateway.incoming import Limits
from services.gateway.routes import Routes
from services.gateway.settings import Settings
from services.gateway.tls import Certificate

_CLIENT_GONE: Final = 499
# Browsers come back by TLS alone for a year.
_HSTS: Final = ("strict-transport-security", "max-age=31536000")

# Clients send few, each with every request.
_is_loopback: Final = lru_cache(maxsize=64)(is_loopback_authority)


class RestApplication:
    """What answers requests by a table of routes: finds the endpoint of each and asks it, with errors always in JSON.

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

    async def serve(self, asked: Request) -> Answer:
        """Serves one request. Cancelled when the client goes away."""
        began = time.monotonic()
        identity = request.accept_request_id(asked.headers.get(request.REQUEST_ID_HEADER))
        request.request_id.set(identity)
        status = _CLIENT_GONE
        self._serving += 1
        try:
            answer = await self._answer(asked, identity)
            status = answer.status
        finally:
            self._serving -= 1
            milliseconds = round((time.monotonic() - began) * 1000, 1)
            logger().info("http", method=asked.method, path=unquote(asked.path), status=status, ms=milliseconds)
        answer.headers = [*answer.headers, (request.REQUEST_ID_HEADER, identity)]
        return answer

    async def _answer(self, asked: Request, identity: str) -> Answer:
        try:
            if self._serving > self._max_concurrent:
                raise errors.ResourceExhausted("too many calls at once", reason="TOO_MANY_CALLS", retry_after=1)
            if self._loopback_only and not _is_loopback(asked.headers.get("host", "")):
                raise errors.PermissionDenied(
                    "Host: must be localhost or a loopback address while KILN_AUTH is off", reason="HOST_NOT_LOOPBACK"
                )
            if asked.method == "OPTIONS":
                return Answer(204, headers=[("Allow", ", ".join(self._routes.methods(asked.path)))])
            endpoint, asked.variables = self._routes.find(asked.method, asked.path)
            if asked.arrival:
                await asked.arrival()
            return await endpoint(asked)
        except Exception as error:
            return problems.answer_of(shown(error, path=unquote(asked.path)), identity, asked.headers)


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
        self._drain_seconds = settings.drain_seconds
        self._tls: dict[str, Any] = {}
        if certificate:
            # The loop would wait a minute for a handshake.
            seconds = {"ssl_handshake_timeout": settings.gateway_header_seconds, "ssl_shutdown_timeout": settings.gateway_body_seconds}
            self._tls = {"ssl": certificate.context(), **seconds}
        limits = Limits(
            header_seconds=settings.gateway_header_seconds,
            body_seconds=settings.gateway_body_seconds,
            keep_alive_seconds=settings.gateway_keep_alive_seconds,
            max_header_bytes=settings.gateway_max_header_bytes,
            max_headers=settings.gateway_max_headers,
            max_body_bytes=settings.gateway_max_body_bytes,
        )
        self._connections = Connections(application.serve, limits, [_HSTS] if certificate else [])
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._socket.getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(self._connections.new, sock=self._socket, **self._tls)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stops accepting, and lets requests in flight end within the drain time. A second call does nothing."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        self._socket.close()
        await self._connections.end(self._drain_seconds)


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    except (OSError, ValueError) as error:
        raise OSError(f"cannot listen on {address}: {error}") from error
