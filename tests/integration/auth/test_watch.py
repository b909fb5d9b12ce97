"""The watch over PostgreSQL: no gap while changes are made from several processes at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from uuid import UUID

from libs.common.ids import uuid7
from libs.common.postgres import Database, Listener, open_database
from services.auth.repository import CHANGES_CHANNEL
from services.auth.watch import Watch, Word
from tests.support.auth import AuthWorld, caller_of
from tests.support.waiting import until


@asynccontextmanager
async def process(url: str) -> AsyncIterator[tuple[AuthWorld, Watch]]:
    """The domain and the watch of one process on a database."""
    async with open_database(url, name="test") as database:
        world = AuthWorld(database)
        watch = Watch(world.repository, Listener(url, CHANGES_CHANNEL))

        async def tell() -> None:
            while True:
                await watch.tell()

        tasks = [asyncio.create_task(watch.listen()), asyncio.create_task(tell())]
        try:
            yield world, watch
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            world.passwords.close()


class Watcher:
    """Hears everything, and when."""

    def __init__(self, watch: Watch) -> None:
        self.words: list[Word] = []
        self.listening = asyncio.create_task(self._listen(watch))

    @property
    def revision(self) -> int:
        """The newest that was told."""
        return self.words[-1].revision if self.words else 0

    async def _listen(self, watch: Watch) -> None:
        async with aclosing(watch.follow()) as words:
            async for word in words:
                self.words.append(word)

    async def stop(self) -> None:
        """Leaves."""
        self.listening.cancel()
        await asyncio.gather(self.listening, return_exceptions=True)


async def test_whoever_has_heard_a_revision_has_heard_of_every_change_up_to_it(database_url: str) -> None:
    made: list[tuple[UUID, int]] = []
    subjects = [uuid7() for _ in range(20)]
    watchers: list[Watcher] = []

    async def change(world: AuthWorld, seed: int) -> None:
        for number in range(40):
            some = {subjects[(seed * 7 + number * 3 + step) % len(subjects)] for step in range(3)}
            async with world.repository.change() as store:
                await store.announce(list(some))
                # Some wait inside, so that commits and the beginnings of transactions come in different orders.
                await asyncio.sleep(0.001 * (number % 3))
                made.extend((subject, store.revision) for subject in some)

    async def join(watch: Watch) -> None:
        for _ in range(5):
            watchers.append(Watcher(watch))
            await asyncio.sleep(0.02)

    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(process(database_url)) for _ in range(3)]
        await asyncio.gather(*(change(world, seed) for seed, (world, _) in enumerate(processes)), *(join(watch) for _, watch in processes))
        last = max(revision for _, revision in made)
        await until(lambda: all(watcher.revision >= last for watcher in watchers))
        for watcher in watchers:
            await watcher.stop()

    for watcher in watchers:
        revisions = [word.revision for word in watcher.words]
        assert revisions == sorted(revisions)
        heard: dict[UUID, int] = {}
        for word in watcher.words:
            heard.update({one.id: one.revision for one in word.stale})
            assert all(heard.get(subject, 0) >= revision for subject, revision in made if revision <= word.revision)
            assert all(one.revision <= word.revision for one in word.stale)


async def test_what_one_process_changes_watchers_of_another_hear_by_notification(database_url: str) -> None:
    async with process(database_url) as (here, _), process(database_url) as (_, there):
        await here.set_up()
        user = await here.user("ada")
        watcher = Watcher(there)
        await until(lambda: watcher.revision > 0)
        heartbeats = len(watcher.words)

        await here.update(user, disabled=True)
        await until(lambda: any(one.id == user.id for word in watcher.words for one in word.stale))
        await watcher.stop()

    # At most one heartbeat was due meanwhile: it did not wait for one.
    assert len(watcher.words) <= heartbeats + 2


async def test_all_that_ends_a_credential_is_told(database_url: str) -> None:
    async with process(database_url) as (world, watch):
        await world.set_up()
        ada, bob = await world.user("ada"), await world.user("bob")
        await world.groups.create(world.root, "crew", "")
        await world.groups.add_member(world.root, "crew", "bob")
        one, two = await world.login(ada), await world.login(ada)
        revoked, rotated = await world.key(caller_of(ada)), await world.key(caller_of(ada))
        watcher = Watcher(watch)
        await until(lambda: watcher.revision > 0)

        await world.sessions.logout(one.caller)
        await world.sessions.delete(world.root, str(two.session.id))
        await world.api_keys.revoke(world.root, str(revoked.api_key.id))
        await world.api_keys.rotate(world.root, str(rotated.api_key.id), 0, None)
        await world.groups.delete(world.root, "crew")
        await world.users.delete(world.root, "ada")
        expected = {one.session.id, two.session.id, revoked.api_key.id, rotated.api_key.id, bob.id, ada.id}
        await until(lambda: expected <= {found.id for word in watcher.words[1:] for found in word.stale})
        await watcher.stop()


async def test_what_no_token_can_be_older_than_is_forgotten(world: AuthWorld, database: Database) -> None:
    old, new = await world.user("old"), await world.user("new")
    await world.update(old, disabled=True)
    await world.update(new, disabled=True)
    await database.execute("UPDATE auth.changes SET changed_at = now() - interval '901 seconds' WHERE subject_id = $1", old.id)
    await database.execute("UPDATE auth.changes SET changed_at = now() - interval '890 seconds' WHERE subject_id = $1", new.id)
    newest, _ = await world.repository.changes_since(0)

    await world.sweeper.sweep()

    revision, kept = await world.repository.changes_since(0)
    assert revision == newest
    assert [one.id for one in kept] == [new.id]


async def test_new_keys_are_told_by_notification_before_they_sign(database_url: str) -> None:
    async with process(database_url) as (world, watch):
        await world.set_up()
        watcher = Watcher(watch)
        await until(lambda: watcher.revision > 0)

        world.clock.move(days=30)
        await world.sweeper.sweep()

        await until(lambda: any(len(word.keys or ()) == 2 for word in watcher.words))
        assert len(await world.repository.list_signing_keys()) == 2
        await watcher.stop()
