"""The auth service's domain on a database, with a clock of the test's."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from libs.common.access import access_tokens
from libs.common.access.principal import Principal, Role
from libs.common.ids import uuid7
from libs.common.postgres import Database
from libs.common.sealing import Sealer
from services.auth.api_keys import ApiKeys, Issued, NewApiKey
from services.auth.audit_events import AuditEvents
from services.auth.exchange import Exchange
from services.auth.groups import Groups
from services.auth.identities import Identities
from services.auth.names import Reference
from services.auth.oidc_logins import OidcLogins
from services.auth.passwords import Passwords
from services.auth.provider_client import ProviderClient
from services.auth.records import User
from services.auth.repository import AuditRepository, AuthRepository, TryRepository
from services.auth.sessions import Begun, Lifetime, Origin, Sessions
from services.auth.signing_keys import SigningKeys
from services.auth.sweeper import Sweeper
from services.auth.throttle import Throttle
from services.auth.trusted_issuers import TrustedIssuers
from services.auth.users import NewUser, UserPatch, Users

GOOD: Final = "correct horse battery staple"
BETTER: Final = "seven grey cats on a tin roof"
HOME: Final = Origin("192.0.2.7", "a browser")
PUBLIC_URL: Final = "http://127.0.0.1:8080"
SEALING_KEY: Final = bytes(range(32))


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        """Moves it."""
        self.now += timedelta(**by)


class CountingPasswords(Passwords):
    """Cheap, and counts what bcrypt is asked."""

    def __init__(self) -> None:
        super().__init__(cost=4)
        self.checks = 0

    async def matches(self, password: str, kept: bytes | None) -> bool:
        """As ever."""
        self.checks += 1
        return await super().matches(password, kept)


class AuthWorld:
    """The domain over PostgreSQL. One more on the same database is another process of the same service."""

    def __init__(self, database: Database, clock: Clock | None = None, sealing_keys: Sequence[bytes] = (SEALING_KEY,)) -> None:
        sealer = Sealer(sealing_keys)
        self.clock = clock or Clock()
        self.database = database
        self.repository = AuthRepository(database)
        self.passwords = CountingPasswords()
        self.throttle = Throttle(TryRepository(database), self.clock)
        self.signing_keys = SigningKeys(self.repository, sealer, self.clock, timedelta(days=30))
        self.lifetime = Lifetime(timedelta(hours=12), timedelta(days=7))
        self.users = Users(self.repository, self.passwords, self.clock)
        self.groups = Groups(self.repository, self.clock)
        self.sessions = Sessions(self.repository, self.passwords, self.throttle, self.lifetime, self.clock)
        self.identities = Identities(self.repository)
        self._sealer = sealer
        self.logins = self.logins_by()
        self.api_keys = ApiKeys(self.repository, self.clock)
        self.exchange = self.exchange_for()
        self.audit_events = AuditEvents(AuditRepository(database))
        self.sweeper = Sweeper(self.repository, self.signing_keys, self.audit_events, timedelta(days=365), self.clock)
        self.root = Principal("", "", Role.ADMIN)

    async def set_up(self) -> None:
        """A first user, who administers, and a key to sign with."""
        await self.signing_keys.look_after()
        identity = uuid7()
        async with self.repository.change() as store:
            await store.insert_user(identity, "root", Role.ADMIN, None)
        self.root = Principal(str(identity), "root", Role.ADMIN)

    def logins_by(self, *clients: ProviderClient) -> OidcLogins:
        """Logins by these identity providers."""
        return OidcLogins(clients, PUBLIC_URL, self.repository, self.identities, self.sessions, self._sealer, self.clock)

    def exchange_for(self, *clients: ProviderClient) -> Exchange:
        """An exchange that takes tokens of these identity providers too."""
        return Exchange(self.repository, self.signing_keys, TrustedIssuers(clients, self.identities), self.clock, self.lifetime.idle)

    async def user(self, name: str, role: Role = Role.DEV, password: str | None = GOOD) -> User:
        """A new user."""
        return await self.users.create(self.root, NewUser(name, role, password))

    async def update(self, user: User, **fields: Any) -> User:
        """A changed user."""
        return await self.users.update(self.root, str(user.id), replace(UserPatch(None, None, None), **fields))

    async def login(self, user: User, password: str = GOOD, origin: Origin = HOME) -> Begun:
        """A session of a user's."""
        return await self.sessions.login(user.name, password, origin)

    async def key(self, caller: Principal, **fields: Any) -> Issued:
        """A key that a caller makes."""
        return await self.api_keys.create(caller, replace(NewApiKey("a key", "", None, (), ()), **fields))

    async def token(self, text: str, address: str = "198.51.100.9") -> dict[str, Any]:
        """What the access token says that a credential is exchanged for; it is signed with a published key, and may have expired."""
        token, _ = await self.exchange.exchange(text, address)
        keys = {key.id: Ed25519PublicKey.from_public_bytes(key.public) for key in await self.repository.list_signing_keys()}
        options: Any = {"verify_exp": False, "verify_iat": False}
        claims: dict[str, Any] = jwt.decode(
            token, keys[jwt.get_unverified_header(token)["kid"]], ["EdDSA"], audience=access_tokens.AUDIENCE, options=options
        )
        return claims

    async def revision_of(self, subject: object) -> int:
        """The revision that a subject changed at last; 0 for none."""
        _, changes = await self.repository.changes_since(0)
        return next((one.revision for one in changes if str(one.id) == str(subject)), 0)

    async def find(self, name: str) -> User | None:
        """A user as it is."""
        return await self.repository.find_user(Reference(None, name))


def caller_of(user: User, **more: Any) -> Principal:
    """A user who calls."""
    return Principal(str(user.id), user.name, user.role, frozenset(map(str, user.groups)), **more)
