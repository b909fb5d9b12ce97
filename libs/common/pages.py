"""Pages of a list (AIP-158): newest first by a keyset, never by an offset, so that concurrent inserts neither repeat nor hide a row."""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import orjson

from libs.common.errors import InvalidArgument

DEFAULT_SIZE: Final = 50
MAX_SIZE: Final = 1000

T = TypeVar("T")
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for.

    Attributes:
        size: At most so many things.
        after: The key of the last thing of the page before; None for the first page.
        scope: What the list was filtered by; a token of another list is refused.
    """

    size: int
    after: str | None
    scope: str

    def key(self, read: Callable[[str], Key | None]) -> Key | None:
        """The key of the last thing of the page before, as the list's own rows have it; None for the first page.

        Args:
            read: Makes a key of its text; None or a ValueError where the text spells none.

        Raises:
            InvalidArgument: the text spells none: the token was made up.
        """
        if self.after is None:
            return None
        try:
            key = read(self.after)
        except ValueError:
            key = None
        if key is None:
            raise _refused()
        return key

    def token(self, last_key: str) -> str:
        """The token of the next page."""
        return base64.urlsafe_b64encode(orjson.dumps([self.scope, last_key])).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One page of things, and the token of the next; empty on the last."""

    items: Sequence[T]
    next_page_token: str


def page_of(size: int, token: str, *scope: object) -> Page:
    """The page that a request asks for.

    Args:
        size: 0 gives the default, above the maximum gives the maximum.
        token: From the page before, or empty.
        scope: All other arguments of the list.

    Raises:
        InvalidArgument: the size is negative, or the token is not one of this list.
    """
    if size < 0:
        raise InvalidArgument.of("page_size", "must not be negative")
    digest = hashlib.sha256(repr(scope).encode()).hexdigest()[:12]
    return Page(min(size or DEFAULT_SIZE, MAX_SIZE), _cursor(token, digest) if token else None, digest)


def listing(page: Page, rows: Sequence[T], key: Callable[[T], str]) -> Listing[T]:
    """The page's things from one more row than it holds, which tells whether there is a next page."""
    items = rows[: page.size]
    return Listing(items, page.token(key(items[-1])) if len(rows) > page.size else "")


def _cursor(token: str, scope: str) -> str:
    try:
        given = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError):
        raise _refused() from None
    if not (isinstance(given, list) and len(given) == 2 and all(isinstance(part, str) for part in given) and given[0] == scope):
        raise _refused()
    cursor: str = given[1]
    return cursor


def _refused() -> InvalidArgument:
    return InvalidArgument.of("page_token", "is not a token of this list; take it from the page before, with the same filters")
