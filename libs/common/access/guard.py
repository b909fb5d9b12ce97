"""Who makes a call, and whether it may: asked once for every RPC, before its handler runs.

What each RPC needs is declared beside it in the protos. What a handler still decides is what depends on the thing that is asked for:
`libs.common.access.principal.can_access`.
"""

import math
import time
from collections.abc import Callable
from typing import Final, Protocol

import jwt

from libs.common.access import access_tokens, service_tokens
from libs.common.access.access_tokens import AccessToken, verify
from libs.common.access.bearer import presented
from libs.common.access.exchange import Exchange, is_exchanged
from libs.common.access.principal import Principal, Role
from libs.common.access.service_tokens import ServiceTokens
from libs.common.access.watch import SILENCE_SECONDS
from libs.common.bounded import Bounded
from libs.common.errors import PermissionDenied, Unauthenticated, Unavailable
from libs.common.policy import Access, Policy

_MAX_SEEN: Final = 10_000
# Who calls where nobody is asked.
_ANYONE: Final = AccessToken(Principal(id="", name="anyone", role=Role.ADMIN), 0, math.inf)
_ANY_SERVICE: Final = AccessToken(Principal(id="", name="service", role=Role.SERVICE), 0, math.inf)


class Guard(Protocol):
    """Lets calls in."""

    def recall(self, policy: Policy, authorization: str) -> AccessToken | None:
        """Who makes a call, if that was asked before and may call; None if it must be asked with `admit`.

        Raises:
            Unauthenticated, PermissionDenied, Unavailable: as `admit`.
        """

    async def admit(self, policy: Policy, authorization: str, address: str) -> AccessToken | None:
        """Who makes a call that may be made; None for nobody who is known, where anyone may call.

        Args:
            policy: What the RPC needs.
            authorization: What the caller presents as `authorization`; empty for nothing.
            address: Where the caller is.

        Raises:
            Unauthenticated: it is not known who calls.
            PermissionDenied: who calls may not.
            Unavailable: it cannot be known now.
        """

    async def who(self, authorization: str, address: str) -> Principal:
        """Who made a call that was refused with `PermissionDenied`, which only somebody who is known is.

        Args:
            authorization: As it was given to `admit`.
            address: Where the caller is.

        Raises:
            Unauthenticated, Unavailable: it is not known any more.
        """

    def is_stale(self, token: AccessToken) -> bool:
        """Whether who makes a call that stays open must not any more."""


class OpenGuard:
    """Lets everyone do everything: for `KILN_AUTH=off`."""

    def recall(self, policy: Policy, authorization: str) -> AccessToken | None:  # noqa: ARG002
        """Anyone at all."""
        return _ANY_SERVICE if policy.access is Access.SERVICE else _ANYONE

    async def admit(self, policy: Policy, authorization: str, address: str) -> AccessToken | None:  # noqa: ARG002
        """The same; nothing is left to ask."""
        return self.recall(policy, authorization)

    async def who(self, authorization: str, address: str) -> Principal:  # noqa: ARG002
        """Anyone."""
        return _ANYONE.principal

    def is_stale(self, token: AccessToken) -> bool:  # noqa: ARG002
        """Never."""
        return False


