"""The audit log: who did what to which entity, from where, and what came of it.

Which RPCs are written down, and where they name the entity, is declared beside each in the protos; the interceptor in front of every
handler does it. Before a handler runs, the beginning of its call is in the database, so that nothing happens unseen when the service is
killed; the end follows. The auth service owns the log. Every service, auth itself too, hands events over by a queue, so that no call needs
auth to be up.

What a call says is never in it, and neither is what has not the form of an id or a name: people type passwords into the wrong field.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Protocol, Self
from uuid import UUID

from libs.common.access.credentials import looks_like_credential
from libs.common.access.principal import Principal
from libs.common.errors import Unavailable
from libs.common.ids import parse_uuid, uuid7
from libs.common.logs import logger
from libs.common.policy import Audited

# The outcome of a call that has not ended, or of which nobody could say how.
UNFINISHED: Final = "UNFINISHED"
# How long writing may take: a call need not wait for its own deadline to hear that it cannot be made.
WRITE_SECONDS: Final = 4
MAX_ADDRESS_CHARACTERS: Final = 64
# The form of names of functions, users, groups and environments.
_NAME: Final = re.compile(r"[a-z][a-z0-9._-]{0,62}")
# Ends that are being written, each kept until it is.
_ending: Final[set["asyncio.Task[None]"]] = set()


@dataclass(frozen=True, slots=True)
class Event:
    """One call, as far as it has come. Ids are texts, empty where there is none; see `AuditEvent` in auth.proto."""

    id: UUID
    action: str
    entity_kind: str
    entity_id: str = ""
    user: str = ""
    actor: str = ""
    actor_name: str = ""
    role: str = ""
    session: str = ""
    api_key: str = ""
    address: str = ""
    request_id: str = ""
    outcome: str = UNFINISHED
    reason: str = ""

    def to_body(self) -> dict[str, str]:
        """The event as a message's body."""
        return {**asdict(self), "id": str(self.id)}

    @classmethod
    def of_body(cls, body: Mapping[str, Any]) -> Self:
        """The event that a message tells, also one of another release.

        Raises:
            KeyError, ValueError: it tells none.
        """
        known = {field.name: str(body[field.name]) for field in fields(cls) if field.name in body and field.name != "id"}
        if not {"action", "entity_kind"} <= known.keys():
            raise ValueError("an event has an action and a kind of entity")
        return cls(id=UUID(body["id"]), **known)


class AuditLog(Protocol):
    """Where events go."""

    async def write(self, event: Event) -> None:
        """Keeps an event for good. The end of a call stands, whether its beginning comes before it, after it or never."""


