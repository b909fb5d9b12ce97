"""How often a password may be tried: freely at first, and then after pauses that double.

Failures are counted by account and address, by address, and by account. The last would let anyone lock another out: it does not hold where
the account has signed in before. A try is counted before it is checked, and given back when it succeeds, so that tries that are made at
once are no more than tries one after the other, and nobody is spared by hanging up.
"""

import hashlib
import ipaddress
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from libs.common.errors import ResourceExhausted
from services.auth.changes import Clock
from services.auth.records import Tries
from services.auth.repository import TryRepository

MAX_PAUSE_SECONDS: Final = 900
# How long it is remembered where an account has signed in.
KNOWN_FOR: Final = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many failures cost no time, and how long failures count from the first on."""

    free: int
    span: timedelta

    def counted(self, tries: Tries, now: datetime) -> Tries:
        """The tries with one more, or the first of a new span."""
        if now - tries.began_at >= self.span or not tries.failures:
            return Tries(tries.key, 1, now, now)
        return Tries(tries.key, tries.failures + 1, tries.began_at, now)

    def seconds_to_wait(self, tries: Tries, now: datetime) -> float:
        """Until the next try is let through: after the last free failure 1 s, then 2, 4 and so on."""
        beyond = 0 if now - tries.began_at >= self.span else tries.failures - self.free
        if beyond <= 0:
            return 0
        pause = float(min(MAX_PAUSE_SECONDS, 1 << min(beyond - 1, 20)))
        return max(0.0, (tries.last_at - now).total_seconds() + pause)


BY_BOTH: Final = Allowance(5, timedelta(hours=24))
BY_ADDRESS: Final = Allowance(50, timedelta(hours=1))
BY_ACCOUNT: Final = Allowance(100, timedelta(hours=24))
LONGEST_SPAN: Final = max(one.span for one in (BY_BOTH, BY_ADDRESS, BY_ACCOUNT))


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try that was let through, by the keys of its counts."""

    both: bytes
    address: bytes
    account: bytes


class Throttle:
    """Lets tries through, or not."""

    def __init__(self, repository: TryRepository, clock: Clock) -> None:
        self._repository = repository
        self._clock = clock

    async def admit(self, account: str, address: str) -> Attempt:
        """Counts a try. Its outcome must be told, unless it failed.

        Args:
            account: A user's name, whether there is one or not.
            address: From where.

        Raises:
            ResourceExhausted: it is too early; the try does not count.
        """
        now, place = self._clock(), _place(address)
        attempt = Attempt(_key("both", account, place), _key("address", place), _key("account", account))
        allowances = {attempt.both: BY_BOTH, attempt.address: BY_ADDRESS, attempt.account: BY_ACCOUNT}
        exempt = attempt.account if await self._repository.is_known(attempt.both) else None
        async with self._repository.counting(sorted(allowances), now) as (transaction, counts):
            waits = [allowances[one.key].seconds_to_wait(one, now) for one in counts if one.key != exempt]
            if (wait := max(waits)) > 0:
                raise _refused(wait)
            for one in counts:
                await self._repository.set_count(transaction, allowances[one.key].counted(one, now))
        return attempt

    async def succeeded(self, attempt: Attempt) -> None:
        """It was the password: this account and address begin anew, and know each other."""
        await self._repository.note_success(attempt.both, self._clock())
        await self._repository.forget_failures(attempt.both)
        await self._repository.give_back(attempt.address)
        await self._repository.give_back(attempt.account)

    async def withdrawn(self, attempt: Attempt) -> None:
        """It was not checked."""
        for key in (attempt.both, attempt.address, attempt.account):
            await self._repository.give_back(key)


def _refused(wait: float) -> ResourceExhausted:
    seconds = math.ceil(wait)
    return ResourceExhausted(
        f"too many failed tries to sign in; the next may be made in {seconds} s", reason="TOO_MANY_FAILURES", retry_after=seconds
    )


def _place(address: str) -> str:
    """What counts as one address: of IPv6 a network of 64 bits, which is what one customer has at the least."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    if known.ipv4_mapped:
        return str(known.ipv4_mapped)
    return str(ipaddress.IPv6Network((known.packed[:8] + bytes(8), 64)))


def _key(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()
