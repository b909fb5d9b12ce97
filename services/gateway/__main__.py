"""The gateway: REST and the gRPC front door, in one process in front of all services."""

import asyncio

from libs.common.logs import logger
from libs.common.server import Process, forever, freeze, run
from libs.common.settings import load
from services.gateway.backends import Backends
from services.gateway.callers import Callers
from services.gateway.front_door import FrontDoor
from services.gateway.pages import routes
from services.gateway.rest import RestApplication, RestServer
from services.gateway.settings import Settings


async def main() -> None:
    """Serves until told to stop."""
    settings = load(Settings)
    async with Process("gateway", settings, [settings.http_address, settings.grpc_address]) as process:
        callers = Callers(await process.exchange() if process.tokens else None)
        backends = await process.open(
            Backends(settings.service_addresses, process.tokens, connect_seconds=settings.gateway_connect_seconds)
        )
        application = RestApplication(routes(backends, callers, settings.grpc_address), max_concurrent=settings.max_concurrent_calls)
        rest = await process.open(RestServer(settings, application))
        front_door = await process.open(FrontDoor(settings, backends, callers))
        process.background(forever("health_follow", front_door.update_health, pause_seconds=1))
        logger().info("serving", http=settings.http_address, grpc=settings.grpc_address)
        freeze()
        await process.stopped()
        logger().info("draining")
        await asyncio.gather(rest.stop(), front_door.stop())


if __name__ == "__main__":
    run(main)
