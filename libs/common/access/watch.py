"""What a service knows of access tokens, so that it verifies them by itself: the keys they are signed with, and which are no longer true.

The auth service tells by a stream: its whole state first, changes as they come, and a heartbeat each second. A service that hears it is
seconds at most behind; one that hears nothing any more knows since when.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt.utils import base64url_decode
from kiln.auth.v1 import auth_pb2 as pb

from libs.common import request
from libs.common.access.access_tokens import MAX_SECONDS, AccessToken
from libs.common.errors import Unavailable

# Heartbeats come each second; a stream on which none has come for so long is given up.
SILENCE_SECONDS: Final = 3.0
# How long a call waits for the first word of the auth service, so that the start of a process shows nowhere.
FIRST_WORD_SECONDS: Final = 2.0
# What is left of a call's own time then, to say so.
_MARGIN_SECONDS: Final = 0.05
# No token is older, so that what changed before needs no remembering. Twice that, since clocks differ.
_REMEMBERED_SECONDS: Final = 2 * MAX_SECONDS
_PRUNE_ABOVE: Final = 1000


@dataclass(frozen=True, slots=True)
class _Change:
    revision: int
    heard_at: float


class TokenState:
    """What is known of access tokens.

    Args:
        clock: The time in seconds; only differences matter.

    Attributes:
        keys: Public keys by their ids.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.keys: dict[str, Ed25519PublicKey] = {}
        self._clock = clock
        self._stale: dict[str, _Change] = {}
        self._heard_at: float | None = None
        self._has_begun = asyncio.Event()

    async def first_word(self) -> None:
        """Returns once anything was ever heard: at once but for the first moments of a process, and after a while in any case."""
        if self._has_begun.is_set():
            return
        left = request.remaining_seconds()
        seconds = FIRST_WORD_SECONDS if left is None else min(FIRST_WORD_SECONDS, left - _MARGIN_SECONDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._has_begun.wait(), seconds)

    @property
    def silent_seconds(self) -> float | None:
        """How long nothing has been heard; None when nothing ever was."""
        return None if self._heard_at is None else self._clock() - self._heard_at

    def is_stale(self, token: AccessToken) -> bool:
        """Whether what a token says has changed since it was made."""
        if not self._stale:
            return False
        # Asked for every call, and so without a generator.
        principal = token.principal
        for identity in (principal.id, principal.session, principal.api_key):
            change = self._stale.get(identity)
            if change is not None and change.revision > token.revision:
                return True
        return False

    def begin(self, keys: Iterable[pb.JsonWebKey], stale: Iterable[pb.Stale]) -> None:
        """Takes in the whole state."""
        self.keys = {}
        self._stale = {}
        self.hear(keys, stale)

    def hear(self, keys: Iterable[pb.JsonWebKey], stale: Iterable[pb.Stale]) -> None:
        """Takes in what changed; a heartbeat when that is nothing."""
        now = self._heard_at = self._clock()
        self._has_begun.set()
        if known := {key.kid: Ed25519PublicKey.from_public_bytes(base64url_decode(key.x)) for key in keys}:
            self.keys = known
        for one in stale:
            self._stale[one.id] = _Change(one.revision, now)
        if len(self._stale) > _PRUNE_ABOVE:
            self._stale = {identity: one for identity, one in self._stale.items() if now - one.heard_at < _REMEMBERED_SECONDS}


class TokenWatch:
    """Follows the auth service.

    Args:
        stub: Of `AuthInternal`.
        state: What is to be kept up to date.
    """

    def __init__(self, stub: Any, state: TokenState) -> None:
        self._stub = stub
        self._state = state

    async def follow(self) -> None:
        """Hears one stream until it ends or falls silent.

        Raises:
            Unavailable: it fell silent, or there is none.
        """
        messages = aiter(self._stub.WatchTokens(pb.WatchTokensRequest()))
        # The state may come in parts, of which only the last says up to which revision all of it is.
        keys: list[pb.JsonWebKey] = []
        stale: list[pb.Stale] = []
        is_complete = False
        while True:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = await anext(messages, None)
            except TimeoutError:
                raise Unavailable("the auth service says nothing any more", reason="AUTH_SILENT") from None
            if message is None:
                return
            if is_complete:
                self._state.hear(message.keys, message.stale)
                continue
            keys += message.keys
            stale += message.stale
            if message.revision:
                self._state.begin(keys, stale)
                is_complete = True
