"""Which version a call runs, for executors that do not know."""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.common.access.functions import unknown_function
from libs.common.errors import FailedPrecondition
from services.registry.environment_repository import EnvironmentRepository, WatchedEnvironment
from services.registry.functions import Function, Functions, Version
from services.registry.repository import FunctionRepository, WatchedFunction


@dataclass(frozen=True, slots=True)
class Resolved:
    """What an executor needs to run one version of a function."""

    function: WatchedFunction
    version: Version
    environments: Sequence[WatchedEnvironment]


class Resolver:
    """Resolves a function and a version number to what can be run."""

    def __init__(self, functions: Functions, repository: FunctionRepository, environments: EnvironmentRepository) -> None:
        self._functions = functions
        self._repository = repository
        self._environments = environments

    async def resolve(self, reference: str, number: int | None) -> Resolved:
        """The function as executors know it with what it reads, and the version asked for; without a number the live one.

        Raises:
            NotFound: no such function or version.
            FailedPrecondition: it is not READY.
        """
        function = await self._functions.get(reference)
        wanted = function.live_version if number is None else number
        if wanted is None:
            raise no_ready_version(function)
        _, version = await self._functions.get_version(str(function.id), wanted)
        if version.status != "READY":
            raise FailedPrecondition(
                f"version {wanted} of {function.name} is {version.status}; it cannot run",
                reason="VERSION_NOT_READY",
                metadata={"function_id": str(function.id)},
            )
        watched = await self._repository.watched_functions(function.id)
        if not watched or watched[0].deleted:
            raise unknown_function(reference)
        return Resolved(watched[0], version, await self._environments.read_by(function.id))


def no_ready_version(function: Function) -> FailedPrecondition:
    """The error for a function of which nothing can run yet."""
    return FailedPrecondition(
        f"{function.name} has no version that is READY yet; look at its status and compileError",
        reason="NO_READY_VERSION",
        metadata={"function_id": str(function.id)},
    )
