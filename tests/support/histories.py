"""Histories of functions: any order of calls and results, early, late, repeated or made up, and what must hold after each."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final
from uuid import UUID

from libs.common.errors import KilnError, NotFound
from libs.common.pages import page_of
from services.registry.functions import Function, Version
from tests.support.registry import World, failed, patch, ready, started

# A status may become these without anyone asking for another build.
NEXT: Final = {
    "PENDING": {"PENDING", "COMPILING", "READY", "FAILED"},
    "COMPILING": {"COMPILING", "READY", "FAILED"},
    "READY": {"READY"},
    "FAILED": {"FAILED"},
}


@dataclass(frozen=True)
class Seen:
    """A function as it was after a step, with all its versions, lowest first."""

    function: Function
    versions: Sequence[Version]


class History:
    """One or several installations that live through the same history and must tell the same of it.

    Functions are numbered in the order of their creation, since each installation gives them ids of its own.
    """

    def __init__(self, worlds: Sequence[World], seed: int) -> None:
        self._worlds = worlds
        self._random = Random(seed)
        self._names = [f"n{seed}-{number}" for number in range(2)]
        self._ids: list[list[UUID]] = [[] for _ in worlds]
        self._seen: list[dict[UUID, Seen]] = [{} for _ in worlds]
        self._deleted: set[int] = set()
        self._rolled_back: int | None = None
        self._log: list[str] = []

    async def live(self, steps: int) -> Sequence[str]:
        """That many steps, and what each was; fails with all of them at the first that breaks something."""
        weighted = {
            self._create: 1,
            self._update: 4,
            self._describe: 1,
            self._roll_back: 2,
            self._build_again: 2,
            self._delete: 0.3,
            self._take_job: 4,
            self._end_awaited_build: 6,
            self._send_any_result: 4,
        }
        try:
            for world in self._worlds:
                while await world.broker.take_job():
                    pass
            await self._create()
            for step in self._random.choices(list(weighted), list(weighted.values()), k=steps):
                await step()
                await self._check()
        except BaseException as error:
            error.add_note("\n".join(self._log))
            raise
        return self._log

    async def _create(self) -> None:
        name, source = self._random.choice(self._names), self._random.choice("abc")
        answers = [await _attempt(world.create(name, source)) for world in self._worlds]
        for ids, answer in zip(self._ids, answers, strict=True):
            if isinstance(answer, Function):
                ids.append(answer.id)
        self._same(f"create {name} {source}", map(_told, answers))

    async def _update(self) -> None:
        source = self._random.choice("abc")
        await self._on_some(f"update {source}", lambda world, identity: world.functions.update(str(identity), patch(source=source)))

    async def _describe(self) -> None:
        await self._on_some("describe", lambda world, identity: world.functions.update(str(identity), patch(description="new")))

    async def _roll_back(self) -> None:
        number = self._some_number()
        place, answer = await self._on_some(f"roll back {number}", lambda world, identity: world.functions.roll_back(str(identity), number))
        self._rolled_back = place if answer == "Function" else None

    async def _build_again(self) -> None:
        number = self._some_number()
        await self._on_some(f"build again {number}", lambda world, identity: world.functions.build_again(str(identity), number))

    async def _delete(self) -> None:
        place, answer = await self._on_some("delete", lambda world, identity: world.functions.delete(str(identity)))
        if answer == "tuple":
            self._deleted.add(place)

    async def _take_job(self) -> None:
        jobs = [await world.broker.take_job() for world in self._worlds]
        self._same("take job", (job and (self._place(at, job["function_id"]), job["version"], job["build"]) for at, job in enumerate(jobs)))

    async def _end_awaited_build(self) -> None:
        seen = self._seen[0].get(self._ids[0][-1])
        awaited = [one for one in seen.versions if one.status in ("PENDING", "COMPILING")] if seen else []
        if awaited:
            one = self._random.choice(awaited)
            await self._deliver(len(self._ids[0]) - 1, one.version, one.build)

    async def _send_any_result(self) -> None:
        await self._deliver(self._some_place(), self._some_number(), self._random.randint(1, 3))

    async def _deliver(self, place: int, number: int, build: int) -> None:
        result = self._random.choice([started, ready, ready, failed])
        for times in range(self._random.choice([1, 1, 2])):
            answer = await self._on(
                place, f"{result.__name__} {number} build {build}", lambda world, identity: world.deliver(result(identity, number, build))
            )
            assert times == 0 or answer == "False"

    async def _on_some(self, what: str, call: Callable[[World, UUID], Awaitable[Any]]) -> tuple[int, str]:
        place = self._some_place()
        return place, await self._on(place, what, call)

    async def _on(self, place: int, what: str, call: Callable[[World, UUID], Awaitable[Any]]) -> str:
        answers = [await _attempt(call(world, ids[place])) for world, ids in zip(self._worlds, self._ids, strict=True)]
        return self._same(f"{what} of function {place}", map(_told, answers))

    def _same(self, what: str, answers: Iterable[Any]) -> str:
        """The answer that all installations give."""
        different = {str(answer) for answer in answers}
        self._log.append(f"{what} → {' or '.join(sorted(different))}")
        (answer,) = different
        return answer

    def _some_place(self) -> int:
        """Mostly the newest function's."""
        made = len(self._ids[0])
        return made - 1 if self._random.random() < 0.8 else self._random.randrange(made)

    def _some_number(self) -> int:
        """A number that the newest function has, or would have next."""
        seen = self._seen[0].get(self._ids[0][-1])
        return self._random.randint(1, len(seen.versions) + 1 if seen else 1)

    def _place(self, world_place: int, identity: str) -> int:
        return self._ids[world_place].index(UUID(identity))

    async def _check(self) -> None:
        for place in range(len(self._ids[0])):
            told = {await self._look(world_place, place) for world_place in range(len(self._worlds))}
            assert len(told) == 1, told
        self._rolled_back = None

    async def _look(self, world_place: int, place: int) -> str:
        identity = self._ids[world_place][place]
        now = await look(self._worlds[world_place], identity)
        assert (now is None) == (place in self._deleted)
        if now is None:
            return "deleted"
        check_state(now)
        before = self._seen[world_place].get(identity)
        if before:
            check_step(before, now, rolled_back=self._rolled_back == place)
        self._seen[world_place][identity] = now
        return _without_ids(now)


