"""What the gateway itself answers in REST: its health, the description of the surface, and the page at the root."""

from html import escape
from pathlib import Path
from string import Template
from typing import Final

import orjson

from libs.common import status
from libs.common.errors import KilnError
from libs.common.served import shown
from services.gateway import openapi
from services.gateway.backends import Backends
from services.gateway.callers import Callers
from services.gateway.exchange import HTML, Answer, Endpoint, Request
from services.gateway.routes import Routes
from services.gateway.transcoder import endpoints

_INDEX: Final = Path(__file__).with_name("index.html")


def routes(backends: Backends, callers: Callers, grpc_address: str, *, web_tls: bool, door_tls: bool) -> Routes[Endpoint]:
    """Everything there is in REST: one route for each public RPC, and the gateway's own pages.

    Args:
        backends: Where calls go.
        callers: Who makes them.
        grpc_address: Of the front door, to show.
        web_tls: Whether browsers find it by TLS.
        door_tls: Whether the front door speaks that.
    """
    table: Routes[Endpoint] = Routes()
    index = Index(grpc_address, web_tls=web_tls, door_tls=door_tls)
    for rule, endpoint in endpoints(backends, callers):
        table.add(rule.method, rule.template, Going(endpoint, index) if endpoint.redirects else endpoint)
    table.add("GET", "/health", Health(backends))
    table.add("GET", "/openapi.json", Static(openapi.document(tls=web_tls)))
    table.add("GET", "/", index)
    return table


class Health:
    """`GET /health`: 200 while every service serves, else 503; the body tells which does not."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    async def __call__(self, _: Request) -> Answer:
        """Asks every service."""
        serving = await self._backends.serving()
        services = {name: {"status": "UP" if serves else "DOWN"} for name, serves in serving.items()}
        is_up = all(serving.values())
        body = orjson.dumps({"status": "UP" if is_up else "DEGRADED", "services": services})
        return Answer(200 if is_up else 503, body, headers=[("Cache-Control", "no-store")])


class Static:
    """A JSON document that does not change while the gateway runs."""

    def __init__(self, document: object) -> None:
        self._body = orjson.dumps(document)

    async def __call__(self, _: Request) -> Answer:
        """The document."""
        return Answer(200, self._body)


class Index:
    """`GET /`: where to go from here, as a page for browsers and as JSON for everybody else.

    Args:
        grpc_address: Of the front door, to show.
        web_tls: Whether this is found by TLS.
        door_tls: Whether the front door speaks that.
    """

    def __init__(self, grpc_address: str, *, web_tls: bool, door_tls: bool) -> None:
        self._web_tls, self._door_tls = web_tls, door_tls
        self._page = Template(_INDEX.read_text(encoding="utf-8"))
        self._grpc_address = grpc_address
        places = {"functions": "/functions", "languages": "/languages", "health": "/health", "openapi": "/openapi.json"}
        self._places = orjson.dumps({"name": "kiln", "links": places})

    async def __call__(self, request: Request) -> Answer:
        """The page, whose commands work where the reader is: they name the address that the page was asked from."""
        if request.prefers("text/html"):
            return self.page(request, 200, "")
        return Answer(200, self._places, headers=[("Vary", "Accept")])

    def page(self, request: Request, code: int, said: str) -> Answer:
        """The page with a word to its reader."""
        host = request.headers.get("host", "")
        # The same machine, as the reader names it; the port may be published as another, which only an operator knows.
        door = f"{host.rpartition(':')[0] or host}:{self._grpc_address.rpartition(':')[2]}"
        http, grpc = "https://" if self._web_tls else "", "" if self._door_tls else "-plaintext "
        page = self._page.substitute(HTTP=http + escape(host), GRPC=grpc + escape(door), SAID=escape(said))
        return Answer(code, page.encode(), HTML, [("Vary", "Accept, Host")])


class Going:
    """A call that browsers make by going there, and that sends them on: what is refused, people read on the page of the root.

    Args:
        endpoint: The call.
        index: The page.
    """

    def __init__(self, endpoint: Endpoint, index: Index) -> None:
        self._endpoint = endpoint
        self._index = index

    async def __call__(self, request: Request) -> Answer:
        """The same answer; of a refusal, the page instead where one is preferred."""
        try:
            return await self._endpoint(request)
        except KilnError as error:
            if not request.prefers("text/html"):
                raise
            told = shown(error)
            return self._index.page(request, status.http_status(told), told.message)
