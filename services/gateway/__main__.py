"""The gateway: REST and the gRPC front door, in one process in front of all services."""

import asyncio

from libs.common.logs import logger
from libs.common.loopback import is_loopback
from libs.common.server import Process, forever, freeze, run
from libs.common.settings import load
from services.gateway.backends import Backends
from services.gateway.callers import Callers
from services.gateway.front_door import FrontDoor
from services.gateway.pages import routes
from services.gateway.rest import RestApplication, RestServer
from services.gateway.settings import Settings
from services.gateway.tls import certificate_of


async def main() -> None:
    """Serves until told to stop."""
    settings = load(Settings)
    addresses = [settings.http_address, settings.grpc_address]
    async with Process("gateway", settings, addresses) as process:
        certificate = certificate_of(settings)
        tls = certificate is not None
        web_tls = tls or settings.is_public_by_tls
        if process.tokens and not tls and (open_to_others := [address for address in addresses if not is_loopback(address)]):
            logger().warning("no_tls", meaning="passwords and API keys travel in the clear", addresses=open_to_others)
        callers = Callers(await process.exchange() if process.tokens else None, tls=web_tls)
        backends = await process.open(
            Backends(settings.service_addresses, process.tokens, connect_seconds=settings.gateway_connect_seconds)
        )
        # First, so that whoever is answered by REST finds the other there.
        front_door = await process.open(FrontDoor(settings, backends, callers, certificate))
        application = RestApplication(
            routes(backends, callers, settings.grpc_address, web_tls=web_tls, door_tls=tls),
            max_concurrent=settings.max_concurrent_calls,
            loopback_only=process.tokens is None,
        )
        rest = await process.open(RestServer(settings, application, certificate))
        process.background(forever("health_follow", front_door.update_health, pause_seconds=1))
        if certificate:
            process.background(forever("tls_look", certificate.look, pause_seconds=1))
        logger().info("serving", http=settings.http_address, grpc=settings.grpc_address, tls=tls)
        freeze()
        await process.stopped()
        logger().info("draining")
        await asyncio.gather(rest.stop(), front_door.stop())


if __name__ == "__main__":
    run(main)
