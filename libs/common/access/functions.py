"""Functions as callers reach them: those that they may not access are to them as those that are not there, to the letter."""

from libs.common.access.principal import Guarded, Principal, can_access
from libs.common.errors import NotFound


def can_access_function(principal: Principal, identity: str, function: Guarded) -> bool:
    """Whether a caller may know of a function, which its key may be narrowed to or not."""
    return (not principal.functions or identity in principal.functions) and can_access(principal, function)


def unknown_function(reference: str) -> NotFound:
    """What a caller hears of a function that is not there, or not there for it."""
    return NotFound(f"there is no function {reference[:100]!r}", reason="FUNCTION_NOT_FOUND")
