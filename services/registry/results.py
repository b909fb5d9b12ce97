"""What compilers say, mostly results of builds: applied once, in the transaction that archives the message, never over a newer state."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from libs.common.errors import Unavailable
from libs.common.logs import logger
from libs.common.queue import COMPILATION_RESULTS, Message, Queue, Wakeup
from services.registry.functions import Function
from services.registry.languages import Language
from services.registry.names import Reference
from services.registry.repository import FunctionRepository, Outcome

# Far above what applying takes; a registry that dies meanwhile lets the message come back.
VISIBILITY_SECONDS: Final = 30
# A result that cannot be applied so often is dropped, and the sweeper sends its build again.
MAX_READS: Final = 5


class Store(Protocol):
    """What a result asks of storage inside one transaction."""

    async def lock_function(self, reference: Reference) -> Function | None: ...
    async def start_version(self, identity: UUID, version: int, build: int, queue_ms: int) -> bool: ...
    async def complete_version(
        self, identity: UUID, version: int, build: int, digest: str, size: int, abi: str, outcome: Outcome
    ) -> bool: ...
    async def fail_version(
        self, identity: UUID, version: int, build: int, reason: str, message: str, outcome: Outcome | None = None
    ) -> bool: ...
    async def promote_version(self, identity: UUID, version: int) -> None: ...
    async def touch_function(self, identity: UUID) -> None: ...
    async def announce(self, identity: UUID) -> None: ...
    async def hear_language(self, language: Language, message_id: int) -> bool: ...


class Results:
    """Applies the compiler's results."""

    def __init__(self, repository: FunctionRepository) -> None:
        self._repository = repository
        self._queue = Queue(COMPILATION_RESULTS)

    async def run(self, wakeup: Wakeup) -> None:
        """Applies what has come, then waits for more."""
        while await self.apply_waiting():
            pass
        await wakeup.wait()

    async def apply_waiting(self) -> int:
        """Applies results that have come; returns how many were read."""
        messages = await self._queue.read(self._repository.database, visibility_seconds=VISIBILITY_SECONDS, most=32)
        for message in messages:
            await self._apply_or_leave(message)
        return len(messages)

    async def _apply_or_leave(self, message: Message) -> None:
        """Whatever goes wrong with one result, it comes back later, and those read with it are applied now."""
        try:
            await self._apply_one(message)
        except Unavailable as error:
            logger().warning("result_left", error=error.message, message_id=message.id)
        except Exception as error:
            logger().error("result_left", exc_info=error, message_id=message.id)

    async def _apply_one(self, message: Message) -> None:
        async with self._repository.transaction() as store:
            if not await self._queue.archive(store.transaction, message):
                return
            if message.reads > MAX_READS:
                logger().error("result_dropped", message_id=message.id, reads=message.reads)
                return
            await apply(store, message.body, message.id)


async def apply(store: Store, result: Mapping[str, Any], message_id: int) -> bool:
    """Applies one message. False when it is late or a repetition: nothing has changed then.

    Args:
        store: Of the transaction that archives the message.
        result: Its body. One of a build counts if its version still waits for it, an announcement if it is the newest.
        message_id: Its number, which rises.
    """
    if result["type"] == "LANGUAGES":
        return await _hear(store, result["languages"], message_id)
    return await _apply_to_version(store, result)


async def _hear(store: Store, languages: Sequence[Mapping[str, Any]], message_id: int) -> bool:
    # In one order always, so that no two transactions wait for each other in a ring.
    heard = [await store.hear_language(Language(**one), message_id) for one in sorted(languages, key=lambda one: str(one["id"]))]
    logger().info("languages", available=[one["id"] for one in languages if one["available"]], applied=any(heard))
    return any(heard)


async def _apply_to_version(store: Store, result: Mapping[str, Any]) -> bool:
    identity, version, build = UUID(result["function_id"]), int(result["version"]), int(result["build"])
    # The function's row first, as every change does: so no two transactions wait for each other in a ring.
    await store.lock_function(Reference(identity, ""))
    if result["type"] == "STARTED":
        changed = await store.start_version(identity, version, build, result["queue_ms"])
    else:
        changed = await _finish(store, identity, version, build, result)
    if changed:
        await store.touch_function(identity)
        await store.announce(identity)
    logger().info("result", type=result["type"], function_id=str(identity), version=version, build=build, applied=changed)
    return changed


async def _finish(store: Store, identity: UUID, version: int, build: int, result: Mapping[str, Any]) -> bool:
    outcome = Outcome(result["diagnostics"], result["queue_ms"], result["build_ms"])
    if result["status"] == "FAILED":
        return await store.fail_version(identity, version, build, result["failure_reason"], result["compile_error"], outcome)
    done = await store.complete_version(
        identity, version, build, result["artifact_digest"], result["artifact_bytes"], result["abi"], outcome
    )
    if done:
        await store.promote_version(identity, version)
    return done
