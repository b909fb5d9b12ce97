"""What time does: signing keys follow each other, and what has ended is removed."""

from datetime import timedelta
from typing import Final

from services.auth.audit_events import AuditEvents
from services.auth.changes import Clock
from services.auth.repository import AuthRepository
from services.auth.signing_keys import SigningKeys
from services.auth.throttle import KNOWN_FOR, LONGEST_SPAN

# Three times as long as access tokens live.
CHANGES_KEPT: Final = timedelta(minutes=15)
# Lists of API keys tell for so long what has ended.
ENDED_KEYS_KEPT: Final = timedelta(days=30)


class Sweeper:
    """Periodic upkeep. Several processes may do it at once."""

    def __init__(
        self, repository: AuthRepository, signing_keys: SigningKeys, audit_events: AuditEvents, audit_kept: timedelta, clock: Clock
    ) -> None:
        self._repository = repository
        self._audit_events = audit_events
        self._audit_kept = audit_kept
        self._signing_keys = signing_keys
        self._clock = clock

    async def sweep(self) -> None:
        """Everything once."""
        await self._signing_keys.look_after()
        now = self._clock()
        await self._repository.purge_changes(CHANGES_KEPT.total_seconds())
        await self._repository.purge_sessions(now)
        await self._repository.purge_api_keys(now - ENDED_KEYS_KEPT)
        await self._repository.purge_spent_logins(now)
        await self._repository.purge_login_failures(now - LONGEST_SPAN)
        await self._repository.purge_login_successes(now - KNOWN_FOR)
        await self._audit_events.purge(now - self._audit_kept)
