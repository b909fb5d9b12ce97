"""Exchanges what callers present for access tokens, and remembers those: the auth service is asked every few minutes, not each time."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kiln.auth.v1 import auth_pb2 as pb

from libs.common import request
from libs.common.access.access_tokens import AccessToken, verify
from libs.common.access.bearer import bearer
from libs.common.access.credentials import looks_like_credential, parse_credential
from libs.common.access.foreign_tokens import foreign_issuer
from libs.common.access.watch import TokenState
from libs.common.bounded import Bounded
from libs.common.errors import KilnError, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable
from libs.common.logs import logger

MAX_REMEMBERED: Final = 10_000
# How long a token of somebody else's that was refused is refused without asking again.
REFUSED_SECONDS: Final = 5.0
# At most so many of those are being asked for at once, since anyone can make up any number of them.
MAX_FOREIGN_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What a credential was exchanged for.

    Attributes:
        authorization: The access token, as it is presented.
        token: What it says, verified.
        renew_at: When to ask for the next: halfway to its end, so that callers go on while the auth service restarts.
    """

    authorization: str
    token: AccessToken
    renew_at: float


def is_exchanged(presented: str) -> bool:
    """Whether what a caller presents means to be exchanged for an access token, and not to be one."""
    return looks_like_credential(presented) or foreign_issuer(presented) is not None


class Exchange:
    """Access tokens for credentials.

    Args:
        stub: Of `AuthInternal`.
        state: Tells when a token that is remembered is no longer true.
        clock: The Unix time in seconds.

    Attributes:
        state: The same.
    """

    def __init__(self, stub: Any, state: TokenState, clock: Callable[[], float] = time.time) -> None:
        self._stub = stub
        self.state = state
        self._clock = clock
        self._remembered: Bounded[bytes, Exchanged] = Bounded(MAX_REMEMBERED)
        self._asking: dict[bytes, asyncio.Task[Exchanged]] = {}
        self._refused: Bounded[bytes, tuple[float, KilnError]] = Bounded(MAX_REMEMBERED)
        self._foreign_asking = 0

    def remembered(self, credential: str) -> Exchanged | None:
        """What is remembered for a credential and still true; None where `exchanged` must be asked, also for the next in time."""
        known = self._remembered.get(_key(credential))
        # Asked for every call of every caller: a token is renewed well before it ends.
        if known is None or self._clock() >= known.renew_at or self.state.is_stale(known.token):
            return None
        return known

    async def exchanged(self, credential: str, address: str) -> Exchanged:
        """An access token for an API key, a session's token, or a token of an issuer that the auth service trusts.

        Args:
            credential: As the caller presents it.
            address: Where the caller is.

        Raises:
            Unauthenticated: it is not valid.
            PermissionDenied: it is, but who it is of is not let in.
            ResourceExhausted: it is of somebody else, and too many of these are being exchanged.
            Unavailable: the auth service is away, or its keys are not known yet, and the credential was not seen lately.
        """
        key = _key(credential)
        known, now = self._remembered.get(key), self._clock()
        if known is None or now >= known.token.expires_at or self.state.is_stale(known.token):
            # Without the keys that come with it no answer is understood.
            await self.state.first_word()
            return await asyncio.shield(self._ask(key, credential, address))
        if now >= known.renew_at:
            self._ask(key, credential, address)
        return known

    def forget(self, credential: str) -> None:
        """The token of a credential was refused because it is no longer true, which is known elsewhere a moment before it is here."""
        self._remembered.pop(_key(credential), None)

    def _ask(self, key: bytes, credential: str, address: str) -> "asyncio.Task[Exchanged]":
        """Asks, once for all who want it at the same time."""
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._exchange(key, credential, address), context=request.without_deadline())
            task.add_done_callback(lambda done: self._asked(key, done))
        return task

    def _asked(self, key: bytes, task: "asyncio.Task[Exchanged]") -> None:
        del self._asking[key]
        # Where it was asked ahead of time, nobody else looks.
        if not task.cancelled() and isinstance(error := task.exception(), Unauthenticated | PermissionDenied):
            self._remembered.pop(key, None)
        elif not task.cancelled() and error is not None:
            logger().warning("exchange_failed", error=error.message if isinstance(error, KilnError) else repr(error))

    async def _exchange(self, key: bytes, credential: str, address: str) -> Exchanged:
        message = pb.ExchangeCredentialRequest(credential=credential, address=address)
        if parse_credential(credential) is not None:
            answer = await self._stub.ExchangeCredential(message)
        elif foreign_issuer(credential) is not None:
            answer = await self._exchange_foreign(key, message)
        else:
            raise Unauthenticated("the credential is none that Kiln gave out, or was changed on its way", reason="BAD_CREDENTIALS")
        token = self._verified(answer.access_token)
        now = self._clock()
        exchanged = Exchanged(bearer(answer.access_token), token, now + (token.expires_at - now) / 2)
        self._remembered.put(key, exchanged)
        return exchanged

    async def _exchange_foreign(self, key: bytes, message: pb.ExchangeCredentialRequest) -> pb.ExchangeCredentialResponse:
        """The same for what anyone can make up, so that a flood of it does not reach the auth service."""
        until, refusal = self._refused.get(key, (0.0, None))
        if refusal and self._clock() < until:
            raise refusal.with_traceback(None)
        if self._foreign_asking >= MAX_FOREIGN_AT_ONCE:
            raise ResourceExhausted("too many tokens are being looked at", reason="TOO_MANY_TOKENS", retry_after=1)
        self._foreign_asking += 1
        try:
            answer: pb.ExchangeCredentialResponse = await self._stub.ExchangeCredential(message)
        except (Unauthenticated, PermissionDenied) as error:
            self._refused.put(key, (self._clock() + REFUSED_SECONDS, error))
            raise
        finally:
            self._foreign_asking -= 1
        return answer

    def _verified(self, text: str) -> AccessToken:
        """What a token of the auth service's says. That it cannot be verified is no fault of who calls."""
        try:
            return verify(text, self.state.keys)
        except Unauthenticated as error:
            raise Unavailable(f"the auth service is not understood yet: {error.message}", reason="STARTING", retry_after=1) from None


def _key(credential: str) -> bytes:
    """What stands for a credential in memory."""
    return hashlib.sha256(credential.encode()).digest()
