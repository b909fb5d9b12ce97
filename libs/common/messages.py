"""What servicers read from messages and write into them."""

from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from libs.common.errors import InvalidArgument
from libs.common.times import micros_of


def given(message: Message, field: str) -> Any:
    """The value of an optional field, or None."""
    return getattr(message, field) if message.HasField(field) else None


def given_texts(message: Message, field: str) -> list[str] | None:
    """The texts of a `ListValue` that may be absent.

    Raises:
        InvalidArgument: it holds something else.
    """
    values = given(message, field)
    if values is None:
        return None
    if not all(isinstance(value, str) for value in values):
        raise InvalidArgument.of(field, "must be a list of texts")
    return list(values)


def moment_given(message: Message, field: str) -> datetime | None:
    """The time in a field of a request, or None.

    Raises:
        InvalidArgument: it is none that a calendar has.
    """
    if not message.HasField(field):
        return None
    stamp: Timestamp = getattr(message, field)
    try:
        return stamp.ToDatetime(UTC)
    except ValueError:
        raise InvalidArgument.of(field, "is no time between the years 1 and 9999") from None


def timestamp(moment: datetime | None) -> Timestamp | None:
    """A time as it travels."""
    return None if moment is None else Timestamp(**timestamp_of(micros_of(moment)))


def timestamp_of(micros: int | None) -> Any:
    """A time in microseconds as the fields of a `Timestamp`, which messages take for one: that costs half, and an execution has three."""
    if micros is None:
        return None
    seconds, rest = divmod(micros, 1_000_000)
    return {"seconds": seconds, "nanos": rest * 1000}