class Recording:
    """One call on its way into the log.

    Args:
        log: Where it is written.
        audited: What is told of it.
        action: The RPC's name.
    """

    def __init__(self, log: AuditLog, audited: Audited, action: str) -> None:
        self._log = log
        self._audited = audited
        self._event = Event(uuid7(), action, audited.entity)
        self._sources: dict[str, Any] = {}
        # What the handler knows better than what was sent.
        self._entity = self._user = ""
        self._is_told = False

    def came(self, address: str, request_id: str) -> None:
        """From where."""
        self._event = replace(self._event, address=address[:MAX_ADDRESS_CHARACTERS], request_id=request_id)

    def asked(self, request: Any) -> None:
        """What is asked for, of which only what is declared is looked at. From here on the handler can add to it."""
        self._sources["request"] = request
        _current.set(self)

    def by(self, caller: Principal) -> None:
        """Who asks."""
        self._sources["caller"] = caller
        self._event = replace(
            self._event,
            actor=_id(caller.id),
            actor_name=caller.name,
            role=caller.role.value,
            session=caller.session,
            api_key=caller.api_key,
        )

    def tried_by(self, user: UUID, name: str) -> None:
        """Who asks, if it is whom it says it is."""
        self._event = replace(self._event, actor=str(user), actor_name=name)

    def about(self, entity: UUID, user: UUID | None) -> None:
        """What it is about."""
        self._entity, self._user = str(entity), str(user or "")

    async def begin(self) -> None:
        """Writes the beginning.

        Raises:
            Unavailable: it cannot be; the call must not be made.
        """
        # Also when this is cancelled on the way, where nobody can tell whether it was written.
        self._is_told = True
        try:
            await self._write(self._event)
        except Exception as error:
            self._is_told = False
            logger().error("audit_log_away", action=self._event.action, exc_info=error)
            raise Unavailable(
                "the call was not made, since it cannot be written down in the audit log now; try again",
                reason="AUDIT_LOG_AWAY",
                retry_after=1,
            ) from error

    def answered(self, answer: Any) -> None:
        """What was answered."""
        if not self._is_told:
            raise RuntimeError(f"{self._event.action} was served before its beginning was in the audit log")
        self._sources["answer"] = answer

    def refused(self, caller: Principal) -> None:
        """It was not made, since this caller may not: the end tells it all."""
        self.by(caller)
        self._is_told = True

    async def end(self, outcome: str, reason: str) -> None:
        """Writes the end, if there is a beginning, and whether or not the call is cancelled meanwhile.

        When that fails, the event stays `UNFINISHED`, and the log of the service tells the rest.
        """
        if not self._is_told:
            return
        task = asyncio.create_task(self._write_end(replace(self._event, outcome=outcome, reason=reason)))
        _ending.add(task)
        task.add_done_callback(_ending.discard)
        await asyncio.shield(task)

    async def _write_end(self, event: Event) -> None:
        try:
            await self._write(event)
        except Exception as error:
            logger().error("audit_end_lost", id=str(event.id), action=event.action, outcome=event.outcome, exc_info=error)

    async def _write(self, event: Event) -> None:
        entity_id = self._entity or _look(self._audited.id, self._sources)
        user = self._user or _look(self._audited.user, self._sources)
        async with asyncio.timeout(WRITE_SECONDS):
            await self._log.write(replace(event, entity_id=entity_id, user=user))


_current: ContextVar[Recording | None] = ContextVar("recording", default=None)


async def begin(user: UUID | None, name: str) -> None:
    """Writes down that the call being served begins: for a handler of a call that anyone may make, once it lets that through.

    What it turns away before, such as tries that come too fast, is not written down: anyone could fill the log.

    Args:
        user: Who it says that it is; None where there is no such user.
        name: That user's.

    Raises:
        Unavailable: it cannot be; the call must not be made.
    """
    if recording := _current.get():
        if user:
            recording.tried_by(user, name)
        await recording.begin()


def by(user: UUID, name: str) -> None:
    """Tells the log who makes the call being served, where that is known only after it began."""
    if recording := _current.get():
        recording.tried_by(user, name)


async def all_written() -> None:
    """Returns once the end of every call that has ended is written, or cannot be."""
    await asyncio.gather(*_ending)


def about(entity: UUID, user: UUID | None = None) -> None:
    """Tells the log what the call being served is about, where neither request nor answer has the ids.

    Args:
        entity: Of the kind that its RPC declares.
        user: Whom it is about besides.
    """
    if recording := _current.get():
        recording.about(entity, user)


def _look(paths: Sequence[str], sources: Mapping[str, Any]) -> str:
    """The last of some values that is an id or a name; empty where none is."""
    for path in reversed(paths):
        source, *names = path.split(".")
        if source not in sources:
            continue
        value: Any = sources[source]
        for name in names:
            value = getattr(value, name)
        if told := _id(value) or _name(value):
            return told
    return ""


def _name(text: str) -> str:
    """A name as it is; empty for another text. A part of a credential could pass for one."""
    return text if _NAME.fullmatch(text) and not looks_like_credential(text) else ""


def _id(text: str) -> str:
    """An id as it is usually written; empty for another text."""
    return str(parse_uuid(text) or "")
