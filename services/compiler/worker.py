"""The worker: takes jobs from the queue, builds them, and sends what came of it."""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from libs.common.errors import Unavailable
from libs.common.logs import logger
from libs.common.postgres import Transaction
from libs.common.queue import COMPILATION_JOBS, COMPILATION_RESULTS, Message, Queue, Wakeup
from services.compiler.build import Built, Rejected, as_data, build, key_of, readable
from services.compiler.languages import Bounds, Diagnostic, Language, ToolchainUnavailable
from services.compiler.repository import ArtifactRepository, StoredBuild

# How a build ended: now, or earlier from the same source.
Outcome = Built | StoredBuild | Rejected

# How long a job waits that the platform could not begin.
RETRY_SECONDS: Final = 5
# How often a result is tried to be sent, a second apart.
FINISH_TRIES: Final = 10
# Most builds take less, and bombs do not.
SHORT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """How the worker treats jobs.

    Attributes:
        concurrency: Builds at once, of those that have not lasted yet.
        lasting: How many more that have, so that they keep nobody waiting. Further ones count as if they had not.
        short_seconds: From when on a build has lasted.
        max_attempts: A job read more often is poison.
        visibility_seconds: A job comes back so long after its first compiler fell silent, twice as long after its second, and so on.
    """

    concurrency: int
    max_attempts: int
    visibility_seconds: int
    lasting: int = 0
    short_seconds: float = SHORT_SECONDS


