"""The auth service's RPCs on a real gRPC server, behind the guard that every service has, which here follows the server itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from google.protobuf.message import Message
from kiln.auth.v1 import auth_pb2 as pb
from kiln.auth.v1 import auth_pb2_grpc

from libs.common import request
from libs.common.access.exchange import Exchange
from libs.common.access.guard import TokenGuard
from libs.common.access.service_tokens import ServiceTokens
from libs.common.access.watch import TokenState, TokenWatch
from libs.common.audit_queue import QueuedAuditLog
from libs.common.carrier import Carrier
from libs.common.channel import open_channel
from libs.common.interceptors import ServerInterceptor
from libs.common.postgres import Listener
from libs.common.server import forever, start_server
from libs.local.ports import free_ports
from services.auth.repository import CHANGES_CHANNEL
from services.auth.servicer import AuditServicer, AuthInternalServicer, AuthServicer
from services.auth.watch import Watch
from tests.support.auth import AuthWorld
from tests.support.waiting import until

SERVICE_SECRET: Final = "what the services of these tests have in common"


@dataclass(frozen=True)
class Serving:
    """A server, and the domain behind it.

    Attributes:
        auth: Public RPCs, for anyone.
        audit: The audit log.
        internal: Those for services, for one.
        carrier: Calls that a gateway passes on.
    """

    world: AuthWorld
    auth: Any
    audit: Any
    internal: Any
    carrier: Carrier

    async def login_from(self, address: str, agent: str, message: pb.LoginRequest) -> pb.LoginResponse:
        """A login that a gateway passes on."""
        origin = [(request.CALLER_ADDRESS_HEADER, address), (request.CALLER_AGENT_HEADER, agent)]
        answer = await self.carrier.call("/kiln.auth.v1.Auth/Login", _bytes(message), seconds=10, metadata=origin)
        return pb.LoginResponse.FromString(answer)


def by(credential: str) -> dict[str, Any]:
    """What a call is made with that presents a credential."""
    return {"metadata": (("authorization", f"Bearer {credential}"),)}


@asynccontextmanager
async def serving(world: AuthWorld, url: str) -> AsyncIterator[Serving]:
    """A server while the block runs."""
    log = QueuedAuditLog(world.database)
    watch = Watch(world.repository, Listener(url, CHANGES_CHANNEL))
    public = AuthServicer(world.users, world.groups, world.sessions, world.logins, world.api_keys, world.repository)
    internal = AuthInternalServicer(world.exchange, watch)
    address, services, state = f"127.0.0.1:{free_ports(1)[0]}", ServiceTokens(SERVICE_SECRET, "auth"), TokenState()
    async with open_channel(address, services) as own, open_channel(address, None) as channel:
        stub: Any = auth_pb2_grpc.AuthInternalStub(own)
        guard = TokenGuard(Exchange(stub, state), services, grace_seconds=30)
        server = await start_server(
            address,
            [
                partial(auth_pb2_grpc.add_AuthServicer_to_server, public),
                partial(auth_pb2_grpc.add_AuditServicer_to_server, AuditServicer(world.audit_events)),
                partial(auth_pb2_grpc.add_AuthInternalServicer_to_server, internal),
            ],
            services=["kiln.auth.v1.Auth", "kiln.auth.v1.Audit", "kiln.auth.v1.AuthInternal"],
            around=ServerInterceptor(guard, max_concurrent=100, audit_log=log),
        )
        tasks = [
            asyncio.create_task(forever("listen", watch.listen, pause_seconds=0.1)),
            asyncio.create_task(forever("watch", watch.tell, pause_seconds=0)),
            asyncio.create_task(forever("token_watch", TokenWatch(stub, state).follow, pause_seconds=0.1)),
        ]
        carrier = Carrier(own, address, services)
        try:
            await until(lambda: state.silent_seconds is not None)
            yield Serving(world, auth_pb2_grpc.AuthStub(channel), auth_pb2_grpc.AuditStub(channel), stub, carrier)
        finally:
            await carrier.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.stop(1)


def _bytes(message: Message) -> bytes:
    return message.SerializeToString()
