"""Times as whole microseconds, which is what they are measured in."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def now_micros() -> int:
    """Now, as whole microseconds since 1970."""
    return time.time_ns() // 1000


def micros_of(moment: datetime) -> int:
    """A time as whole microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(micros: int) -> datetime:
    """The time that `micros_of` was given."""
    return _EPOCH + timedelta(microseconds=micros)
