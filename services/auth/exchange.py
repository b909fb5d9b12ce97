"""The exchange of what callers present for access tokens."""

from datetime import datetime, timedelta
from typing import Final

from libs.common.access.access_tokens import MAX_SECONDS, AccessToken, expiry, sign
from libs.common.access.credentials import Credential, Kind, parse_credential
from libs.common.audit import MAX_ADDRESS_CHARACTERS
from services.auth.callers import principal_of
from services.auth.changes import Clock
from services.auth.records import Bearer
from services.auth.repository import AuthRepository
from services.auth.sessions import bad_credentials, shown
from services.auth.signing_keys import SigningKeys
from services.auth.trusted_issuers import TrustedIssuers

# Use is written down this often, and not with every call.
USE_NOTED_EVERY: Final = timedelta(minutes=1)


class Exchange:
    """Makes access tokens.

    Args:
        repository: Knows the credentials.
        signing_keys: Sign.
        issuers: Whose tokens are taken besides.
        clock: The time.
        idle: How long a session lasts without use.
    """

    def __init__(
        self, repository: AuthRepository, signing_keys: SigningKeys, issuers: TrustedIssuers, clock: Clock, idle: timedelta
    ) -> None:
        self._repository = repository
        self._signing_keys = signing_keys
        self._issuers = issuers
        self._clock = clock
        self._idle = idle

    async def exchange(self, text: str, address: str) -> tuple[str, datetime]:
        """An access token, and when it ends.

        Args:
            text: What a caller presents.
            address: From where; empty where nobody knows.

        Raises:
            Unauthenticated: it is nothing that is taken.
            PermissionDenied, Unavailable: as of trusted issuers.
        """
        credential, now = parse_credential(text), self._clock()
        bearer = await self._bearer(credential, text, now)
        if bearer is None or bearer.ended or bearer.user.disabled:
            raise bad_credentials()
        expires_at = bearer.expires_at
        if credential:
            expires_at = await self._used(credential, bearer, now, shown(address, MAX_ADDRESS_CHARACTERS))
        token = AccessToken(
            principal_of(
                bearer.user,
                session=credential.id if credential and credential.kind is Kind.SESSION else None,
                api_key=credential.id if credential and credential.kind is Kind.API_KEY else None,
                functions=bearer.functions,
                verbs=bearer.verbs,
            ),
            bearer.revision,
            int(min(now + timedelta(seconds=MAX_SECONDS), expires_at).timestamp()),
        )
        private = await self._signing_keys.private(bearer.signing_key or "")
        return sign(token, private, bearer.signing_key or "", now.timestamp()), expiry(token)

    async def _bearer(self, credential: Credential | None, text: str, now: datetime) -> Bearer | None:
        """Whom a text stands for, if what proves it is right."""
        if credential:
            bearer = await self._repository.find_bearer(credential, now)
            return bearer if bearer and credential.matches(bearer.secret_digest) else None
        user, expires_at = await self._issuers.user_of(text)
        # Read again, with the revision of the same moment.
        return await self._repository.find_bearer_of_user(user.id, expires_at, now)

    async def _used(self, credential: Credential, bearer: Bearer, now: datetime, address: str) -> datetime:
        """Notes the use, if it is time to; when the credential ends from now on."""
        if bearer.last_used_at and now - bearer.last_used_at < USE_NOTED_EVERY:
            return bearer.expires_at
        if bearer.ends_at is None:
            await self._repository.use_api_key(credential.id, now, address)
            return bearer.expires_at
        later = min(bearer.ends_at, now + self._idle)
        return later if await self._repository.use_session(credential.id, now, later, address) else bearer.expires_at
