"""Runs functions, and remembers every run."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

import msgspec
from msgspec import structs

from libs.common import jsontext
from libs.common.access.functions import can_access_function, unknown_function
from libs.common.access.principal import Principal
from libs.common.errors import FailedPrecondition, InvalidArgument, KilnError, NotFound, ResourceExhausted, Unavailable
from libs.common.ids import milliseconds_of, parse_uuid, uuid7
from libs.common.pages import Listing, Page
from libs.common.times import now_micros
from services.executor.catalog import Catalog, CatalogFunction, Runnable
from services.executor.clients import RegistryClient
from services.executor.concurrency import Concurrency, Many
from services.executor.execution import Durability, Execution, Status
from services.executor.modules import Modules
from services.executor.recorder import Recorder, room_for_end
from services.executor.repository import ExecutionRepository, Filter
from services.executor.sandbox.child import StartFailed
from services.executor.sandbox.errors import Exhausted, NotPrepared, Quarantined
from services.executor.sandbox.outcome import Call, ErrorType, GuestError, Outcome
from services.executor.sandbox.sandbox import Sandbox, Slot

# A page of history ends early rather than being larger than this.
MAX_PAGE_BYTES: Final = 3 << 20
# How long a call waits for the first snapshot of an executor that has just started.
STARTING_SECONDS: Final = 3
# How often a version is prepared again that was evicted between its preparation and its run.
PREPARE_TRIES: Final = 3
# How long one of many calls waits before it asks for a worker again.
FULL_SECONDS: Final = 0.25
# How long a caller waits for PostgreSQL to have the record of a run that has ended.
RECORDING_SECONDS: Final = 10
TOO_MANY_CALLS: Final = "TOO_MANY_CALLS"
CANCELLED: Final = Outcome(None, GuestError(ErrorType.CANCELLED, "the caller went away, or its deadline passed"))


class Request(msgspec.Struct, frozen=True):
    """A call as it was made.

    Attributes:
        id: The execution's, made by whoever took the call from outside.
        reference: Id or name of the function.
        input: JSON text.
        version: None for the live one.
        durability: What must have the record before the call is answered.
    """

    id: UUID
    request_id: str
    reference: str
    input: bytes
    version: int | None
    durability: Durability = Durability.JOURNAL


class Target(msgspec.Struct, frozen=True):
    """What a call runs.

    Attributes:
        cold: Whether it had to be waited for until its code was there.
    """

    function: CatalogFunction
    runnable: Runnable
    cold: bool = False


class Executions:
    """The runs of one executor. What the caller may not access is not there."""

    def __init__(
        self,
        catalog: Catalog,
        registry: RegistryClient,
        modules: Modules,
        sandbox: Sandbox,
        recorder: Recorder,
        repository: ExecutionRepository,
        caller: Callable[[], Principal],
        *,
        max_input_bytes: int,
        most_of_many: int,
        most_of_brief: int = 0,
    ) -> None:
        self._catalog = catalog
        self._registry = registry
        self._modules = modules
        self._sandbox = sandbox
        self._recorder = recorder
        self._repository = repository
        self._caller = caller
        self._max_input_bytes = max_input_bytes
        self._concurrency = Concurrency(most_of_many, most_of_brief)

    async def execute(self, request: Request) -> Execution:
        """Runs a function once; returns when the run is recorded.

        A run that has begun always ends in the history: as CANCELLED when its caller goes away, and when this process dies by its journal.

        Raises:
            InvalidArgument, ResourceExhausted: the input is no JSON, or too large, or nested too deep; or too many calls wait, or the
                journal is full, or the function has as many runs as it may have.
            AlreadyExists: there is an execution of that id.
            NotFound, FailedPrecondition: there is no such function or version, or it cannot run.
            Unavailable: nothing has run, or what has run could not be recorded in time.
        """
        self._check_input(request.input)
        target = Target(*await self._find_version(request.reference, request.version))
        with self._concurrency.place(target.function):
            return await self._execute(request, target)

    def many(self) -> Many:
        """For calls that come many at once."""
        return self._concurrency.many()

    async def execute_in_turn(self, many: Many, request: Request, target: Target | None = None) -> Execution:
        """Runs one call of many as `execute` does, but waits where that refuses because there is no room.

        Args:
            many: Those that it came with.
            request: The call. Each attempt is an execution of its own, since those refused are withdrawn.
            target: Instead of the reference and version in the request.
        """
        self._check_input(request.input)
        target = target or Target(*await self._find_version(request.reference, request.version))
        while True:
            try:
                async with many.turn(target.function):
                    return await self._execute(request, target)
            except ResourceExhausted as error:
                if error.reason != TOO_MANY_CALLS:
                    raise
            await asyncio.sleep(FULL_SECONDS)
            request = structs.replace(request, id=uuid7())

    async def target(self, reference: str, version: int | None) -> Target:
        """What many calls are to run: one version for all, ready to run.

        Raises:
            NotFound, FailedPrecondition: there is no such function or version, or it cannot run.
            Unavailable: it cannot be had now.
        """
        function, runnable = await self._find_version(reference, version)
        return Target(function, runnable, await self._modules.ensure(runnable))

    @property
    def most_of_many(self) -> int:
        """How many calls of many run at once, all together."""
        return self._concurrency.most_of_many

    @property
    def most_of_brief(self) -> int:
        """The same while they are brief."""
        return self._concurrency.most_of_brief

    async def get(self, text: str) -> Execution:
        """One run.

        Raises:
            NotFound: there is none, or its function is deleted.
        """
        await self._catalog.ready(STARTING_SECONDS)
        identity = parse_uuid(text)
        execution = await self._recorder.find(identity) if identity else None
        if execution is None or not await self._exists(execution.function_id):
            raise NotFound(f"there is no execution {text[:100]!r}", reason="EXECUTION_NOT_FOUND")
        return execution

    async def list(self, reference: str, page: Page, wanted: Filter) -> Listing[Execution]:
        """Runs of a function, newest first; a page may end early where its runs are large.

        Raises:
            NotFound: there is no such function.
            Unavailable: what was answered before is not in the history yet.
        """
        function_id = await self._find_id(reference)
        await self._recorder.catch_up()
        before = page.key(parse_uuid)
        found = await self._repository.list(function_id, before, page.size + 1, MAX_PAGE_BYTES, wanted)
        items = found[: page.size]
        if not items:
            return Listing([], "")
        # Fewer than were asked for may be all there are, or all that fit: only the next run tells.
        more = len(found) > page.size or await self._repository.list(function_id, items[-1].id, 1, 0, wanted)
        return Listing(items, page.token(str(items[-1].id)) if more else "")

    def _check_input(self, text: bytes) -> None:
        if len(text) > self._max_input_bytes:
            raise ResourceExhausted(f"input: has {len(text)} bytes; at most {self._max_input_bytes} are taken", reason="INPUT_TOO_LARGE")
        try:
            jsontext.check(text)
        except jsontext.InvalidJson as error:
            raise InvalidArgument.of("input", str(error), reason="INPUT_NOT_JSON") from None

    async def _find_version(self, reference: str, version: int | None) -> tuple[CatalogFunction, Runnable]:
        if version is not None and version < 1:
            raise InvalidArgument.of("version", "must be a number from 1")
        await self._catalog.ready(STARTING_SECONDS)
        function, caller = self._catalog.find(reference), self._caller()
        if function and function.live and version in (None, function.live.version):
            _refuse_hidden(function, reference, caller)
            return function, function.live
        return await self._registry.resolve(reference, version, caller)

    async def _find_id(self, reference: str) -> UUID:
        await self._catalog.ready(STARTING_SECONDS)
        function, caller = self._catalog.find(reference), self._caller()
        if function is None:
            return await self._registry.find_id(reference, caller)
        _refuse_hidden(function, reference, caller)
        return function.id

    async def _exists(self, function_id: UUID) -> bool:
        try:
            return await self._find_id(str(function_id)) == function_id
        except NotFound:
            return False

    async def _execute(self, request: Request, target: Target) -> Execution:
        function, runnable = target.function, target.runnable
        self._refuse_quarantined(function, runnable)
        await self._recorder.check_free(request.id)
        cold = await self._modules.ensure(runnable) or target.cold
        execution = Execution(
            id=request.id,
            function_id=function.id,
            function_name=function.name,
            function_version=runnable.version,
            request_id=request.request_id,
            created_at=milliseconds_of(request.id) * 1000,
            input=request.input,
            cold_start=cold,
            created_by=self._caller().id,
        )
        # As it is told of now: of many calls, the function was looked up for the first.
        environment = self._catalog.values_for(self._catalog.latest(function))
        call = Call(runnable.artifact_digest, runnable.abi, request.input, function.limits, environment)
        return await self._finish(await self._run(execution, call, runnable), request.durability)

    async def _run(self, execution: Execution, call: Call, runnable: Runnable) -> Execution:
        """Runs a call; returns its execution as it ended. Each step is in the journal before it is taken."""
        accepted_at, room, begun = time.monotonic(), room_for_end(call.limits), False
        try:
            if not self._sandbox.has_room:
                self._recorder.begin(execution)
                begun = True
            async with self._sandbox.reserve() as slot:
                self._refuse_deleted(execution)
                queue_us = round((time.monotonic() - accepted_at) * 1e6)
                execution = structs.replace(execution, status=Status.RUNNING, queue_us=queue_us, started_at=now_micros())
                (self._recorder.start if begun else self._recorder.begin)(execution, room)
                begun = True
                return _ended(execution, await self._outcome(slot, call, runnable))
        except asyncio.CancelledError:
            if begun:
                self._recorder.end(_ended(execution, CANCELLED))
            raise
        except (Exhausted, StartFailed, KilnError) as error:
            # It has not run: whatever goes wrong in a run is an outcome.
            if begun:
                self._recorder.withdraw(execution.id)
            raise _refusal(error) from error

    def _refuse_quarantined(self, function: CatalogFunction, runnable: Runnable) -> None:
        seconds = math.ceil(self._sandbox.quarantined_seconds(runnable.artifact_digest))
        if seconds:
            raise FailedPrecondition(
                f"version {runnable.version} of {function.name} kills the process that it runs in again and again, and is kept from "
                f"running for {seconds} s: roll back to another version, or change the function",
                reason="VERSION_QUARANTINED",
                retry_after=seconds,
            )

    def _refuse_deleted(self, execution: Execution) -> None:
        if self._catalog.was_deleted(execution.function_id):
            raise NotFound(f"{execution.function_name} was deleted", reason="FUNCTION_NOT_FOUND")

    async def _outcome(self, slot: Slot, call: Call, runnable: Runnable) -> Outcome:
        """The call's outcome; that the sandbox fails is one too, since the run has begun."""
        try:
            for _ in range(PREPARE_TRIES):
                try:
                    return await slot.run(call)
                except NotPrepared:
                    await self._modules.ensure(runnable)
            return _platform("the function's code does not stay in the cache; make KILN_EXECUTOR_CODE_CACHE_MB larger")
        except Quarantined:
            return _platform("other runs of this version killed the workers that they were in, so this one was not begun again")
        except (Exhausted, StartFailed):
            return _platform("the worker of this call died, and no other can be started")
        except KilnError as error:
            return _platform(f"the function's code cannot be loaded: {error.message}")

    async def _finish(self, execution: Execution, durability: Durability) -> Execution:
        """Records the end, and answers once its record is as durable as was asked."""
        recorded: Execution | None = execution
        if not self._recorder.end(execution) or durability is Durability.COMMIT:
            try:
                async with asyncio.timeout(RECORDING_SECONDS):
                    recorded = await self._recorder.committed(execution.id)
            except TimeoutError:
                raise Unavailable(
                    f"the function ran, and its record cannot be written now; execution {execution.id} will tell", reason="NOT_RECORDED"
                ) from None
        if recorded is None or self._catalog.was_deleted(execution.function_id):
            raise NotFound(f"{execution.function_name} was deleted while it ran", reason="FUNCTION_NOT_FOUND")
        return recorded


def _refuse_hidden(function: CatalogFunction, reference: str, caller: Principal) -> None:
    """Raises what the registry raises where there is no such function, if there is none for the caller."""
    if not can_access_function(caller, str(function.id), function):
        raise unknown_function(reference)


def _ended(execution: Execution, outcome: Outcome) -> Execution:
    return structs.replace(
        execution,
        status=Status.FAILED if outcome.error else Status.COMPLETED,
        output=outcome.output,
        error=outcome.error,
        logs=outcome.logs,
        logs_truncated=outcome.logs_truncated,
        duration_us=outcome.duration_us,
        memory_peak_bytes=outcome.memory_peak_bytes,
        cold_start=execution.cold_start or outcome.cold_start,
        completed_at=now_micros(),
    )


def _platform(message: str) -> Outcome:
    return Outcome(None, GuestError(ErrorType.PLATFORM, message))


def _refusal(error: Exception) -> KilnError:
    if isinstance(error, KilnError):
        return error
    if isinstance(error, Exhausted):
        return ResourceExhausted("too many calls wait for a worker; try again soon", reason=TOO_MANY_CALLS, retry_after=1)
    return Unavailable("no worker can be started now; try again", reason="SANDBOX_AWAY", retry_after=1)
