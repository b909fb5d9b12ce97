"""The watch: nobody hears a revision before all that it stands for, and nobody is told that nothing happened when nobody knows."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime

import pytest

from libs.common.errors import Unavailable
from libs.common.ids import uuid7
from services.auth import watch as watching
from services.auth.records import SigningKey, Stale
from services.auth.watch import Watch, Word
from tests.support.waiting import until


class Repository:
    """Changes as a test makes them; reading them can be held up, or fail."""

    def __init__(self) -> None:
        self.revision = 1
        self.changes: list[Stale] = []
        self.keys = [signing_key()]
        self.reads = 0
        self.is_away = False
        self.may_read = asyncio.Event()
        self.may_read.set()

    def change(self) -> Stale:
        """One more."""
        self.revision += 1
        self.changes.append(Stale(uuid7(), self.revision))
        return self.changes[-1]

    async def changes_since(self, revision: int) -> tuple[int, Sequence[Stale]]:
        """As one statement sees them that begins now."""
        self.reads += 1
        seen = self.revision, [one for one in self.changes if one.revision > revision]
        if self.is_away:
            raise Unavailable("away")
        await self.may_read.wait()
        return seen

    async def list_signing_keys(self) -> Sequence[SigningKey]:
        """All of them."""
        return list(self.keys)


class Notifications:
    """As a test sends them."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[str | None] = asyncio.Queue()

    async def events(self) -> AsyncIterator[str | None]:
        """In the order of sending."""
        while True:
            yield await self.waiting.get()


class Auth:
    """A watch over both."""

    def __init__(self) -> None:
        self.repository, self.notifications = Repository(), Notifications()
        self.watch = Watch(self.repository, self.notifications)

    def change(self) -> Stale:
        """A change that is told."""
        made = self.repository.change()
        self.notifications.waiting.put_nowait("")
        return made


def signing_key() -> SigningKey:
    now = datetime.now(UTC)
    return SigningKey(str(uuid7()), bytes(32), b"sealed", now, now)


async def next_word(words: AsyncIterator[Word]) -> Word:
    return await asyncio.wait_for(anext(words), 5)


async def next_news(words: AsyncIterator[Word]) -> Word:
    """The next word that is no heartbeat."""
    async with asyncio.timeout(5):
        while not ((word := await next_word(words)).stale or word.keys):
            pass
        return word


@asynccontextmanager
async def running(auth: Auth) -> AsyncIterator[None]:
    async def tell() -> None:
        while True:
            await auth.watch.tell()

    tasks = [asyncio.create_task(auth.watch.listen()), asyncio.create_task(tell())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def auth() -> Auth:
    """Nothing runs yet."""
    return Auth()


async def test_the_first_word_is_the_whole_state(auth: Auth) -> None:
    changes = [auth.repository.change() for _ in range(3)]

    async with aclosing(auth.watch.follow()) as words:
        assert await next_word(words) == Word(auth.repository.keys, changes, 4)


async def test_changes_are_told_as_they_come_and_once(auth: Auth) -> None:
    async with running(auth), aclosing(auth.watch.follow()) as words:
        await next_word(words)
        for _ in range(3):
            made = auth.change()
            word = await next_news(words)
            assert (word.stale, word.revision) == ([made], made.revision)


async def test_a_change_while_the_first_state_is_read_is_not_lost(auth: Auth) -> None:
    auth.repository.may_read.clear()
    async with aclosing(auth.watch.follow()) as words:
        reading = asyncio.create_task(next_word(words))
        await until(lambda: auth.repository.reads > 0)
        made = auth.change()
        async with running(auth):
            auth.repository.may_read.set()
            first, news = await reading, await next_news(words)

    assert (first.stale, first.revision) == ([], 1)
    assert (news.stale, news.revision) == ([made], made.revision)


async def test_what_the_first_state_has_already_is_not_told_again_and_revisions_never_fall(auth: Auth) -> None:
    auth.repository.change()
    async with aclosing(auth.watch.follow()) as words:
        reading = asyncio.create_task(next_word(words))
        await until(lambda: auth.repository.reads > 0)
        # Told while the state was read, and read before it.
        auth.repository.revision, newest = 1, auth.repository.revision
        auth.notifications.waiting.put_nowait("")
        async with running(auth):
            first, second = await reading, await next_word(words)
            auth.repository.revision = newest

    assert (first.revision, second.stale) == (2, [])
    assert second.revision == 2


async def test_a_change_that_nobody_was_notified_of_is_told_with_the_next_heartbeat(auth: Auth) -> None:
    async with running(auth), aclosing(auth.watch.follow()) as words:
        await next_word(words)
        made = auth.repository.change()

        assert (await next_news(words)).stale == [made]


async def test_a_heartbeat_tells_the_newest_revision(auth: Auth) -> None:
    async with running(auth), aclosing(auth.watch.follow()) as words:
        await next_word(words)
        await next_word(words)
        auth.repository.revision = 7

        word = await next_word(words)

    assert word == Word(None, [], 7)


async def test_while_the_database_is_away_nothing_is_told(auth: Auth) -> None:
    async with aclosing(auth.watch.follow()) as words:
        await next_word(words)
        auth.repository.is_away = True
        auth.notifications.waiting.put_nowait("")

        with pytest.raises(Unavailable):
            await auth.watch.tell()
        hearing = asyncio.create_task(next_word(words))
        await asyncio.sleep(0)
        assert not hearing.done()
        auth.repository.is_away = False
        made = auth.repository.change()
        await auth.watch.tell()

        assert (await hearing).stale == [made]


async def test_new_keys_are_told_all_of_them_and_only_then(auth: Auth) -> None:
    async with running(auth), aclosing(auth.watch.follow()) as words:
        await next_word(words)
        await next_word(words)
        auth.repository.keys = [*auth.repository.keys, signing_key()]

        assert (await next_news(words)).keys == auth.repository.keys
        assert (await next_word(words)).keys is None


async def test_a_large_state_comes_in_parts_and_only_the_last_tells_its_revision(auth: Auth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_STALE_AT_ONCE", 2)
    changes = [auth.repository.change() for _ in range(5)]

    async with running(auth), aclosing(auth.watch.follow()) as words:
        first = [await next_word(words) for _ in range(3)]
        later = [auth.repository.change() for _ in range(3)]
        auth.notifications.waiting.put_nowait("")
        news = [await next_news(words) for _ in range(2)]

    assert [one for word in first for one in word.stale] == changes
    assert [word.revision for word in first] == [0, 0, 6]
    assert [bool(word.keys) for word in first] == [True, False, False]
    assert [one for word in news for one in word.stale] == later
    assert [word.revision for word in news] == [6, 9]


async def test_every_watcher_is_told_and_one_that_has_left_is_forgotten(auth: Auth) -> None:
    async with running(auth), aclosing(auth.watch.follow()) as one:
        async with aclosing(auth.watch.follow()) as other:
            await next_word(one)
            await next_word(other)
            made = auth.change()
            assert (await next_news(one)).stale == (await next_news(other)).stale == [made]

        made = auth.change()
        assert (await next_news(one)).stale == [made]
