"""Passwords: bcrypt, in threads of their own."""

import asyncio
import base64
import hmac
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Final, TypeVar

import bcrypt

from libs.common.errors import FailedPrecondition, ResourceExhausted

# 2**12 rounds are a quarter of a second of one core.
COST: Final = 12
# bcrypt lets go of the interpreter: other calls go on beside, as long as a core is left to them.
THREADS: Final = 2
# More would wait longer than people do.
MAX_WAITING: Final = 16
_PURPOSE: Final = b"kiln password"

T = TypeVar("T")


class Passwords:
    """Hashes and checks, so many at once and no more.

    Args:
        cost: The logarithm of bcrypt's rounds.
        threads: How many are worked on at once.
        max_waiting: How many wait besides; beyond that a call is refused.
    """

    def __init__(self, *, cost: int = COST, threads: int = THREADS, max_waiting: int = MAX_WAITING) -> None:
        self._cost = cost
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="password")
        self._room = BoundedSemaphore(threads + max_waiting)
        # What those without a password are checked against: nobody knows what it is of.
        self._nobody = self._hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> bytes:
        """What is kept of a password.

        Raises:
            ResourceExhausted: too many wait.
        """
        return await self._run(lambda: self._hash(password))

    async def matches(self, password: str, kept: bytes | None) -> bool:
        """Whether a password is the one that a hash was kept of; without a hash it takes as long and is none.

        Raises:
            ResourceExhausted: too many wait.
        """
        hashed = self._nobody if kept is None else kept
        return await self._run(lambda: bcrypt.checkpw(_condensed(password), hashed)) and kept is not None

    def close(self) -> None:
        """Waits for what is being worked on; what waits is not begun."""
        self._pool.shutdown(cancel_futures=True)

    def _hash(self, password: str) -> bytes:
        return bcrypt.hashpw(_condensed(password), bcrypt.gensalt(self._cost))

    async def _run(self, work: Callable[[], T]) -> T:
        if not self._room.acquire(blocking=False):
            raise ResourceExhausted("too many are signing in at once", reason="LOGINS_BUSY", retry_after=1)
        future = self._pool.submit(work)
        # Not when the caller goes away: a thread that has begun is busy until it ends.
        future.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(future)


def no_password(name: str) -> FailedPrecondition:
    """What one hears who would change the password of a user that has none."""
    return FailedPrecondition(f"{name} signs in by an identity provider, and has no password here", reason="NO_PASSWORD")


def _condensed(password: str) -> bytes:
    """The password in 64 characters: bcrypt looks at 72 bytes at most, and none behind a NUL."""
    return base64.b64encode(hmac.digest(_PURPOSE, password.encode(), "sha384"))
