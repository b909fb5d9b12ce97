"""The registry's RPCs: between messages and the domain, nothing else."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from google.protobuf import empty_pb2
from kiln.registry.v1 import registry_pb2 as pb
from kiln.registry.v1 import registry_pb2_grpc

from libs.common.access.principal import Principal, Role, set_caller
from libs.common.ids import parse_uuid
from libs.common.logs import logger
from libs.common.messages import given, given_texts, timestamp
from libs.common.pages import page_of
from libs.common.sealing import Unopenable
from services.registry.access import AccessPatch
from services.registry.code import CodePatch
from services.registry.environment_repository import WatchedEnvironment
from services.registry.functions import Function, FunctionPatch, Functions, NewFunction, Version
from services.registry.limits import Limits, LimitsPatch
from services.registry.repository import WatchedFunction
from services.registry.resolve import Resolver
from services.registry.vault import Vault
from services.registry.watch import Following, SnapshotEnd, Watch


class RegistryServicer(registry_pb2_grpc.RegistryServicer):
    """Public RPCs. What an answer says is settled first: every connected executor acts by it already."""

    def __init__(self, functions: Functions, watch: Watch) -> None:
        self._functions = functions
        self._watch = watch

    async def CreateFunction(self, request: pb.CreateFunctionRequest, context: Any) -> pb.Function:
        code = CodePatch(request.language, given(request, "source"), given(request, "wasm"))
        access = AccessPatch(request.allowed_users, request.allowed_groups)
        new = NewFunction(request.name, request.description, code, _patch(request.limits), access, request.environments)
        return function_to_proto(await self._functions.create(new))

    async def ListFunctions(self, request: pb.ListFunctionsRequest, context: Any) -> pb.ListFunctionsResponse:
        found = await self._functions.list(page_of(request.page_size, request.page_token, "functions"))
        await asyncio.gather(*(self._watch.settled(one.id, one.revision) for one in found.items))
        return pb.ListFunctionsResponse(functions=map(function_to_proto, found.items), next_page_token=found.next_page_token)

    async def GetFunction(self, request: pb.GetFunctionRequest, context: Any) -> pb.Function:
        return await self._settled(await self._functions.get(request.id))

    async def UpdateFunction(self, request: pb.UpdateFunctionRequest, context: Any) -> pb.Function:
        code = CodePatch(given(request, "language"), given(request, "source"), given(request, "wasm"))
        access = AccessPatch(given_texts(request, "allowed_users"), given_texts(request, "allowed_groups"))
        environments = given_texts(request, "environments")
        patch = FunctionPatch(given(request, "description"), code, _patch(request.limits), request.etag, access, environments)
        return await self._settled(await self._functions.update(request.id, patch))

    async def DeleteFunction(self, request: pb.DeleteFunctionRequest, context: Any) -> empty_pb2.Empty:
        await self._watch.settled(*await self._functions.delete(request.id))
        return empty_pb2.Empty()

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Any) -> pb.ListVersionsResponse:
        page = page_of(request.page_size, request.page_token, "versions", request.id)
        function, found = await self._functions.list_versions(request.id, page)
        await self._watch.settled(function.id, function.revision)
        return pb.ListVersionsResponse(versions=map(version_to_proto, found.items), next_page_token=found.next_page_token)

    async def GetVersion(self, request: pb.GetVersionRequest, context: Any) -> pb.Version:
        function, version = await self._functions.get_version(request.id, request.version)
        await self._watch.settled(function.id, function.revision)
        return version_to_proto(version)

    async def BuildVersion(self, request: pb.BuildVersionRequest, context: Any) -> pb.Version:
        return version_to_proto(await self._functions.build_again(request.id, request.version))

    async def RollbackFunction(self, request: pb.RollbackFunctionRequest, context: Any) -> pb.Function:
        return await self._settled(await self._functions.roll_back(request.id, request.version))

    async def _settled(self, function: Function) -> pb.Function:
        await self._watch.settled(function.id, function.revision)
        return function_to_proto(function)


class RegistryInternalServicer(registry_pb2_grpc.RegistryInternalServicer):
    """RPCs for other services."""

    def __init__(self, resolver: Resolver, watch: Watch, vault: Vault) -> None:
        self._resolver = resolver
        self._watch = watch
        self._vault = vault

    async def Watch(self, request_iterator: AsyncIterator[pb.WatchRequest], context: Any) -> AsyncIterator[pb.WatchResponse]:
        following = self._watch.follow()
        listening = asyncio.create_task(_hear_acknowledgements(following, request_iterator))
        try:
            async for event in following.events():
                if isinstance(event, SnapshotEnd):
                    yield pb.WatchResponse(snapshot_end=event.revision)
                elif isinstance(event, WatchedEnvironment):
                    yield pb.WatchResponse(environment=self._environment(event))
                else:
                    yield pb.WatchResponse(function=watched_to_proto(event))
        finally:
            listening.cancel()

    async def ResolveVersion(self, request: pb.ResolveVersionRequest, context: Any) -> pb.ResolveVersionResponse:
        if request.HasField("viewer"):
            set_caller(_viewer(request.viewer))
        found = await self._resolver.resolve(request.id, given(request, "version"))
        version = found.version
        runnable = pb.RunnableVersion(version=version.version, artifact_digest=version.artifact_digest or "", abi=version.abi or "")
        environments = map(self._environment, found.environments)
        return pb.ResolveVersionResponse(function=watched_to_proto(found.function), version=runnable, environments=environments)

    def _environment(self, environment: WatchedEnvironment) -> pb.WatchedEnvironment:
        """What executors know of an environment, as it travels. Its values are opened here and nowhere kept."""
        told = pb.WatchedEnvironment(
            id=str(environment.id), name=environment.name, revision=environment.revision, deleted=environment.deleted
        )
        try:
            told.values.update(self._vault.open_all(environment.id, environment.variables))
        except Unopenable as error:
            logger().error("environment_broken", environment=environment.name, error=str(error))
            told.broken = True
        return told


async def _hear_acknowledgements(following: Following, words: AsyncIterator[pb.WatchRequest]) -> None:
    async for word in words:
        if word.revision:
            await following.acknowledge(parse_uuid(word.id), word.revision)


def function_to_proto(function: Function) -> pb.Function:
    """A function as it travels."""
    return pb.Function(
        id=str(function.id),
        name=function.name,
        description=function.description,
        language=function.language,
        source=function.source,
        status=function.status,
        compile_error=function.compile_error,
        diagnostics=map(_diagnostic, function.diagnostics),
        live_version=function.live_version,
        latest_version=function.latest_version,
        limits=_limits(function.limits),
        created_at=timestamp(function.created_at),
        updated_at=timestamp(function.updated_at),
        etag=function.etag,
        allowed_users=function.access.allowed_users,
        allowed_groups=function.access.allowed_groups,
        created_by=function.created_by,
        environments=[one.name for one in function.environments],
    )


def version_to_proto(version: Version) -> pb.Version:
    """A version as it travels."""
    return pb.Version(
        function_id=str(version.function_id),
        version=version.version,
        language=version.language,
        source=version.source,
        status=version.status,
        failure_reason=version.failure_reason or "",
        compile_error=version.compile_error,
        diagnostics=map(_diagnostic, version.diagnostics),
        artifact_digest=version.artifact_digest,
        artifact_bytes=version.artifact_bytes,
        queue_ms=version.queue_ms,
        build_ms=version.build_ms,
        build=version.build,
        created_at=timestamp(version.created_at),
        started_at=timestamp(version.started_at),
        completed_at=timestamp(version.completed_at),
        created_by=version.created_by,
    )


def watched_to_proto(function: WatchedFunction) -> pb.WatchedFunction:
    """What executors know of a function, as it travels."""
    live = None
    if function.live_version:
        live = pb.RunnableVersion(version=function.live_version, artifact_digest=function.artifact_digest or "", abi=function.abi or "")
    return pb.WatchedFunction(
        id=str(function.id),
        name=function.name,
        revision=function.revision,
        deleted=function.deleted,
        live=live,
        limits=_limits(function.limits),
        allowed_users=function.access.allowed_users,
        allowed_groups=function.access.allowed_groups,
        environments=map(str, function.environments),
    )


def _diagnostic(finding: Mapping[str, Any]) -> pb.Diagnostic:
    return pb.Diagnostic(**{**finding, "severity": pb.Diagnostic.Severity.Value(finding["severity"])})


def _limits(limits: Limits) -> pb.Limits:
    return pb.Limits(
        timeout_ms=limits.timeout_ms,
        memory_mb=limits.memory_mb,
        max_output_bytes=limits.max_output_bytes,
        max_log_bytes=limits.max_log_bytes,
        max_concurrency=limits.max_concurrency,
    )


def _viewer(viewer: pb.Viewer) -> Principal:
    """For whom a service asks, as far as access goes."""
    role = Role.ADMIN if viewer.is_admin else Role.DEV
    return Principal(viewer.id, "", role, frozenset(viewer.groups), functions=frozenset(viewer.functions))


def _patch(limits: pb.Limits) -> LimitsPatch:
    return LimitsPatch(**{field.name: value for field, value in limits.ListFields()})
