"""Sessions: how they begin and end, and the passwords that they begin by."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from libs.common import audit
from libs.common.access.credentials import Kind, new_credential
from libs.common.access.principal import Principal
from libs.common.audit import MAX_ADDRESS_CHARACTERS
from libs.common.errors import PermissionDenied, ResourceExhausted, Unauthenticated
from libs.common.ids import parse_uuid
from libs.common.pages import Listing, Page, listing
from services.auth.callers import may_see, own_id, principal_of, unknown, whose
from services.auth.changes import Clock, change_by
from services.auth.guessable import check_password
from services.auth.names import NAME, Reference
from services.auth.passwords import Passwords, no_password
from services.auth.records import Session, User
from services.auth.repository import AuthRepository, Password
from services.auth.throttle import Attempt, Throttle

MAX_USER_AGENT_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long sessions last.

    Attributes:
        idle: Without use.
        most: However much they are used.
    """

    idle: timedelta
    most: timedelta


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a call came from.

    Attributes:
        address: Of the caller; empty where nobody knows.
        user_agent: What the caller says of itself.
    """

    address: str
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class Begun:
    """A session that has begun, and the token that it is proved by, which is in no representation of this."""

    caller: Principal
    session: Session
    token: str

    def __repr__(self) -> str:
        return f"Begun({self.session})"


class Sessions:
    """The sessions of one installation."""

    def __init__(self, repository: AuthRepository, passwords: Passwords, throttle: Throttle, lifetime: Lifetime, clock: Clock) -> None:
        self._repository = repository
        self._passwords = passwords
        self._throttle = throttle
        self._lifetime = lifetime
        self._clock = clock

    async def login(self, name: str, password: str, origin: Origin) -> Begun:
        """Begins a session.

        Raises:
            Unauthenticated: no such user, another password, or a disabled user.
            ResourceExhausted: too many have failed, or are signing in at once.
        """
        attempt = await self._throttle.admit(name, origin.address)
        known = await self._repository.find_password(Reference(None, name)) if NAME.fullmatch(name) else None
        # Also one who is disabled, so that the audit log names whom a try was for.
        tried = await self._repository.find_user(Reference(None, name)) if NAME.fullmatch(name) else None
        matches = await self._matches(attempt, password, known)
        await audit.begin(tried.id if tried else None, name)
        verified = _verified(known, matches=matches)
        await self._throttle.succeeded(attempt)
        return await self._begin(verified.user_id, verified.hash or b"", origin)

    async def begin(self, user: User, origin: Origin) -> Begun:
        """Begins a session of a user whom an identity provider has signed in.

        Raises:
            Unauthenticated: it has been disabled or deleted meanwhile.
        """
        return await self._begin(user.id, None, origin)

    async def _begin(self, user_id: UUID, password_hash: bytes | None, origin: Origin) -> Begun:
        """Always another session: one that a browser has had before may be known to somebody else."""
        token, now = new_credential(Kind.SESSION), self._clock()
        session = Session(
            id=token.id,
            user_id=user_id,
            created_at=now,
            expires_at=now + min(self._lifetime.idle, self._lifetime.most),
            ends_at=now + self._lifetime.most,
            last_used_at=now,
            address=shown(origin.address, MAX_ADDRESS_CHARACTERS),
            user_agent=shown(origin.user_agent, MAX_USER_AGENT_CHARACTERS),
        )
        begun = await self._repository.begin_session(session, token.digest, password_hash)
        user = await self._repository.find_user(Reference(user_id, None))
        if not begun or user is None:
            raise bad_credentials()
        return Begun(principal_of(user, session=session.id), session, token.text)

    async def logout(self, caller: Principal) -> None:
        """Ends the caller's session, if it calls with one."""
        if session := parse_uuid(caller.session):
            async with self._repository.change() as store:
                await store.delete_session(session)
                await store.announce([session])

    async def change_password(self, caller: Principal, current: str, new: str, origin: Origin) -> None:
        """Changes the caller's password, and ends all its other sessions.

        Raises:
            PermissionDenied: the caller has no session.
            FailedPrecondition: it has no password.
            InvalidArgument: the new password is bad.
            Unauthenticated: the current password is another.
            ResourceExhausted: too many have failed, or are being checked at once.
        """
        user, session = own_id(caller), parse_uuid(caller.session)
        if session is None:
            raise PermissionDenied("a password is changed in a session, not with an API key", reason="SESSION_NEEDED")
        check_password("new_password", new, caller.name)
        known = await self._repository.find_password(Reference(user, None))
        if known and known.hash is None:
            raise no_password(caller.name)
        attempt = await self._throttle.admit(caller.name, origin.address)
        verified = _verified(known, matches=await self._matches(attempt, current, known))
        await self._throttle.succeeded(attempt)
        hashed = await self._passwords.hash(new)
        async with change_by(self._repository, caller, self._clock()) as store:
            if not await store.replace_password(user, verified.hash or b"", hashed):
                raise bad_credentials()
            await store.delete_sessions(user, less=session)
            await store.announce([user])

    async def list(self, caller: Principal, user: str, page: Page) -> Listing[Session]:
        """Sessions of a user that have not ended, newest first.

        Raises:
            PermissionDenied: another's, and the caller is no ADMIN.
            NotFound: there is no such user.
        """
        owner = await whose(self._repository, caller, user)
        before = page.key(parse_uuid)
        rows = await self._repository.list_sessions(owner, self._clock(), before, page.size + 1)
        return listing(page, rows, lambda one: str(one.id))

    async def delete(self, caller: Principal, reference: str) -> None:
        """Ends a session.

        Raises:
            NotFound: there is none, or it is another's and the caller is no ADMIN.
        """
        now = self._clock()
        async with change_by(self._repository, caller, now) as store:
            identity = parse_uuid(reference)
            session = await store.find_session(identity, now) if identity else None
            if session is None or not may_see(caller, session.user_id):
                raise unknown("session", reference)
            await store.delete_session(session.id)
            await store.announce([session.id])

    async def _matches(self, attempt: Attempt, password: str, known: Password | None) -> bool:
        """Whether it is the password. It takes as long when there is none."""
        try:
            return await self._passwords.matches(password, known.hash if known else None)
        except ResourceExhausted:
            await self._throttle.withdrawn(attempt)
            raise


def _verified(known: Password | None, *, matches: bool) -> Password:
    """The one whose password it is."""
    if known is None or not matches:
        raise bad_credentials()
    return known


def bad_credentials() -> Unauthenticated:
    """What a caller hears who is not let in, whatever the reason."""
    return Unauthenticated("the credentials are not valid", reason="BAD_CREDENTIALS")


def shown(text: str, most: int) -> str:
    """A text of a caller's that is kept to be shown: not too long, and without control characters."""
    return "".join(one if one.isprintable() else " " for one in text[:most])
