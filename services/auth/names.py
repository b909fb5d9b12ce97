"""Names of users and groups, and how callers refer to them."""

import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from libs.common.errors import InvalidArgument, NotFound
from libs.common.ids import parse_uuid

NAME: Final = re.compile(r"[a-z][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Reference:
    """How a caller names a user or group: by id or by name."""

    id: UUID | None
    name: str | None

    @classmethod
    def of(cls, text: str) -> "Reference | None":
        """A reference to whatever the text may mean; None where it can mean nothing."""
        identity = parse_uuid(text)
        if identity:
            return cls(identity, None)
        return cls(None, text) if NAME.fullmatch(text) else None


def check_name(name: str) -> None:
    """Raises InvalidArgument unless the text may name a user or a group."""
    if not NAME.fullmatch(name):
        raise InvalidArgument.of(
            "name", "must be 1 to 63 characters: lower-case letters, digits, dots, underscores and hyphens, a letter first"
        )
    if parse_uuid(name):
        raise InvalidArgument.of("name", "must not be the text of a UUID, which would be taken for an id")


def unknown_user(reference: str) -> NotFound:
    """The error for a user that is not there."""
    return NotFound(f"there is no user {reference[:100]!r}", reason="USER_NOT_FOUND")


def unknown_group(reference: str) -> NotFound:
    """The error for a group that is not there."""
    return NotFound(f"there is no group {reference[:100]!r}", reason="GROUP_NOT_FOUND")
