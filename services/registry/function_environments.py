"""Which environments a function reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from libs.common.errors import InvalidArgument, NotFound
from services.registry.access import Access
from services.registry.names import Reference

MAX_ENVIRONMENTS: Final = 10


@dataclass(frozen=True, slots=True)
class NamedEnvironment:
    """An environment as far as a function names it."""

    id: UUID
    name: str
    access: Access


def unknown_environment(reference: str) -> NotFound:
    """What a caller hears of an environment that is not there, or not there for it."""
    return NotFound(f"there is no environment {reference[:100]!r}", reason="ENVIRONMENT_NOT_FOUND")


def referred(texts: Sequence[str]) -> Sequence[Reference]:
    """The environments that a caller names for a function.

    Raises:
        InvalidArgument: there are too many, or one can be none.
    """
    if len(texts) > MAX_ENVIRONMENTS:
        raise _bad(f"has {len(texts)} entries; a function reads {MAX_ENVIRONMENTS} at most")
    try:
        return [Reference.of(text, unknown_environment) for text in texts]
    except NotFound as error:
        raise _bad(error.message) from None


def resolved(wanted: Sequence[Reference], found: Sequence[NamedEnvironment]) -> Sequence[UUID]:
    """Their ids, in the order in which they are read.

    Raises:
        InvalidArgument: one is not there, or there twice.
    """
    by_id, by_name = {one.id: one.id for one in found}, {one.name: one.id for one in found}
    ids: list[UUID] = []
    for reference in wanted:
        identity = (by_id.get(reference.id) if reference.id else None) or by_name.get(reference.name)
        if identity is None:
            raise _bad(unknown_environment(reference.name).message)
        if identity in ids:
            raise _bad(f"names {reference.name!r} twice")
        ids.append(identity)
    return ids


def _bad(message: str) -> InvalidArgument:
    return InvalidArgument.of("environments", message)