class Worker:
    """Builds what is in the queue, several at once.

    A read is committed before its build begins, so that a build which kills the compiler counts as an attempt. While a build runs its
    message is kept from others; when that fails, another compiler has it, and this one stops.
    """

    def __init__(self, artifacts: ArtifactRepository, languages: Mapping[str, Language], bounds: Bounds, limits: WorkerLimits) -> None:
        self._artifacts = artifacts
        self._languages = languages
        self._bounds = bounds
        self._limits = limits
        self._jobs = Queue(COMPILATION_JOBS)
        self._results = Queue(COMPILATION_RESULTS)
        # By when they have lasted.
        self._building: dict[asyncio.Task[None], float] = {}

    async def run(self, wakeup: Wakeup) -> None:
        """Takes jobs for ever. Cancelling it gives jobs in work back to the queue."""
        taking: asyncio.Task[int] | None = None
        try:
            while True:
                free = self._free()
                if free > 0:
                    taking = asyncio.create_task(self._take(free, wakeup))
                    if await asyncio.shield(taking):
                        continue
                await wakeup.wait()
        finally:
            # A read on its way has taken its jobs already: only when it is answered can they be given back.
            if taking:
                await asyncio.gather(taking, return_exceptions=True)
            for task in self._building:
                task.cancel()
            await asyncio.gather(*self._building, return_exceptions=True)

    def _free(self) -> int:
        """How many more builds may begin."""
        now = asyncio.get_running_loop().time()
        lasting = sum(lasts_from <= now for lasts_from in self._building.values())
        return self._limits.concurrency - len(self._building) + min(lasting, self._limits.lasting)

    async def _take(self, most: int, wakeup: Wakeup) -> int:
        try:
            messages = await self._jobs.read(self._artifacts.database, visibility_seconds=self._limits.visibility_seconds, most=most)
        except Unavailable:
            # Builds in work go on; their results wait for the database too.
            await asyncio.sleep(0.5)
            return 0
        for message in messages:
            task = asyncio.create_task(self._work(message))
            loop, short = asyncio.get_running_loop(), self._limits.short_seconds
            self._building[task] = loop.time() + short
            loop.call_later(short, wakeup.now)
            task.add_done_callback(self._building.pop)
            task.add_done_callback(lambda _: wakeup.now())
        return len(messages)

    async def _work(self, message: Message) -> None:
        """One job from its message to its result. Whatever goes wrong with the platform, the message comes back later."""
        try:
            if message.reads > self._limits.max_attempts:
                await self._finish(message, _poison(message.reads - 1), 0)
            else:
                await self._build_while_held(message)
        except asyncio.CancelledError:
            await asyncio.shield(self._jobs.release(self._artifacts.database, message, after_seconds=0))
            raise
        except ToolchainUnavailable as error:
            logger().error("toolchain_unavailable", error=str(error), **_names(message))
            await self._jobs.release(self._artifacts.database, message, after_seconds=RETRY_SECONDS)
        except Unavailable as error:
            logger().warning("build_interrupted", error=error.message, **_names(message))
        except Exception as error:
            logger().error("build_interrupted", exc_info=error, **_names(message))

    async def _build_while_held(self, message: Message) -> None:
        began = asyncio.get_running_loop().time()
        announcing = asyncio.create_task(self._announce_start(message))
        building = asyncio.create_task(self._build(message.body))
        holding = asyncio.create_task(self._hold(message))
        try:
            await asyncio.wait({building, holding}, return_when=asyncio.FIRST_COMPLETED)
            if not building.done():
                logger().warning("build_taken_over", **_names(message))
                return
            seconds = asyncio.get_running_loop().time() - began
            # A result without a beginning is a result all the same.
            await asyncio.gather(announcing, return_exceptions=True)
            await self._finish_patiently(message, building.result(), seconds)
        finally:
            for task in (announcing, building, holding):
                task.cancel()
            await asyncio.gather(announcing, building, holding, return_exceptions=True)

    async def _build(self, job: Mapping[str, Any]) -> Outcome:
        language = self._languages.get(job["language"])
        if language is None:
            raise ToolchainUnavailable(f"no language {job['language']!r} in this compiler")
        source = _source(job)
        key = key_of(language, source, self._bounds)
        stored = await self._artifacts.find_build(key) if key else None
        return stored or await build(language, source, self._bounds, key=key)

    async def _hold(self, message: Message) -> None:
        """Keeps the message from other readers; returns when it is no longer ours.

        The more compilers have died with it, the longer the next waits: most die of something else, which is over then.
        """
        seconds = self._limits.visibility_seconds * message.reads
        pause = 0.0 if message.reads > 1 else self._limits.visibility_seconds / 3
        while True:
            await asyncio.sleep(pause)
            pause = self._limits.visibility_seconds / 3
            try:
                if not await self._jobs.extend(self._artifacts.database, message, visibility_seconds=seconds):
                    return
            except Unavailable:
                # Whether it is still ours shows when the result is sent.
                continue

    async def _announce_start(self, message: Message) -> None:
        async with self._artifacts.database.transaction() as transaction:
            await self._results.send(transaction, _result(message, type="STARTED"))

    async def _finish_patiently(self, message: Message, outcome: Outcome, seconds: float) -> None:
        """Sends the result also when the database is away for a while; the fence makes a second try harmless."""
        for _ in range(FINISH_TRIES - 1):
            try:
                return await self._finish(message, outcome, seconds)
            except Unavailable:
                await asyncio.sleep(1)
        return await self._finish(message, outcome, seconds)

    async def _finish(self, message: Message, outcome: Outcome, seconds: float) -> None:
        """Artifact, result and acknowledgement together, unless another compiler has taken the message since."""
        async with self._artifacts.database.transaction() as transaction:
            if not await self._jobs.archive(transaction, message):
                logger().warning("build_too_late", **_names(message))
                return
            stored = await self._keep(transaction, message.body, outcome) if isinstance(outcome, Built) else outcome
            facts = {"build_ms": round(seconds * 1000), **_facts(stored)}
            await self._results.send(transaction, _result(message, type="FINISHED", **facts))
        cached = isinstance(outcome, StoredBuild)
        logger().info("built", status=facts["status"], ms=facts["build_ms"], cached=cached, **_names(message))

    async def _keep(self, transaction: Transaction, job: Mapping[str, Any], built: Built) -> StoredBuild:
        """Keeps a module, and what it was built from unless the toolchain was exchanged meanwhile: either may have built it."""
        digest = await self._artifacts.insert(transaction, built.wasm)
        stored = StoredBuild(digest, len(built.wasm), built.abi, as_data(built.diagnostics))
        if built.key and built.key == key_of(self._languages[job["language"]], _source(job), self._bounds):
            await self._artifacts.insert_build(transaction, built.key, stored)
        return stored


def _source(job: Mapping[str, Any]) -> bytes:
    """The code of a job: a text, or a prebuilt module, which JSON carries in base64."""
    module: str | None = job.get("wasm")
    source: str = job["source"] if module is None else ""
    return source.encode() if module is None else base64.b64decode(module)


def _facts(outcome: StoredBuild | Rejected) -> dict[str, Any]:
    """How a build ended, as its result tells."""
    if isinstance(outcome, StoredBuild):
        return {"status": "READY", **asdict(outcome)}
    diagnostics, text = as_data(outcome.diagnostics), readable(outcome.diagnostics)
    return {"status": "FAILED", "failure_reason": outcome.reason, "compile_error": text, "diagnostics": diagnostics}


def _result(message: Message, **facts: Any) -> Mapping[str, Any]:
    return {**_names(message), "queue_ms": round(message.waited_seconds * 1000), **facts}


def _names(message: Message) -> dict[str, Any]:
    return {name: message.body[name] for name in ("function_id", "version", "build")}


def _poison(attempts: int) -> Rejected:
    text = f"the compiler died {attempts} times while building this source; change it, or build the version again if Kiln was at fault"
    return Rejected("ATTEMPTS_EXHAUSTED", [Diagnostic("ERROR", 1, 1, None, None, None, text, "")])
