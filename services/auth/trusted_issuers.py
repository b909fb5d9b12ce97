"""Trusted issuers: identity providers whose tokens programs may present as they would an API key."""

from collections.abc import Iterable
from datetime import datetime

from libs.common.access.foreign_tokens import foreign_issuer
from libs.common.errors import Unauthenticated
from services.auth.identities import Identities
from services.auth.identity_tokens import OF_PROGRAMS, identity_of, verified
from services.auth.provider_client import ProviderClient
from services.auth.records import User
from services.auth.sessions import bad_credentials


class TrustedIssuers:
    """The trusted issuers of one installation.

    Args:
        clients: The providers that can be asked; trusted are those with an audience.
        identities: Knows their users.
    """

    def __init__(self, clients: Iterable[ProviderClient], identities: Identities) -> None:
        self._clients = {client.provider.issuer: client for client in clients if client.provider.audience}
        self._identities = identities

    async def user_of(self, token: str) -> tuple[User, datetime]:
        """Whom a token stands for, and until when.

        Raises:
            Unauthenticated: for nobody: it is of no trusted issuer, or that does not stand for it.
            PermissionDenied: the issuer's users need an email address that this one has not.
            Unavailable: the issuer's keys cannot be had.
        """
        client = self._clients.get(foreign_issuer(token) or "")
        if client is None:
            raise bad_credentials()
        try:
            claims = await verified(client, token, client.provider.audience, OF_PROGRAMS)
            identity = identity_of(client.provider, claims)
        except Unauthenticated as error:
            raise Unauthenticated(error.message, reason="BAD_CREDENTIALS") from None
        return await self._identities.user_of(identity), identity.expires_at
