"""Times as whole microseconds, which is what they are measured in."""

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def micros_of(moment: datetime) -> int:
    """A time as whole microseconds since 1970."""
    return (moment - EPOCH) // _MICROSECOND


def moment_of(micros: int) -> datetime:
    """The time that `micros_of` was given."""
    return EPOCH + timedelta(microseconds=micros)
