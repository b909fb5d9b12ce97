"""Logins by an identity provider: OpenID Connect's authorization code flow, with PKCE.

What a login takes to go on is in its browser alone, sealed, so that beginning one costs no memory here and nobody else can end it: the
state by which the provider's answer belongs to it (against answers that somebody else made a browser send), the nonce that the ID token
must have, and the verifier without which the code is worth nothing. That a login has gone on is written down, so that it does so once.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from libs.common import audit
from libs.common.errors import NotFound, PermissionDenied, ResourceExhausted, Unauthenticated
from libs.common.sealing import Sealer, Unopenable
from services.auth.changes import Clock
from services.auth.identities import Identities
from services.auth.identity_providers import Provider
from services.auth.identity_tokens import identity_of, verified_id_token
from services.auth.provider_client import ProviderClient
from services.auth.repository import AuthRepository
from services.auth.sessions import Begun, Origin, Sessions

LIFETIME: Final = timedelta(minutes=10)
# At one provider at once: each waits for it, and one that is slow must not gather all there are.
MAX_AT_ONCE: Final = 32
# Where browsers go from here. Nobody else has a say in it.
HOME: Final = "/"
_PLACE: Final = "the cookie of a login"
_MAX_TEXT: Final = 4096
# As RFC 6749 (4.1.2.1) and OpenID Connect name what people can do something about; other words are not repeated to them.
_DENIALS: Final = {
    "access_denied": "access was denied",
    "login_required": "it wants you to sign in there first",
    "interaction_required": "it wants you to do something there first",
    "consent_required": "it wants your consent",
    "account_selection_required": "it wants you to choose an account",
    "temporarily_unavailable": "it is not available now; try again later",
    "server_error": "it has failed; try again later",
}


@dataclass(frozen=True, slots=True)
class _Login:
    """What a browser keeps. The secrets of it are in no representation of this."""

    provider: str
    state: str
    nonce: str
    verifier: str
    ends_at: float

    def __repr__(self) -> str:
        return f"_Login({self.provider})"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a provider makes a browser bring back. It is in no representation of this."""

    state: str
    code: str
    error: str
    issuer: str

    def __repr__(self) -> str:
        return "Reply()"


class OidcLogins:
    """The logins of one installation.

    Args:
        clients: The providers that can be asked, in the order of the settings.
        public_url: Where browsers find Kiln, as the providers know it.
        repository: Knows which logins have gone on.
        identities: Knows the users.
        sessions: Begin by logins.
        sealer: Seals what browsers keep.
        clock: The time.
    """

    def __init__(
        self,
        clients: Iterable[ProviderClient],
        public_url: str,
        repository: AuthRepository,
        identities: Identities,
        sessions: Sessions,
        sealer: Sealer,
        clock: Clock,
    ) -> None:
        self._clients = {client.provider.id: client for client in clients if client.provider.client_id}
        self._public_url = public_url.rstrip("/")
        self._repository = repository
        self._identities = identities
        self._sessions = sessions
        self._sealer = sealer
        self._clock = clock
        self._going_on = dict.fromkeys(self._clients, 0)

    @property
    def providers(self) -> list[Provider]:
        """Where users may sign in."""
        return [client.provider for client in self._clients.values()]

    def login_url(self, provider: Provider) -> str:
        """Where a browser begins."""
        return f"{self._public_url}/auth/oidc/{provider.id}/login"

    async def begin(self, provider: str) -> tuple[str, str]:
        """Where to send a browser, and what it must keep until it comes back.

        Raises:
            NotFound: there is no such provider.
            Unavailable: it does not answer.
        """
        client = self._client(provider)
        ends_at = (self._clock() + LIFETIME).timestamp()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        login = _Login(provider, state, nonce, verifier, ends_at)
        location = await client.authorization_url(
            redirect_uri=self._redirect_uri(provider), state=login.state, nonce=login.nonce, verifier=login.verifier
        )
        return location, base64.urlsafe_b64encode(self._sealer.seal(orjson.dumps(asdict(login)), _PLACE)).decode()

    async def complete(self, provider: str, reply: Reply, kept: str, origin: Origin) -> Begun:
        """Begins a session of whom the provider says that a browser is.

        Args:
            provider: Which.
            reply: What it says.
            kept: What the browser has kept.
            origin: Where the browser is.

        Raises:
            NotFound: there is no such provider.
            Unauthenticated: it is no login of this browser's that can go on, or what the provider says is not valid.
            PermissionDenied: the provider or Kiln does not let this user in.
            Unavailable: the provider does not answer.
            ResourceExhausted: too many are signing in at once.
        """
        client = self._client(provider)
        if reply.error or not reply.code:
            # Nothing comes of it, whoever made it up: not every provider says here which login it is about.
            why = _DENIALS.get(reply.error, "it gives no reason that Kiln knows")
            raise PermissionDenied(f"{client.provider.shown} did not sign you in: {why}", reason="LOGIN_DENIED")
        if self._going_on[provider] >= MAX_AT_ONCE:
            raise ResourceExhausted("too many are signing in at once", reason="LOGINS_BUSY", retry_after=1)
        self._going_on[provider] += 1
        try:
            login = await self._spent(provider, reply.state, kept)
            if reply.issuer and reply.issuer != client.provider.issuer:
                raise Unauthenticated("the answer is of another identity provider", reason="BAD_IDENTITY")
            token = await client.redeem(reply.code, redirect_uri=self._redirect_uri(provider), verifier=login.verifier)
            claims = await verified_id_token(client, token, login.nonce)
        finally:
            self._going_on[provider] -= 1
        # At the first time the user is made as well.
        await audit.begin(None, "")
        user = await self._identities.user_of(identity_of(client.provider, claims))
        audit.by(user.id, user.name)
        if user.disabled:
            raise PermissionDenied("this user is disabled; ask whoever administers Kiln", reason="USER_DISABLED")
        return await self._sessions.begin(user, origin)

    async def _spent(self, provider: str, state: str, kept: str) -> _Login:
        """The login that a state belongs to, which cannot go on again."""
        login, now = self._opened(kept), self._clock()
        is_own = login is not None and login.provider == provider and hmac.compare_digest(login.state.encode(), state.encode())
        if login is None or not is_own or login.ends_at <= now.timestamp():
            raise _expired()
        digest, ends_at = hashlib.sha256(state.encode()).digest(), datetime.fromtimestamp(login.ends_at, UTC)
        if not await self._repository.spend_login(digest, ends_at):
            raise _expired()
        return login

    def _opened(self, kept: str) -> _Login | None:
        if len(kept) > _MAX_TEXT:
            return None
        try:
            return _Login(**orjson.loads(self._sealer.open(base64.urlsafe_b64decode(kept.encode()), _PLACE)))
        except (Unopenable, ValueError):
            return None

    def _client(self, provider: str) -> ProviderClient:
        client = self._clients.get(provider)
        if client is None:
            raise NotFound(f"there is no identity provider {provider[:100]!r}", reason="PROVIDER_NOT_FOUND")
        return client

    def _redirect_uri(self, provider: str) -> str:
        """What the provider must know; from the settings alone, since a request may name any host."""
        return f"{self._public_url}/auth/oidc/{provider}/callback"


def _expired() -> Unauthenticated:
    return Unauthenticated(
        "this login was not begun in this browser, or more than ten minutes ago, or has gone on already; sign in again",
        reason="LOGIN_EXPIRED",
    )
