"""Signing keys: made once, followed in time, removed when no token of theirs can live, and sealed."""

import asyncio

import jwt
import pytest

from libs.common.postgres import Database
from libs.common.sealing import Unopenable
from services.auth.signing_keys import PUBLISHED_AFTER, PUBLISHED_BEFORE
from tests.support.auth import SEALING_KEY, AuthWorld

OTHER_KEY = bytes(reversed(range(32)))


async def published(world: AuthWorld) -> list[str]:
    return [key.id for key in await world.repository.list_signing_keys()]


async def signs(world: AuthWorld, text: str) -> str:
    token, _ = await world.exchange.exchange(text, "")
    kid: str = jwt.get_unverified_header(token)["kid"]
    return kid


async def test_processes_that_start_at_once_make_one_key(database: Database) -> None:
    worlds = [AuthWorld(database) for _ in range(5)]

    await asyncio.gather(*(world.signing_keys.look_after() for world in worlds))

    (only,) = await published(worlds[0])
    for world in worlds:
        assert await world.signing_keys.private(only)
        world.passwords.close()


async def test_a_key_is_followed_by_one_that_was_published_before_it_signs(world: AuthWorld) -> None:
    key = (await world.key(world.root, days=365)).text
    (first,) = await published(world)

    world.clock.move(days=30, minutes=-11)
    await world.sweeper.sweep()
    assert await published(world) == [first]

    world.clock.move(minutes=1)
    await world.sweeper.sweep()
    _, second = await published(world)
    world.clock.move(seconds=PUBLISHED_BEFORE.total_seconds() - 1)
    assert await signs(world, key) == first

    world.clock.move(seconds=1)
    assert await signs(world, key) == second
    world.clock.move(seconds=PUBLISHED_AFTER.total_seconds() - 1)
    await world.sweeper.sweep()
    assert await published(world) == [first, second]

    world.clock.move(seconds=1)
    await world.sweeper.sweep()
    assert await published(world) == [second]
    assert await signs(world, key) == second


async def test_a_process_that_has_not_heard_of_a_key_signs_with_it_all_the_same(world: AuthWorld) -> None:
    other = AuthWorld(world.database, world.clock)
    await other.signing_keys.look_after()
    key = (await world.key(world.root, days=365)).text
    world.clock.move(days=30)
    await world.signing_keys.look_after()
    world.clock.move(minutes=10)
    _, second = await published(world)

    assert await signs(other, key) == second
    other.passwords.close()


async def test_after_a_long_pause_the_next_key_is_published_before_it_signs(world: AuthWorld) -> None:
    key = (await world.key(world.root, days=365)).text
    (first,) = await published(world)

    world.clock.move(days=100)
    await world.sweeper.sweep()

    assert len(await published(world)) == 2
    assert await signs(world, key) == first


async def test_an_older_sealing_key_is_still_known_and_what_it_sealed_is_sealed_again(world: AuthWorld, database: Database) -> None:
    key = (await world.key(world.root)).text
    kid = await signs(world, key)
    turning = AuthWorld(database, world.clock, [OTHER_KEY, SEALING_KEY])
    turned = AuthWorld(database, world.clock, [OTHER_KEY])
    with pytest.raises(Unopenable, match=kid):
        await turned.signing_keys.look_after()

    await turning.signing_keys.look_after()
    await turned.signing_keys.look_after()

    assert await signs(turned, key) == await signs(turning, key) == kid
    with pytest.raises(Unopenable):
        await AuthWorld(database, world.clock).signing_keys.look_after()
    for one in (turning, turned):
        one.passwords.close()


async def test_a_sealed_key_that_is_moved_to_another_row_is_not_opened(world: AuthWorld, database: Database) -> None:
    await database.execute("UPDATE auth.signing_keys SET id = 'another'")
    other = AuthWorld(database, world.clock)

    with pytest.raises(Unopenable, match="belongs to another place"):
        await other.signing_keys.look_after()
    other.passwords.close()
