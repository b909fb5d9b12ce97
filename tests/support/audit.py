"""An audit log in memory."""

import asyncio
from collections.abc import Sequence

from libs.common.audit import Event


class KeptAuditLog:
    """Keeps what is written.

    Attributes:
        events: All that was written, in order.
        error: Raised instead of keeping anything.
        gate: Writing waits for it.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, event: Event) -> None:
        """As the test says."""
        await self.gate.wait()
        if self.error:
            raise self.error
        self.events.append(event)

    @property
    def told(self) -> Sequence[tuple[str, str, str]]:
        """Action, outcome and reason of each."""
        return [(one.action, one.outcome, one.reason) for one in self.events]
