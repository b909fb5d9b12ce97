"""How things of the registry are called and described, and how callers name them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from libs.common.errors import Aborted, InvalidArgument, NotFound
from libs.common.ids import parse_uuid

NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
MAX_DESCRIPTION_CHARACTERS: Final = 1000


@dataclass(frozen=True, slots=True)
class Reference:
    """How a caller names a function or an environment: by id or by name."""

    id: UUID | None
    name: str

    @classmethod
    def of(cls, text: str, unknown: Callable[[str], NotFound]) -> "Reference":
        """A reference to whatever the text may mean.

        Args:
            text: An id or a name.
            unknown: The error for something that is not there.

        Raises:
            NotFound: it can mean nothing.
        """
        identity = parse_uuid(text)
        if identity is None and not NAME.fullmatch(text):
            raise unknown(text)
        return cls(identity, text)


def check_name(name: str) -> None:
    """Raises InvalidArgument unless the text may name something."""
    if not NAME.fullmatch(name):
        raise InvalidArgument.of("name", "must be 1 to 63 characters: lower-case letters, digits and hyphens, a letter first")
    if parse_uuid(name):
        raise InvalidArgument.of("name", "must not be the text of a UUID, which would be taken for an id")


def check_description(description: str) -> None:
    """Raises InvalidArgument unless the text may describe something."""
    if len(description) > MAX_DESCRIPTION_CHARACTERS:
        raise InvalidArgument.of("description", f"has {len(description)} characters; at most {MAX_DESCRIPTION_CHARACTERS} are taken")
    if "\0" in description:
        raise InvalidArgument.of("description", "has a NUL character; remove it")


def etag_of(identity: UUID, edition: int) -> str:
    """What a caller sends back to change only this edition of something."""
    return f"{identity.hex[-12:]}-{edition}"


def check_etag(what: str, etag: str, given: str) -> None:
    """Raises Aborted when something is no longer the edition that a caller has read; empty and `*` mean any.

    Args:
        what: Its kind.
        etag: That it has.
        given: That the caller gave.
    """
    if given not in ("", "*", etag):
        raise Aborted(f"the {what} has changed since it was read; read it again and repeat the change", reason="ETAG_MISMATCH")
