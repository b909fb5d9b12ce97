"""API keys: how programs prove themselves, and what each key is narrowed to."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from libs.common.access.credentials import Kind, new_credential
from libs.common.access.principal import Principal
from libs.common.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, ResourceExhausted
from libs.common.ids import parse_uuid
from libs.common.pages import Listing, Page, listing
from services.auth.callers import may_see, unknown, whose
from services.auth.changes import Clock, change_by
from services.auth.records import ApiKey
from services.auth.repository import AuthRepository, Store

VERBS: Final = ("READ", "EXECUTE", "MANAGE")
MAX_NAME_CHARACTERS: Final = 100
# Access tokens carry them, in gRPC's metadata.
MAX_FUNCTIONS: Final = 100
MAX_KEYS: Final = 50
# Old keys live on beside their successors for a while.
MAX_KEYS_IN_ROTATION: Final = 2 * MAX_KEYS
DEFAULT_DAYS: Final = 90
MAX_DAYS: Final = 365
DEFAULT_OVERLAP_HOURS: Final = 24
MAX_OVERLAP_HOURS: Final = 168


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """What a caller wants to make.

    Attributes:
        name: For people.
        user: For whom; the caller when empty.
        days: How long it is good for; None for the default.
        functions: Ids that it is narrowed to; none for all.
        verbs: Kinds of calls that it is narrowed to; none for all.
    """

    name: str
    user: str
    days: int | None
    functions: Sequence[str]
    verbs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key, with the key itself, which is in no representation of this."""

    api_key: ApiKey
    text: str

    def __repr__(self) -> str:
        return f"Issued({self.api_key})"


class ApiKeys:
    """The API keys of one installation."""

    def __init__(self, repository: AuthRepository, clock: Clock) -> None:
        self._repository = repository
        self._clock = clock

    async def create(self, caller: Principal, new: NewApiKey) -> Issued:
        """Makes a key.

        Raises:
            PermissionDenied: the caller's own key is narrowed, or the key is for another and the caller is no ADMIN.
            InvalidArgument: a field is bad, or there is no such user.
            ResourceExhausted: the user has as many as it may.
        """
        if caller.is_narrowed:
            raise _narrowed("makes no keys: they could do more than itself")
        owner = await self._owner(caller, new.user)
        check_name(new.name)
        functions, verbs = narrowing(new.functions, new.verbs)
        lifetime = timedelta(days=days_of(new.days))
        now = self._clock()
        async with change_by(self._repository, caller, now) as store:
            if await store.count_api_keys(owner, now) >= MAX_KEYS:
                raise _too_many(f"the user has {MAX_KEYS} API keys")
            return await issue(store, owner, new.name, now, now + lifetime, functions, verbs)

    async def list(self, caller: Principal, user: str, page: Page) -> Listing[ApiKey]:
        """Keys of a user, newest first, ended ones too.

        Raises:
            PermissionDenied: another's, and the caller is no ADMIN.
            NotFound: there is no such user.
        """
        owner = await whose(self._repository, caller, user)
        before = page.key(parse_uuid)
        rows = await self._repository.list_api_keys(owner, before, page.size + 1)
        return listing(page, rows, lambda one: str(one.id))

    async def get(self, caller: Principal, reference: str) -> ApiKey:
        """One key.

        Raises:
            NotFound: there is none, or it is another's and the caller is no ADMIN.
        """
        return await _found(self._repository, caller, reference)

    async def rotate(self, caller: Principal, reference: str, overlap_hours: int | None, days: int | None) -> Issued:
        """Makes a key's successor; the old one ends after an overlap.

        Raises:
            InvalidArgument: a field is bad.
            NotFound: there is none, or it is another's and the caller is no ADMIN.
            PermissionDenied: the caller's own key is narrowed, and is another.
            FailedPrecondition: it has ended, or has a successor.
            ResourceExhausted: the user has too many that wait for their end.
        """
        overlap, lifetime = timedelta(hours=overlap_of(overlap_hours)), timedelta(days=days_of(days))
        now = self._clock()
        async with change_by(self._repository, caller, now) as store:
            old = await _found(store, caller, reference)
            if caller.is_narrowed and caller.api_key != str(old.id):
                raise _narrowed("rotates no key but itself: others could do more")
            if old.successor:
                raise FailedPrecondition(f"the API key was rotated into {old.successor}", reason="KEY_ROTATED")
            if old.has_ended(now):
                raise FailedPrecondition("the API key was revoked or has expired; make a new one", reason="KEY_ENDED")
            if await store.count_api_keys(old.user_id, now) >= MAX_KEYS_IN_ROTATION:
                raise _too_many(f"the user has {MAX_KEYS_IN_ROTATION} API keys with those that wait for their end")
            issued = await issue(store, old.user_id, old.name, now, now + lifetime, old.functions, old.verbs)
            await store.succeed_api_key(old.id, issued.api_key.id, now + overlap)
            # Tokens that were made before say when it would have ended.
            await store.announce([old.id])
            return issued

    async def revoke(self, caller: Principal, reference: str) -> None:
        """Ends a key at once, unless it is revoked.

        Raises:
            NotFound: there is none, or it is another's and the caller is no ADMIN.
        """
        now = self._clock()
        async with change_by(self._repository, caller, now) as store:
            key = await _found(store, caller, reference)
            if await store.revoke_api_key(key.id, now):
                await store.announce([key.id])

    async def _owner(self, caller: Principal, user: str) -> UUID:
        try:
            return await whose(self._repository, caller, user)
        except NotFound:
            raise InvalidArgument.of("user", f"there is no user {user[:100]!r}") from None


