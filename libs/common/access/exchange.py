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
from libs.common.access.credentials import parse_credential
from libs.common.access.watch import TokenState
from libs.common.bounded import Bounded
from libs.common.errors import KilnError, Unauthenticated, Unavailable
from libs.common.logs import logger

MAX_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Exchanged:
    """A token, and when to ask for the next: halfway to its end, so that callers go on while the auth service restarts."""

    text: str
    token: AccessToken
    renew_at: float


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
        self._remembered: Bounded[bytes, _Exchanged] = Bounded(MAX_REMEMBERED)
        self._asking: dict[bytes, asyncio.Task[_Exchanged]] = {}

    async def token(self, credential: str, address: str) -> str:
        """An access token for an API key or a session's token.

        Args:
            credential: As the caller presents it.
            address: Where the caller is.

        Raises:
            Unauthenticated: it is not valid.
            Unavailable: the auth service is away, or its keys are not known yet, and the credential was not seen lately.
        """
        return (await self._current(credential, address)).text

    async def access_token(self, credential: str, address: str) -> AccessToken:
        """What the same token says, which was verified when it was exchanged.

        Raises:
            Unauthenticated, Unavailable: as `token`.
        """
        return (await self._current(credential, address)).token

    def forget(self, credential: str) -> None:
        """The token of a credential was refused because it is no longer true, which is known elsewhere a moment before it is here."""
        self._remembered.pop(_key(credential), None)

    async def _current(self, credential: str, address: str) -> _Exchanged:
        key = _key(credential)
        known, now = self._remembered.get(key), self._clock()
        if known is None or now >= known.token.expires_at or self.state.is_stale(known.token):
            # Without the keys that come with it no answer is understood.
            await self.state.first_word()
            return await asyncio.shield(self._ask(key, credential, address))
        if now >= known.renew_at:
            self._ask(key, credential, address)
        return known

    def _ask(self, key: bytes, credential: str, address: str) -> "asyncio.Task[_Exchanged]":
        """Asks, once for all who want it at the same time."""
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._exchange(key, credential, address), context=request.without_deadline())
            task.add_done_callback(lambda done: self._asked(key, done))
        return task

    def _asked(self, key: bytes, task: "asyncio.Task[_Exchanged]") -> None:
        del self._asking[key]
        # Where it was asked ahead of time, nobody else looks.
        if not task.cancelled() and isinstance(error := task.exception(), Unauthenticated):
            self._remembered.pop(key, None)
        elif not task.cancelled() and error is not None:
            logger().warning("exchange_failed", error=error.message if isinstance(error, KilnError) else repr(error))

    async def _exchange(self, key: bytes, credential: str, address: str) -> _Exchanged:
        if parse_credential(credential) is None:
            raise Unauthenticated("the credential is none that Kiln gave out, or was changed on its way", reason="BAD_CREDENTIALS")
        answer = await self._stub.ExchangeCredential(pb.ExchangeCredentialRequest(credential=credential, address=address))
        token = self._verified(answer.access_token)
        now = self._clock()
        exchanged = _Exchanged(answer.access_token, token, now + (token.expires_at - now) / 2)
        self._remembered.put(key, exchanged)
        return exchanged

    def _verified(self, text: str) -> AccessToken:
        """What a token of the auth service's says. That it cannot be verified is no fault of who calls."""
        try:
            return verify(text, self.state.keys)
        except Unauthenticated as error:
            raise Unavailable(f"the auth service is not understood yet: {error.message}", reason="STARTING", retry_after=1) from None


def _key(credential: str) -> bytes:
    """What stands for a credential in memory."""
    return hashlib.sha256(credential.encode()).digest()
