"""The watch: services follow what makes access tokens void, and the keys that tokens are signed with.

The database is read at every notification, and each second in any case, so that nothing depends on notifications but how soon it is heard.
What is read in one statement is the newest revision with all changes up to it. A watcher is registered before its first state is read, so
that nothing falls between the two. While the database cannot be read nothing is told, and those who watch know that they know nothing new.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from services.auth.records import SigningKey, Stale

HEARTBEAT_SECONDS: Final = 1.0
# What fits into a message many times over.
MAX_STALE_AT_ONCE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Word:
    """What a watcher is told.

    Attributes:
        keys: All keys that tokens may be signed with; None where they did not change.
        stale: Whose older tokens are void.
        revision: Whoever has heard this knows of every change up to it.
    """

    keys: Sequence[SigningKey] | None
    stale: Sequence[Stale]
    revision: int


class Repository(Protocol):
    """What the watch asks of storage."""

    async def changes_since(self, revision: int) -> tuple[int, Sequence[Stale]]: ...
    async def list_signing_keys(self) -> Sequence[SigningKey]: ...


class Notifications(Protocol):
    """Tells when there is something new."""

    def events(self) -> AsyncIterator[str | None]: ...


class Watch:
    """All connected watchers."""

    def __init__(self, repository: Repository, notifications: Notifications) -> None:
        self._repository = repository
        self._notifications = notifications
        self._watchers: set[asyncio.Queue[Word]] = set()
        self._news = asyncio.Event()
        self._revision: int | None = None
        self._keys: Sequence[SigningKey] | None = None

    async def listen(self) -> None:
        """Hears notifications for ever."""
        async for _ in self._notifications.events():
            self._news.set()

    async def tell(self) -> None:
        """Waits for something new, at most until the next heartbeat, and tells every watcher."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await self._news.wait()
        # Before the database is read: what comes meanwhile is read again.
        self._news.clear()
        word = await self._next_word()
        for watcher in self._watchers:
            watcher.put_nowait(word)

    async def follow(self) -> AsyncGenerator[Word, None]:
        """The whole state, and then what is new. Revisions never fall."""
        mine: asyncio.Queue[Word] = asyncio.Queue()
        self._watchers.add(mine)
        try:
            keys = await self._repository.list_signing_keys()
            told, stale = await self._repository.changes_since(0)
            for part in _in_parts(Word(keys, stale, told), 0):
                yield part
            while True:
                word = await mine.get()
                for part in _in_parts(_news(word, told), told):
                    yield part
                told = max(told, word.revision)
        finally:
            self._watchers.discard(mine)

    async def _next_word(self) -> Word:
        keys = await self._repository.list_signing_keys()
        # Before the first word nobody was told anything by it: watchers have read all that was there.
        revision, stale = await self._repository.changes_since(self._revision or 0)
        word = Word(None if keys == self._keys else keys, stale, revision)
        self._revision, self._keys = revision, keys
        return word


def _news(word: Word, told: int) -> Word:
    """The word to a watcher that knows of every change up to a revision."""
    return Word(word.keys, [one for one in word.stale if one.revision > told], max(told, word.revision))


def _in_parts(word: Word, told: int) -> Iterator[Word]:
    """A word as messages that are not too large: only the last tells the revision, since only then all is known that it stands for."""
    parts = [word.stale[at : at + MAX_STALE_AT_ONCE] for at in range(0, len(word.stale), MAX_STALE_AT_ONCE)] or [[]]
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        yield Word(word.keys if number == 0 else None, part, word.revision if is_last else told)