async def _attempt(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except KilnError as error:
        return error


def _told(answer: Any) -> str:
    """An error's reason, a verdict, or the kind of a thing."""
    if isinstance(answer, KilnError):
        return answer.reason
    return str(answer) if isinstance(answer, bool) else type(answer).__name__


async def look(world: World, identity: UUID) -> Seen | None:
    """A function with all its versions, or None when there is none."""
    try:
        function = await world.functions.get(str(identity))
        _, found = await world.functions.list_versions(str(identity), page_of(1000, ""))
    except NotFound:
        return None
    versions = [(await world.functions.get_version(str(identity), one.version))[1] for one in found.items]
    return Seen(function, versions[::-1])


def check_state(now: Seen) -> None:
    """What holds of every function at any time."""
    function, versions = now.function, now.versions
    assert [one.version for one in versions] == list(range(1, function.latest_version + 1))
    assert (function.status, function.source) == (versions[-1].status, versions[-1].source)
    for one in versions:
        assert (one.status == "FAILED") == bool(one.failure_reason)
        assert (one.status == "READY") == bool(one.artifact_digest and one.artifact_bytes and one.abi)
        assert (one.completed_at is not None) == (one.status in ("READY", "FAILED"))
    serving = function.live_version
    assert serving is None or versions[serving - 1].status == "READY"
    takes_over = [one.version for one in versions if one.status == "READY" and one.version > function.promote_above]
    assert not takes_over or serving == max(takes_over)


def check_step(before: Seen, now: Seen, *, rolled_back: bool) -> None:
    """What one call or result may change."""
    for old, new in zip(before.versions, now.versions, strict=False):
        assert new.build in (old.build, old.build + 1)
        assert new.status in NEXT[old.status] if new.build == old.build else (old.status, new.status) == ("FAILED", "PENDING")
        assert old.status != "READY" or new == old
        assert (old.source, old.language, old.created_at) == (new.source, new.language, new.created_at)
    if not rolled_back and now.function.live_version != before.function.live_version:
        assert (now.function.live_version or 0) > max(before.function.live_version or 0, before.function.promote_above)
    assert now.function.promote_above >= before.function.promote_above
    assert len(now.versions) - len(before.versions) in (0, 1)
    assert now.function.revision > before.function.revision or now == before


def _without_ids(seen: Seen) -> str:
    function = seen.function
    told = [
        (
            one.version,
            one.status,
            one.build,
            one.failure_reason,
            one.compile_error,
            one.artifact_digest,
            one.source,
            one.queue_ms,
            one.build_ms,
        )
        for one in seen.versions
    ]
    return repr((function.name, function.description, function.live_version, function.promote_above, function.edition, told))