class TokenGuard:
    """Lets in who presents an access token, a service's token, or a credential that can be exchanged for an access token.

    Args:
        exchange: Exchanges credentials, and knows what there is to know of access tokens.
        services: Verifies the tokens of services.
        grace_seconds: How long callers that were seen are served once the auth service is not heard any more.
        clock: The Unix time in seconds.
    """

    def __init__(
        self,
        exchange: Exchange,
        services: ServiceTokens,
        *,
        grace_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._exchange = exchange
        self._state = exchange.state
        self._services = services
        self._grace_seconds = grace_seconds
        self._clock = clock
        # Verifying a token costs as much as several calls in the sandbox.
        self._seen: Bounded[str, AccessToken] = Bounded(_MAX_SEEN)
        self._callers: Bounded[tuple[str, str, str], None] = Bounded(_MAX_SEEN)

    def recall(self, policy: Policy, authorization: str) -> AccessToken | None:
        """See `Guard`."""
        if policy.access is Access.PUBLIC:
            return None
        token = self._seen.get(authorization)
        if token is None:
            # Not one of those; it may have been exchanged for one.
            text = presented(authorization)
            exchanged = self._exchange.remembered(text) if text else None
            if exchanged is None:
                return None
            token = exchanged.token
            self._check_heard(self._grace_seconds)
        elif token.expires_at <= self._clock():
            del self._seen[authorization]
            return None
        elif token.principal.role is not Role.SERVICE:
            self._check_still_true(token)
        _authorize(policy, token.principal)
        return token

    async def admit(self, policy: Policy, authorization: str, address: str) -> AccessToken | None:
        """See `Guard`."""
        if policy.access is Access.PUBLIC:
            # Nobody is asked there, so that a credential that has ended keeps no one from signing in again.
            return None
        if not authorization:
            raise Unauthenticated(
                "the call needs a credential: an API key as `authorization: Bearer kiln_...`, or a session", reason="NO_CREDENTIAL"
            )
        token = await self._authenticate(authorization, address)
        _authorize(policy, token.principal)
        return token

    async def who(self, authorization: str, address: str) -> Principal:
        """See `Guard`."""
        token = self._seen.get(authorization) or await self._authenticate(authorization, address)
        return token.principal

    def is_stale(self, token: AccessToken) -> bool:
        """See `Guard`."""
        return self._state.is_stale(token)

    async def _authenticate(self, authorization: str, address: str) -> AccessToken:
        text = presented(authorization)
        if text is None:
            raise Unauthenticated("authorization: must be `Bearer` and a credential", reason="BAD_CREDENTIALS")
        if is_exchanged(text):
            await self._state.first_word()
            self._check_heard(self._grace_seconds)
            # Not remembered here: the exchange does that, and knows when to ask again.
            exchanged = await self._exchange.exchanged(text, address)
            self._check_still_true(exchanged.token)
            return exchanged.token
        if _type_of(text) == service_tokens.TYPE:
            return self._remember(authorization, AccessToken(*_service(self._services, text)))
        await self._state.first_word()
        self._check_heard(self._grace_seconds)
        token = verify(text, self._state.keys)
        if _who(token) not in self._callers:
            # Who was not seen before may have been refused since the auth service was last heard.
            self._check_heard(SILENCE_SECONDS)
        self._check_still_true(token)
        return self._remember(authorization, token)

    def _check_still_true(self, token: AccessToken) -> None:
        self._check_heard(self._grace_seconds)
        if self._state.is_stale(token):
            raise Unauthenticated("who calls has changed since the access token was made", reason="STALE_TOKEN")

    def _check_heard(self, seconds: float) -> None:
        silent = self._state.silent_seconds
        if silent is None:
            raise Unavailable("it is not known yet who may call; try again", reason="STARTING", retry_after=1)
        if silent > seconds:
            raise Unavailable("the auth service cannot be reached; try again", reason="AUTH_AWAY", retry_after=1)

    def _remember(self, authorization: str, token: AccessToken) -> AccessToken:
        self._seen.put(authorization, token)
        # Their next tokens are others.
        self._callers.put(_who(token), None)
        return token


def _who(token: AccessToken) -> tuple[str, str, str]:
    """A caller, as far as one token is followed by another: a user by one of its credentials."""
    return token.principal.id, token.principal.session, token.principal.api_key


def _service(services: ServiceTokens, text: str) -> tuple[Principal, int, float]:
    principal, expires_at = services.verify(text)
    return principal, 0, expires_at


def _type_of(text: str) -> str:
    """What kind of token a text says that it is; nothing is believed of it but which check it must pass."""
    if len(text) > access_tokens.MAX_BYTES:
        raise access_tokens.refused("it is too long")
    try:
        return str(jwt.get_unverified_header(text).get("typ", ""))
    except jwt.PyJWTError:
        return ""


def _authorize(policy: Policy, principal: Principal) -> None:
    """Whether a caller may make calls of an RPC.

    Raises:
        PermissionDenied: it may not.
    """
    if policy.access is Access.PUBLIC:
        return
    if (policy.access is Access.SERVICE) is not (principal.role is Role.SERVICE):
        raise PermissionDenied("this call is for others", reason="NOT_FOR_YOU")
    if policy.access is Access.ADMIN and principal.role is not Role.ADMIN:
        raise PermissionDenied("only users of the role ADMIN may do that", reason="ADMIN_NEEDED")
    if principal.is_narrowed and policy.verb:
        if principal.verbs and policy.verb not in principal.verbs:
            raise PermissionDenied(f"the API key is not for calls of the kind {policy.verb}", reason="KEY_NARROWED")
        if principal.functions and not policy.within_functions:
            raise PermissionDenied("the API key is only for some functions", reason="KEY_NARROWED")
