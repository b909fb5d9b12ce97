"""Modules that kill the workers they run in, kept out for a while: each death costs a worker's start, which others would wait for."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# A worker may be killed by anything once or twice, for instance by a system that runs out of memory.
_DEATHS: Final = 3


@dataclass(slots=True)
class _Suspect:
    deaths: int
    until: float


class Quarantine:
    """Who has killed workers, and who is kept out.

    A module is kept out once so many of its runs in a row have each killed a worker that they had to themselves. When its time is over it
    may try again: another death keeps it out at once, and a run that ends clears it.

    Args:
        seconds: How long a module is kept out.
        clock: The time in seconds; only differences matter.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._suspects: dict[str, _Suspect] = {}

    def blame(self, digest: str) -> None:
        """A run of a module has killed its worker."""
        now = self._clock()
        # Those not seen for long are forgotten here, so that there are never more than have just been blamed.
        self._suspects = {known: suspect for known, suspect in self._suspects.items() if now < suspect.until + self._seconds}
        suspect = self._suspects.setdefault(digest, _Suspect(0, now))
        suspect.deaths += 1
        suspect.until = now + self._seconds if suspect.deaths >= _DEATHS else now

    def clear(self, digest: str) -> None:
        """A run of a module has ended, and its worker lives."""
        if self._suspects:
            self._suspects.pop(digest, None)

    def seconds_left(self, digest: str) -> float:
        """How long a module is still kept out; 0 when it may run."""
        suspect = self._suspects.get(digest) if self._suspects else None
        return max(0.0, suspect.until - self._clock()) if suspect else 0.0
