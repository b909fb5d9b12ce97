"""The RPCs about environments: between messages and the domain, nothing else."""

import asyncio
from typing import Any

from google.protobuf import empty_pb2
from kiln.registry.v1 import environments_pb2 as pb
from kiln.registry.v1 import environments_pb2_grpc

from libs.common.messages import given, given_texts, timestamp
from libs.common.pages import page_of
from services.registry.access import AccessPatch
from services.registry.environments import Changes, Environment, EnvironmentPatch, Environments, NewEnvironment
from services.registry.watch import Watch


class EnvironmentsServicer(environments_pb2_grpc.EnvironmentsServicer):
    """Public RPCs. What an answer says is settled first: every connected executor acts by it already."""

    def __init__(self, environments: Environments, watch: Watch) -> None:
        self._environments = environments
        self._watch = watch

    async def CreateEnvironment(self, request: pb.CreateEnvironmentRequest, context: Any) -> pb.Environment:
        changes = Changes(request.variables, request.secrets)
        access = AccessPatch(request.allowed_users, request.allowed_groups)
        return await self._settled(await self._environments.create(NewEnvironment(request.name, request.description, changes, access)))

    async def ListEnvironments(self, request: pb.ListEnvironmentsRequest, context: Any) -> pb.ListEnvironmentsResponse:
        found = await self._environments.list(page_of(request.page_size, request.page_token, "environments"))
        await asyncio.gather(*(self._watch.settled(one.id, one.revision) for one in found.items))
        return pb.ListEnvironmentsResponse(environments=map(self._shown, found.items), next_page_token=found.next_page_token)

    async def GetEnvironment(self, request: pb.GetEnvironmentRequest, context: Any) -> pb.Environment:
        return await self._settled(await self._environments.get(request.id))

    async def UpdateEnvironment(self, request: pb.UpdateEnvironmentRequest, context: Any) -> pb.Environment:
        changes = Changes(request.variables, request.secrets, request.removed)
        access = AccessPatch(given_texts(request, "allowed_users"), given_texts(request, "allowed_groups"))
        patch = EnvironmentPatch(given(request, "description"), changes, access, request.etag)
        return await self._settled(await self._environments.update(request.id, patch))

    async def DeleteEnvironment(self, request: pb.DeleteEnvironmentRequest, context: Any) -> empty_pb2.Empty:
        await self._watch.settled(*await self._environments.delete(request.id))
        return empty_pb2.Empty()

    async def _settled(self, environment: Environment) -> pb.Environment:
        await self._watch.settled(environment.id, environment.revision)
        return self._shown(environment)

    def _shown(self, environment: Environment) -> pb.Environment:
        """An environment as it travels."""
        shown = self._environments.shown(environment)
        return pb.Environment(
            id=str(environment.id),
            name=environment.name,
            description=environment.description,
            variables=shown.variables,
            secret_names=shown.secret_names,
            broken_names=shown.broken_names,
            allowed_users=environment.access.allowed_users,
            allowed_groups=environment.access.allowed_groups,
            created_at=timestamp(environment.created_at),
            updated_at=timestamp(environment.updated_at),
            etag=environment.etag,
            created_by=environment.created_by,
        )
