"""What the gateway itself answers in REST: its health, the description of the surface, and the page at the root."""

from pathlib import Path
from typing import Final

import orjson

from services.gateway import openapi
from services.gateway.backends import Backends
from services.gateway.exchange import HTML, Answer, Endpoint, Request
from services.gateway.routes import Routes
from services.gateway.transcoder import endpoints

_INDEX: Final = Path(__file__).with_name("index.html")


def routes(backends: Backends) -> Routes[Endpoint]:
    """Everything there is in REST: one route for each public RPC, and the gateway's own pages."""
    table: Routes[Endpoint] = Routes()
    for rule, endpoint in endpoints(backends):
        table.add(rule.method, rule.template, endpoint)
    table.add("GET", "/health", Health(backends))
    table.add("GET", "/openapi.json", Static(openapi.document()))
    table.add("GET", "/", Index())
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
    """`GET /`: where to go from here, as a page for browsers and as JSON for everybody else."""

    def __init__(self) -> None:
        self._page = _INDEX.read_bytes()
        places = {"functions": "/functions", "languages": "/languages", "health": "/health", "openapi": "/openapi.json"}
        self._places = orjson.dumps({"name": "kiln", "links": places})

    async def __call__(self, request: Request) -> Answer:
        """The page."""
        if request.prefers("text/html"):
            return Answer(200, self._page, HTML, [("Vary", "Accept")])
        return Answer(200, self._places, headers=[("Vary", "Accept")])
