"""Runs guests: each call in a fresh instance, inside of a process that has nothing worth stealing and can be lost at any time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from libs.common import logs
from services.executor.sandbox.child import Child
from services.executor.sandbox.compiler import Preparer
from services.executor.sandbox.engine import MAX_LOADED_MODULES
from services.executor.sandbox.errors import NotPrepared, Quarantined
from services.executor.sandbox.native import CodeCache, HeldCode, NativeCode
from services.executor.sandbox.native_store import NativeStore
from services.executor.sandbox.outcome import Call, ErrorType, Outcome
from services.executor.sandbox.pool import Pool, PoolSize
from services.executor.sandbox.process import MAX_MESSAGE_BYTES, Arguments
from services.executor.sandbox.quarantine import Quarantine
from services.executor.sandbox.sealed import Sealed
from services.executor.sandbox.worker_handle import WorkerHandle

# Of Kiln's own choosing, outside of what systems give to people and packages.
DEFAULT_UID: Final = 64_052

_PACKAGE: Final = "services.executor.sandbox"
_MAX_ANSWER_BYTES: Final = 64 << 20
_MAX_MODULES: Final = 10_000
# Larger code is held in files that workers map. Each is a descriptor of this process, so there are never more than these.
_SEALED_BYTES: Final = 256 << 10
_MAX_SEALED: Final = 256
# The largest guest there may be, as much that the one before it was promised, the code that is held ready, and room for the interpreter.
_WORKER_DATA_BYTES: Final = 3 << 30


class Slot:
    """The right to run calls, one after the other, each as soon as it is its turn in a worker. An async context manager.

    Entering it waits for a place in a worker, which leaving it gives back.

    Raises:
        Exhausted: Too many wait.
        StartFailed: There is no worker and none can be started.
    """

    def __init__(self, pool: Pool, code: CodeCache[HeldCode], used: dict[tuple[str, str], None], quarantine: Quarantine) -> None:
        self._pool = pool
        self._code = code
        self._used = used
        self._quarantine = quarantine
        self._worker: WorkerHandle | None = None

    async def __aenter__(self) -> Self:
        self._worker = await self._pool.take()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._release()

    async def run(self, call: Call) -> Outcome:
        """Runs a call to its end. A guest's fault is an outcome, and so is the death of the worker.

        Raises:
            NotPrepared: Its native code is not there; nothing has run.
            StartFailed: Its worker died, and there is no other.
            Quarantined: It was not run where it had its turn, and the module has been put into quarantine since.
        """
        native = self._code.get(call.digest)
        if native is None or native.abi != call.abi:
            raise NotPrepared(call.digest)
        module = (call.digest, call.abi)
        self._used.pop(module, None)
        self._used[module] = None
        alone = False
        while True:
            worker = self._worker
            if worker is None or not worker.is_usable:
                self._release()
                worker = self._worker = await self._pool.take_again(alone=alone)
                if self._quarantine.seconds_left(call.digest):
                    raise Quarantined(call.digest)
            outcome = await worker.run(call, native)
            if outcome is not None:
                self._judge(call.digest, outcome, worker)
                return outcome
            alone = not worker.child.alive
            self._release()

    def _judge(self, digest: str, outcome: Outcome, worker: WorkerHandle) -> None:
        if worker.child.alive:
            self._quarantine.clear(digest)
        elif outcome.error is not None and outcome.error.type is ErrorType.PLATFORM:
            self._quarantine.blame(digest)

    def _release(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            self._pool.give_back(worker)


class Sandbox:
    """The sandbox. Enter it to start its processes; leaving it ends them all, whatever they do.

    Enter it on a thread that lives at least as long: the processes die with the thread that started them.

    Args:
        workers: Worker processes that are always there, at least 1.
        max_workers: Worker processes when calls run long.
        places: Calls that a worker has at once; it runs one, and the others are next.
        max_waiting: Calls that may wait for a place.
        spare_seconds: How long a worker above `workers` stays without a call.
        store: Where native code outlives this process; None for nowhere.
        code_bytes: Native code that is kept at most.
        worker_code_bytes: Native code that each worker holds ready at most.
        compile_seconds: How long making native code of one module may take. The largest of Go take 7 s of a processor of its own.
        compile_memory_mb: How much memory it may take, in MiB.
        start_seconds: How long a process may take to start.
        quarantine_seconds: How long a module that kills its workers again and again is kept out.
        uid: Whom the processes become when this one is root's.
    """

    def __init__(
        self,
        *,
        workers: int = 2,
        max_workers: int = 16,
        places: int = 64,
        max_waiting: int = 256,
        spare_seconds: float = 30.0,
        store: NativeStore | None = None,
        code_bytes: int = 256 << 20,
        worker_code_bytes: int = 128 << 20,
        compile_seconds: float = 30.0,
        compile_memory_mb: int = 1024,
        start_seconds: float = 30.0,
        quarantine_seconds: float = 300.0,
        uid: int = DEFAULT_UID,
    ) -> None:
        self._store = store
        self._code: CodeCache[HeldCode] = CodeCache(code_bytes, _MAX_MODULES)
        self._used: dict[tuple[str, str], None] = {}
        self._quarantine = Quarantine(quarantine_seconds)
        self._sealed_bytes = max(_SEALED_BYTES, code_bytes // _MAX_SEALED)
        self._ready_bytes = min(code_bytes, worker_code_bytes)
        self._worker_code_bytes = worker_code_bytes
        self._compile_data_bytes = compile_memory_mb << 20
        self._start_seconds = start_seconds
        self._uid = uid
        self._told_about_containment = False
        self._preparing: dict[str, asyncio.Task[None]] = {}
        self._restoring: dict[str, asyncio.Task[None]] = {}
        self._keeping: set[asyncio.Task[None]] = set()
        size = PoolSize(workers, max(workers, max_workers), places, max_waiting, spare_seconds)
        self._pool = Pool(size, self._start_worker, self._all_code)
        self._preparer = Preparer(self._start_preparer, compile_seconds, compile_memory_mb)

    async def __aenter__(self) -> Self:
        """Starts the workers and the preparer.

        Raises:
            StartFailed: One of them did not come up.
        """
        try:
            await _all_or_first_error(self._pool.open(), self._preparer.open())
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._close()

    @property
    def has_room(self) -> bool:
        """Whether a call would get a place in a worker without waiting."""
        return self._pool.has_room

    @property
    def is_full(self) -> bool:
        """Whether there is as much native code as workers hold ready: more would push out what is there."""
        return self._code.size >= self._ready_bytes

    def is_prepared(self, digest: str) -> bool:
        """Whether native code of a module is there."""
        return digest in self._code

    def quarantined_seconds(self, digest: str) -> float:
        """How long a module is still kept out because it killed its workers again and again; 0 when it may run."""
        return self._quarantine.seconds_left(digest)

    async def prepare(self, digest: str, wasm: bytes, abi_name: str) -> None:
        """Makes native code of a module, once for all who ask at the same time, and has it loaded into the idle workers.

        Args:
            digest: Names the module. Whoever calls vouches that it belongs to these bytes.
            wasm: The module.
            abi_name: How it is talked to; a key of `libs.common.abi.ABIS`.

        Raises:
            Unloadable: Wasmtime refuses the module, it does not fit its ABI, or making native code passes its bounds.
            StartFailed: The preparer does not start.
        """
        if not self._has(digest, abi_name):
            await _shared(self._preparing, digest, lambda: self._prepare(digest, wasm, abi_name))

    async def restore(self, digest: str, abi_name: str) -> bool:
        """Whether native code of a module is there, without making it: what was kept is read, and loaded as `prepare` does."""
        if self._store is not None and not self._has(digest, abi_name):
            await _shared(self._restoring, digest, partial(self._restore, self._store, digest, abi_name))
        return self._has(digest, abi_name)

    async def restore_recent(self, seconds: float) -> None:
        """Has what was used last before this process began, as much as workers hold ready, and as far as that takes no longer than this."""
        began, restored = time.monotonic(), 0
        if self._store is not None:
            recent = self._store.recent(self._ready_bytes)
            while restored < MAX_LOADED_MODULES and time.monotonic() < began + seconds:
                native = await asyncio.to_thread(next, recent, None)
                if native is None:
                    break
                await self._take(native)
                restored += 1
        logs.logger().info("native_code_restored", modules=restored, seconds=round(time.monotonic() - began, 3))

    async def note_uses(self) -> None:
        """Notes in the store what has been called since the last time: what was used last is kept longest, and is there first."""
        used = list(self._used)
        self._used.clear()
        if self._store is not None and used:
            await asyncio.to_thread(self._store.touch, used)

    def reserve(self) -> Slot:
        """A slot, to be entered to run calls in: as soon as a worker has room, first come, first served."""
        return Slot(self._pool, self._code, self._used, self._quarantine)

    async def _prepare(self, digest: str, wasm: bytes, abi_name: str) -> None:
        native = await self._preparer.compile(digest, abi_name, wasm)
        if self._store is not None:
            # Nobody waits for the disk.
            task = asyncio.create_task(asyncio.to_thread(self._store.keep, native))
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)
        await self._take(native)

    async def _restore(self, store: NativeStore, digest: str, abi_name: str) -> None:
        native = await asyncio.to_thread(store.read, digest, abi_name)
        if native is not None:
            await self._take(native)

    async def _take(self, native: NativeCode) -> None:
        held = HeldCode(native.digest, native.abi, await self._held(native.code))
        self._code.put(native.digest, held, len(native.code))
        await self._pool.load(held)

    async def _held(self, code: bytes) -> bytes | Sealed:
        if len(code) >= self._sealed_bytes:
            with suppress(OSError):
                return await asyncio.to_thread(Sealed, code)
        return code

    def _has(self, digest: str, abi_name: str) -> bool:
        native = self._code.get(digest)
        return native is not None and native.abi == abi_name

    async def _close(self) -> None:
        coming = [*self._preparing.values(), *self._restoring.values()]
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, *self._keeping, return_exceptions=True)
        await asyncio.gather(self._pool.close(), self._preparer.close(), self.note_uses())

    def _all_code(self) -> Iterable[HeldCode]:
        return [native for _, native in self._code.values()]

    async def _start_worker(self) -> Child:
        arguments = Arguments(0, 0, 0, self._uid, _WORKER_DATA_BYTES, self._worker_code_bytes)
        return self._told(await self._start(f"{_PACKAGE}.worker", arguments, _MAX_ANSWER_BYTES))

    async def _start_preparer(self) -> Child:
        arguments = Arguments(0, 0, 0, self._uid, self._compile_data_bytes, 0)
        return await self._start(f"{_PACKAGE}.preparer", arguments, MAX_MESSAGE_BYTES)

    async def _start(self, module: str, arguments: Arguments, max_message_bytes: int) -> Child:
        return await Child.start(module, arguments, max_message_bytes=max_message_bytes, start_seconds=self._start_seconds)

    def _told(self, child: Child) -> Child:
        """Says once how far workers are contained here."""
        if not self._told_about_containment:
            self._told_about_containment = True
            ready = child.ready
            log = logs.logger().info if ready.own_network else logs.logger().warning
            log("workers_contained", uid=ready.uid, own_network=ready.own_network)
        return child


async def _shared(tasks: dict[str, asyncio.Task[None]], digest: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Work on a module, done once for all who want it at the same time."""
    task = tasks.get(digest)
    if task is None:
        task = tasks[digest] = asyncio.create_task(work())
        task.add_done_callback(lambda _: tasks.pop(digest))
    # One that waits may go away; the others still want it.
    await asyncio.shield(task)


async def _all_or_first_error(*things: Awaitable[None]) -> None:
    """Waits for all; when some fail, raises one of their errors as itself, for those who start a service to read."""
    for result in await asyncio.gather(*things, return_exceptions=True):
        while isinstance(result, BaseExceptionGroup):
            result = result.exceptions[0]
        if isinstance(result, BaseException):
            raise result
