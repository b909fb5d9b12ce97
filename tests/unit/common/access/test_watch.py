"""What a service knows of access tokens, and how it hears of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from kiln.auth.v1 import auth_pb2 as pb

from libs.common.access import watch
from libs.common.access.access_tokens import AccessToken
from libs.common.access.principal import Principal
from libs.common.access.watch import TokenState, TokenWatch
from libs.common.errors import Unavailable
from tests.support.access import Clock, Signer, stale
from tests.support.callers import dev

SIGNER, NEXT = Signer("key-1"), Signer("key-2")


def token(principal: Principal, revision: int) -> AccessToken:
    return AccessToken(principal, revision, time.time() + 300)


# What is known


def test_nothing_is_known_before_anything_was_heard() -> None:
    state = TokenState(Clock())

    assert (state.silent_seconds, state.keys) == (None, {})
    assert not state.is_stale(token(dev(), 0))


def test_silence_is_counted_from_what_was_heard_last() -> None:
    clock = Clock()
    state = SIGNER.state(clock)

    clock.move(2)
    before = state.silent_seconds
    state.hear([], [])
    clock.move(0.5)

    assert before == pytest.approx(2)
    assert state.silent_seconds == pytest.approx(0.5)


@pytest.mark.parametrize("changed", ["user", "session", "api_key"])
def test_a_token_is_stale_once_its_user_session_or_key_changed_after_it_was_made(changed: str) -> None:
    principal = dev(id="user", session="session" * (changed != "api_key"), api_key="api_key" * (changed == "api_key"))
    state = SIGNER.state()

    state.hear([], stale(changed, 7))

    assert state.is_stale(token(principal, 6))
    assert not state.is_stale(token(principal, 7))
    assert not state.is_stale(token(principal, 8))


def test_what_changed_of_others_makes_no_token_stale() -> None:
    state = SIGNER.state()

    state.hear([], stale("another", 99))

    assert not state.is_stale(token(dev(id="user", session="s"), 1))


def test_a_group_that_changed_is_told_by_its_members() -> None:
    state = SIGNER.state()

    state.hear([], stale("group", 99))

    assert not state.is_stale(token(dev(groups=frozenset({"group"})), 1))


def test_news_are_added_and_a_heartbeat_forgets_nothing() -> None:
    state = SIGNER.state()

    state.hear([], stale("a", 5))
    state.hear([], stale("b", 6))
    state.hear([], [])

    assert state.is_stale(token(dev(id="a"), 4))
    assert state.is_stale(token(dev(id="b"), 5))
    assert set(state.keys) == {"key-1"}


def test_keys_that_are_told_take_the_place_of_those_before() -> None:
    state = SIGNER.state()

    state.hear([SIGNER.jwk, NEXT.jwk], [])
    both = set(state.keys)
    state.hear([NEXT.jwk], [])

    assert both == {"key-1", "key-2"}
    assert set(state.keys) == {"key-2"}
    assert state.keys["key-2"].public_bytes_raw() == NEXT.key.public_key().public_bytes_raw()


def test_a_snapshot_takes_the_place_of_everything() -> None:
    state = SIGNER.state()
    state.hear([], stale("a", 5))

    state.begin([NEXT.jwk], stale("b", 6))

    assert not state.is_stale(token(dev(id="a"), 1))
    assert state.is_stale(token(dev(id="b"), 1))
    assert set(state.keys) == {"key-2"}


def test_of_many_changes_those_are_forgotten_that_no_living_token_can_be_older_than() -> None:
    clock = Clock()
    state = SIGNER.state(clock)
    state.hear([], (pb.Stale(id=f"old-{number}", revision=9) for number in range(1500)))
    clock.move(400)
    state.hear([], (pb.Stale(id=f"young-{number}", revision=9) for number in range(10)))
    kept = state.is_stale(token(dev(id="old-1"), 1))

    clock.move(201)
    state.hear([], [])

    assert kept
    assert not state.is_stale(token(dev(id="old-1"), 1))
    assert state.is_stale(token(dev(id="young-1"), 1))
    assert len(state._stale) == 10


# How it is heard


class Stream:
    """`WatchTokens` as a test says."""

    def __init__(self, answers: Iterable[pb.WatchTokensResponse], *, then_hang: bool = False) -> None:
        self._answers = answers
        self._then_hang = then_hang
        self.asked = 0
        self.closed = asyncio.Event()

    def WatchTokens(self, request: Any) -> AsyncIterator[pb.WatchTokensResponse]:  # noqa: N802 - gRPC's name
        """A stream."""
        self.asked += 1
        return self._stream()

    async def _stream(self) -> AsyncIterator[pb.WatchTokensResponse]:
        try:
            for answer in self._answers:
                yield answer
            if self._then_hang:
                await asyncio.Event().wait()
        finally:
            self.closed.set()


def told(*keys: pb.JsonWebKey, **changed: int) -> pb.WatchTokensResponse:
    return pb.WatchTokensResponse(keys=keys, stale=[pb.Stale(id=name, revision=revision) for name, revision in changed.items()], revision=9)


async def test_a_stream_begins_with_everything_and_goes_on_with_changes() -> None:
    state = NEXT.state()
    state.hear([], stale("before", 5))

    await TokenWatch(Stream([told(SIGNER.jwk, a=3), told(b=4), told(), told(SIGNER.jwk, NEXT.jwk)]), state).follow()

    assert set(state.keys) == {"key-1", "key-2"}
    assert state.is_stale(token(dev(id="a"), 2))
    assert state.is_stale(token(dev(id="b"), 3))
    assert not state.is_stale(token(dev(id="before"), 1))


async def test_each_stream_begins_anew() -> None:
    state = TokenState()
    watching = TokenWatch(Stream([told(SIGNER.jwk, a=3)]), state)

    await watching.follow()
    state.hear([NEXT.jwk], stale("between", 4))
    await watching.follow()

    assert set(state.keys) == {"key-1"}
    assert not state.is_stale(token(dev(id="between"), 1))


async def test_a_stream_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SILENCE_SECONDS", 0.2)
    stream, state = Stream([told(SIGNER.jwk)], then_hang=True), TokenState()

    with pytest.raises(Unavailable) as caught:
        await asyncio.wait_for(TokenWatch(stream, state).follow(), 5)

    assert caught.value.reason == "AUTH_SILENT"
    assert stream.closed.is_set()
    # What was known is kept: how old it is can be told.
    assert set(state.keys) == {"key-1"}


async def test_a_stream_that_never_says_anything_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SILENCE_SECONDS", 0.1)
    state = SIGNER.state()
    state.hear([], stale("a", 5))

    with pytest.raises(Unavailable):
        await TokenWatch(Stream([], then_hang=True), state).follow()

    assert state.is_stale(token(dev(id="a"), 4))
