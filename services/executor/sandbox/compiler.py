"""The supervisor's end of the preparer: WebAssembly in, native code out, within bounds of time and memory."""

import asyncio
from collections.abc import Awaitable, Callable

from libs.common import logs
from services.executor.sandbox.child import Child
from services.executor.sandbox.errors import Unloadable
from services.executor.sandbox.native import NativeCode
from services.executor.sandbox.wire import Answer, Compile, Compiled, Uncompilable


class Preparer:
    """Compiles one module after the other.

    Args:
        start: Starts the process.
        seconds: How long one module may take.
        memory_mb: How much memory the process has, to say so.
    """

    def __init__(self, start: Callable[[], Awaitable[Child]], seconds: float, memory_mb: int) -> None:
        self._start = start
        self._seconds = seconds
        self._memory_mb = memory_mb
        self._turn = asyncio.Lock()
        self._child: Child | None = None

    async def open(self) -> None:
        """Starts the process.

        Raises:
            StartFailed: It did not come up.
        """
        self._child = await self._start()

    async def close(self) -> None:
        """Kills the process and waits until it is gone."""
        if self._child is not None:
            await self._child.close()

    async def compile(self, digest: str, abi: str, wasm: bytes) -> NativeCode:
        """Makes native code.

        Raises:
            Unloadable: The module is refused, or passes a bound.
            StartFailed: There is no process to do it.
        """
        async with self._turn:
            answer = await self._ask(abi, wasm)
            if answer is None:
                # Perhaps the process was ended by somebody else; the module is at fault when it happens again.
                answer = await self._ask(abi, wasm)
        if answer is None:
            raise Unloadable(f"making native code of the module failed: it may need more than {self._memory_mb} MiB of memory")
        if not isinstance(answer, Compiled):
            raise Unloadable(answer.message if isinstance(answer, Uncompilable) else "refused")
        return NativeCode(digest, abi, answer.code)

    async def _ask(self, abi: str, wasm: bytes) -> Answer | None:
        """The answer; None when the process died over it."""
        child = await self._living()
        try:
            async with asyncio.timeout(self._seconds):
                answer = await child.ask(Compile(0, abi, wasm))
        except TimeoutError:
            raise Unloadable(f"making native code of the module took longer than {self._seconds:g} s") from None
        finally:
            if not child.has_answered_all:
                child.kill()
        if answer is None:
            logs.logger().warning("preparer_died", last_words=child.last_words)
        return answer

    async def _living(self) -> Child:
        if self._child is None or not self._child.alive:
            await self.close()
            self._child = await self._start()
        return self._child
