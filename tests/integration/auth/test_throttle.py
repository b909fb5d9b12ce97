"""How often a password may be tried, by a clock of the test's."""

import asyncio
from collections.abc import Iterator

from libs.common.errors import ResourceExhausted
from libs.common.postgres import Database
from services.auth.throttle import Attempt
from tests.integration.auth.refusals import refusal
from tests.support.auth import AuthWorld

ADDRESS = "192.0.2.1"


def addresses() -> Iterator[str]:
    """Addresses, each another one's."""
    return (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(1 << 24))


async def pause(world: AuthWorld, account: str = "ada", address: str = ADDRESS) -> float:
    """How long a try is told to wait; 0 when it is let through, and has failed."""
    try:
        await world.throttle.admit(account, address)
    except ResourceExhausted as error:
        return error.retry_after or -1
    return 0


async def succeed(world: AuthWorld, account: str, address: str = ADDRESS) -> Attempt:
    attempt = await world.throttle.admit(account, address)
    await world.throttle.succeeded(attempt)
    return attempt


async def failed(world: AuthWorld, times: int, account: str = "ada", address: str = ADDRESS) -> None:
    for _ in range(times):
        assert await pause(world, account, address) == 0


async def test_five_failures_are_free_and_then_pauses_double(world: AuthWorld) -> None:
    await failed(world, 6)

    pauses = []
    for _ in range(13):
        pauses.append(await pause(world))
        world.clock.move(seconds=pauses[-1])
        assert await pause(world) == 0

    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]


async def test_a_refused_try_does_not_count_and_its_pause_gets_shorter(world: AuthWorld) -> None:
    await failed(world, 6)
    world.clock.move(seconds=1)
    await failed(world, 1)

    for _ in range(20):
        assert await pause(world) == 2
    world.clock.move(seconds=1.5)

    assert await pause(world) == 1
    world.clock.move(seconds=0.5)
    assert await pause(world) == 0


async def test_who_signs_in_has_a_clean_slate(world: AuthWorld) -> None:
    for _ in range(4):
        await failed(world, 5)
        await succeed(world, "ada")

    assert await world.database.fetchval("SELECT sum(failures) FROM auth.login_failures") == 2 * 20


async def test_tries_that_are_made_at_once_are_no_more_than_one_after_the_other(world: AuthWorld) -> None:
    outcomes = await asyncio.gather(*(pause(world) for _ in range(40)))

    assert sum(not one for one in outcomes) == 6


async def test_what_was_not_checked_is_no_failure(world: AuthWorld) -> None:
    for _ in range(30):
        await world.throttle.withdrawn(await world.throttle.admit("ada", ADDRESS))

    await failed(world, 6)


async def test_one_address_has_fifty_failures_an_hour_whatever_the_accounts(world: AuthWorld) -> None:
    for number in range(51):
        await failed(world, 1, f"user{number}")

    assert await pause(world, "somebody") == 1
    assert await pause(world, "somebody", "192.0.2.2") == 0
    world.clock.move(hours=1)
    for number in range(51):
        await failed(world, 1, f"user{number}")
    assert await pause(world, "somebody") == 1


async def test_whoever_has_a_network_of_ipv6_has_one_address(world: AuthWorld) -> None:
    for number in range(6):
        await failed(world, 1, address=f"2001:db8:1:2::{number}")

    assert await pause(world, address="2001:db8:1:2:ffff::1") == 1
    assert await pause(world, address="2001:DB8:1:2::7%eth0") == 1
    assert await pause(world, address="2001:db8:1:3::") == 0


async def test_an_address_of_ipv4_is_one_in_either_form(world: AuthWorld) -> None:
    await failed(world, 6)

    assert await pause(world, address=f"::ffff:{ADDRESS}") == 1


async def test_where_nobody_knows_the_address_the_rules_hold_too(world: AuthWorld) -> None:
    await failed(world, 6, address="")

    assert await pause(world, address="") == 1


async def test_one_account_has_a_hundred_failures_from_wherever_they_come(world: AuthWorld) -> None:
    others = addresses()
    for _ in range(101):
        await failed(world, 1, address=next(others))

    assert await pause(world, address=next(others)) == 1
    assert await pause(world, "bob", next(others)) == 0
    world.clock.move(hours=24)
    assert await pause(world, address=next(others)) == 0


async def test_nobody_is_locked_out_from_where_it_has_signed_in_before(world: AuthWorld, database: Database) -> None:
    await succeed(world, "ada", "198.51.100.1")
    others = addresses()
    for _ in range(110):
        if wait := await pause(world, address=next(others)):
            world.clock.move(seconds=wait)
            await failed(world, 1, address=next(others))

    assert await pause(world, address=next(others)) > 60
    await succeed(world, "ada", "198.51.100.1")
    assert await pause(world, address=next(others)) > 60
    await failed(world, 6, address="198.51.100.1")
    assert await pause(world, address="198.51.100.1") == 1


async def test_where_an_account_signs_in_no_other_is_known(world: AuthWorld) -> None:
    await succeed(world, "bob", "198.51.100.1")
    others = addresses()
    for _ in range(101):
        await failed(world, 1, address=next(others))

    assert await pause(world, address="198.51.100.1") == 1


async def test_failures_are_forgotten_after_a_day(world: AuthWorld) -> None:
    await failed(world, 6)
    world.clock.move(hours=24)

    await failed(world, 6)
    assert await pause(world) == 1


async def test_counts_do_not_stay_for_ever(world: AuthWorld, database: Database) -> None:
    await succeed(world, "ada")
    await failed(world, 3)

    async def kept() -> tuple[int, int]:
        await world.sweeper.sweep()
        return (
            await database.fetchval("SELECT count(*) FROM auth.login_failures"),
            await database.fetchval("SELECT count(*) FROM auth.login_successes"),
        )

    world.clock.move(hours=23)
    assert await kept() == (3, 1)
    world.clock.move(hours=2)
    assert await kept() == (0, 1)
    world.clock.move(days=90)
    assert await kept() == (0, 0)


async def test_a_refused_try_is_not_checked_and_says_when_to_come_back(world: AuthWorld) -> None:
    user = await world.user("ada")
    await failed(world, 6, "ada", "192.0.2.7")
    checks = world.passwords.checks

    error = await refusal(ResourceExhausted, world.login(user))

    assert (error.reason, error.retry_after, world.passwords.checks) == ("TOO_MANY_FAILURES", 1, checks)
    world.clock.move(seconds=1)
    assert (await world.login(user)).caller.name == "ada"


async def test_two_processes_count_together(world: AuthWorld) -> None:
    other = AuthWorld(world.database, world.clock)
    await failed(world, 3)
    await failed(other, 3)

    assert await pause(world) == await pause(other) == 1
    other.passwords.close()
