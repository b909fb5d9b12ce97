"""Modules on their way into the sandbox: as native code that was kept, or fetched from the compiler by digest, verified, prepared once."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

from libs.common import request
from libs.common.errors import FailedPrecondition, Internal, NotFound, Unavailable
from services.executor.catalog import Runnable
from services.executor.sandbox.child import StartFailed
from services.executor.sandbox.errors import Unloadable
from services.executor.sandbox.sandbox import Sandbox

# Modules that cannot be loaded are remembered, so that each call does not try again; the oldest are forgotten.
MAX_UNLOADABLE: Final = 1000

Fetch = Callable[[str], Awaitable[bytes]]


class Modules:
    """Sees to it that the sandbox has a version's native code."""

    def __init__(self, sandbox: Sandbox, fetch: Fetch) -> None:
        self._sandbox = sandbox
        self._fetch = fetch
        self._unloadable: dict[str, str] = {}
        self._preparing: dict[str, asyncio.Task[None]] = {}

    @property
    def is_full(self) -> bool:
        """Whether one more would push out another."""
        return self._sandbox.is_full

    async def ensure(self, runnable: Runnable) -> bool:
        """Returns once the version can be run; True when that had to be waited for.

        Raises:
            FailedPrecondition: the module can never be loaded.
            Unavailable: it cannot be had now.
        """
        digest = runnable.artifact_digest
        if self._sandbox.is_prepared(digest):
            return False
        if digest in self._unloadable:
            raise _unloadable(runnable, self._unloadable[digest])
        task = self._preparing.get(digest)
        if task is None:
            task = self._preparing[digest] = asyncio.create_task(self._prepare(runnable), context=request.without_deadline())
            task.add_done_callback(lambda _: self._preparing.pop(digest))
        # One caller that goes away must not take the work from the others.
        await asyncio.shield(task)
        return True

    async def _prepare(self, runnable: Runnable) -> None:
        digest = runnable.artifact_digest
        if await self._sandbox.restore(digest, runnable.abi):
            return
        try:
            wasm = await self._fetch(digest)
        except NotFound as error:
            # The function is there; a caller told NOT_FOUND would believe that it is not.
            raise Internal(f"the compiler has lost the artifact {digest}") from error
        if f"sha256:{hashlib.sha256(wasm).hexdigest()}" != digest:
            raise Internal(f"the artifact {digest} arrived with other bytes")
        try:
            await self._sandbox.prepare(digest, wasm, runnable.abi)
        except Unloadable as error:
            while len(self._unloadable) >= MAX_UNLOADABLE:
                del self._unloadable[next(iter(self._unloadable))]
            self._unloadable[digest] = str(error)
            raise _unloadable(runnable, str(error)) from None
        except StartFailed as error:
            raise Unavailable("the sandbox cannot prepare code now; try again", reason="SANDBOX_AWAY", retry_after=1) from error


def _unloadable(runnable: Runnable, why: str) -> FailedPrecondition:
    return FailedPrecondition(f"version {runnable.version} cannot be loaded: {why}", reason="VERSION_UNLOADABLE")
