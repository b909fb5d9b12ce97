"""Changes as callers make them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from libs.common.access.principal import Principal
from libs.common.errors import Unauthenticated
from services.auth.repository import AuthRepository, Store

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


@asynccontextmanager
async def change_by(repository: AuthRepository, caller: Principal, now: datetime) -> AsyncIterator[Store]:
    """A change that a caller makes, if it still is who its access token says: tokens are believed for some seconds too long, which must
    not be enough to make oneself another user or key.

    Raises:
        Unauthenticated: it is no longer.
    """
    async with repository.change() as store:
        # Where nobody is asked who calls (KILN_AUTH=off), callers have no id.
        if caller.id and not await store.caller_stands(caller, now):
            raise Unauthenticated("the caller's session, API key or user has ended or changed meanwhile", reason="BAD_TOKEN")
        yield store