async def issue(
    store: Store, user: UUID, name: str, now: datetime, expires_at: datetime, functions: Sequence[UUID] = (), verbs: Sequence[str] = ()
) -> Issued:
    """Makes a key of a user that there must be.

    Raises:
        InvalidArgument: the user has gone meanwhile.
    """
    credential = new_credential(Kind.API_KEY)
    key = ApiKey(credential.id, user, name, functions, verbs, now, expires_at, None, "", None, None)
    if not await store.insert_api_key(key, credential.digest):
        raise InvalidArgument.of("user", "there is no such user any more")
    return Issued(key, credential.text)


def check_name(name: str) -> None:
    """Raises InvalidArgument unless the text may name a key."""
    if not name.strip() or len(name) > MAX_NAME_CHARACTERS:
        raise InvalidArgument.of("name", f"must have 1 to {MAX_NAME_CHARACTERS} characters")
    if any(unicodedata.category(one) == "Cc" for one in name):
        raise InvalidArgument.of("name", "has a control character; remove it")


def narrowing(functions: Sequence[str], verbs: Sequence[str]) -> tuple[Sequence[UUID], Sequence[str]]:
    """What a key is narrowed to.

    Raises:
        InvalidArgument: something is no id or no kind of call, or is there twice, or it is too much.
    """
    if len(functions) > MAX_FUNCTIONS:
        raise InvalidArgument.of("functions", f"has {len(functions)} ids; a key is narrowed to {MAX_FUNCTIONS} at most")
    ids = [identity for text in functions if (identity := parse_uuid(text))]
    if len(ids) != len(functions):
        raise InvalidArgument.of("functions", "must be ids of functions: UUIDs, no names")
    if len(set(ids)) != len(ids):
        raise InvalidArgument.of("functions", "has an id twice")
    if not set(verbs) <= set(VERBS):
        raise InvalidArgument.of("verbs", f"must be of {', '.join(VERBS)}")
    if len(set(verbs)) != len(verbs):
        raise InvalidArgument.of("verbs", "has a kind of calls twice")
    return ids, [verb for verb in VERBS if verb in verbs]


def days_of(days: int | None) -> int:
    """How many days a key is good for.

    Raises:
        InvalidArgument: it may not be so many.
    """
    if days is None:
        return DEFAULT_DAYS
    if not 1 <= days <= MAX_DAYS:
        raise InvalidArgument.of("expires_in_days", f"must be 1 to {MAX_DAYS}")
    return days


def overlap_of(hours: int | None) -> int:
    """How many hours a rotated key stays good.

    Raises:
        InvalidArgument: it may not be so many.
    """
    if hours is None:
        return DEFAULT_OVERLAP_HOURS
    if not 0 <= hours <= MAX_OVERLAP_HOURS:
        raise InvalidArgument.of("overlap_hours", f"must be 0 to {MAX_OVERLAP_HOURS}")
    return hours


async def _found(where: AuthRepository | Store, caller: Principal, reference: str) -> ApiKey:
    identity = parse_uuid(reference)
    key = await where.find_api_key(identity) if identity else None
    if key is None or not may_see(caller, key.user_id):
        raise unknown("API key", reference)
    return key


def _narrowed(rule: str) -> PermissionDenied:
    return PermissionDenied(f"an API key that is narrowed {rule}", reason="KEY_NARROWED")


def _too_many(state: str) -> ResourceExhausted:
    return ResourceExhausted(f"{state}, as many as it may; revoke one", reason="TOO_MANY_KEYS")
