"""What the executor asks other services: the registry for functions that the watch has not told of, the compiler for artifacts."""

from uuid import UUID

from kiln.compiler.v1 import compiler_pb2, compiler_pb2_grpc
from kiln.registry.v1 import registry_pb2, registry_pb2_grpc

from libs.common.access.principal import Principal, Role
from libs.common.errors import FailedPrecondition
from services.executor.catalog import Catalog, CatalogFunction, Runnable
from services.executor.watcher import environment_from_proto, function_from_proto, runnable_from_proto


class RegistryClient:
    """Asks the registry. Errors are those of its RPCs.

    Args:
        stub: The registry.
        catalog: Gets the environments of functions that are asked for.
    """

    def __init__(self, stub: "registry_pb2_grpc.RegistryInternalAsyncStub", catalog: Catalog) -> None:
        self._stub = stub
        self._catalog = catalog

    async def resolve(self, reference: str, version: int | None, viewer: Principal) -> tuple[CatalogFunction, Runnable]:
        """A function and the version asked for; without a number the live one.

        Raises:
            NotFound: no such function or version, for the viewer.
            FailedPrecondition: it is not READY.
        """
        told = registry_pb2.Viewer(
            id=viewer.id, is_admin=viewer.role is Role.ADMIN, groups=sorted(viewer.groups), functions=sorted(viewer.functions)
        )
        answer = await self._stub.ResolveVersion(registry_pb2.ResolveVersionRequest(id=reference, version=version, viewer=told))
        for environment in answer.environments:
            self._catalog.put_environment(environment_from_proto(environment))
        return function_from_proto(answer.function), runnable_from_proto(answer.version)

    async def find_id(self, reference: str, viewer: Principal) -> UUID:
        """The id of a function.

        Raises:
            NotFound: there is none, for the viewer.
        """
        try:
            function, _ = await self.resolve(reference, None, viewer)
        except FailedPrecondition as error:
            # It exists, though nothing of it can run yet.
            return UUID(error.metadata["function_id"])
        return function.id


class ArtifactClient:
    """Asks the compiler."""

    def __init__(self, stub: "compiler_pb2_grpc.CompilerInternalAsyncStub") -> None:
        self._stub = stub

    async def fetch(self, digest: str) -> bytes:
        """The bytes of an artifact.

        Raises:
            NotFound: there is none.
            Unavailable: the compiler is away.
        """
        stream = self._stub.GetArtifact(compiler_pb2.GetArtifactRequest(digest=digest))
        return b"".join([answer.chunk async for answer in stream])
