"""Who may access a function: lists of users and groups, by their ids."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from libs.common.errors import InvalidArgument
from libs.common.ids import parse_uuid

MAX_ENTRIES: Final = 100


@dataclass(frozen=True, slots=True)
class Access:
    """Whose function it is to call. Both lists empty: everyone's who is signed in.

    Attributes:
        allowed_users: Ids of users, sorted.
        allowed_groups: Ids of groups, sorted.
    """

    allowed_users: Sequence[str] = ()
    allowed_groups: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class AccessPatch:
    """Lists as a caller sends them; None is absent, or stays."""

    allowed_users: Sequence[str] | None = None
    allowed_groups: Sequence[str] | None = None

    def applied(self, access: Access) -> Access:
        """The lists after a change.

        Raises:
            InvalidArgument: a list is too long, or has something that is no id.
        """
        return Access(
            access.allowed_users if self.allowed_users is None else _ids("allowed_users", self.allowed_users, "users"),
            access.allowed_groups if self.allowed_groups is None else _ids("allowed_groups", self.allowed_groups, "groups"),
        )


def _ids(field: str, given: Iterable[str], of_what: str) -> Sequence[str]:
    ids = sorted({text.lower() for text in given})
    if len(ids) > MAX_ENTRIES:
        raise InvalidArgument.of(field, f"has {len(ids)} ids; at most {MAX_ENTRIES} are taken: put users into groups")
    for text in ids:
        if parse_uuid(text) is None:
            raise InvalidArgument.of(field, f"must be ids of {of_what}, and {text[:100]!r} is none")
    return ids
