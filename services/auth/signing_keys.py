"""The keys that access tokens are signed with: made, followed by others, and removed.

A new key is published for a while before it signs, so that every service knows it by then. It stays published for a while after the next
one signs, so that its last tokens are still taken. Private parts are sealed.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from libs.common.errors import Unavailable
from libs.common.ids import uuid7
from libs.common.logs import logger
from libs.common.sealing import Sealer, Unopenable
from services.auth.changes import Clock
from services.auth.records import SigningKey
from services.auth.repository import AuthRepository, Store

# Services hear of it within seconds; those that were away ask again when they start.
PUBLISHED_BEFORE: Final = timedelta(minutes=10)
# Twice as long as tokens live.
PUBLISHED_AFTER: Final = timedelta(minutes=10)


class SigningKeys:
    """The keys of one installation, which any number of processes share.

    Args:
        repository: Where they are.
        sealer: Seals private parts.
        clock: The time.
        lifetime: How long one signs.
    """

    def __init__(self, repository: AuthRepository, sealer: Sealer, clock: Clock, lifetime: timedelta) -> None:
        self._repository = repository
        self._sealer = sealer
        self._clock = clock
        self._lifetime = lifetime
        self._opened: dict[str, Ed25519PrivateKey] = {}

    async def look_after(self) -> None:
        """Makes the first key or the next one, seals again what an older sealing key has sealed, and removes what is no longer needed.

        Raises:
            Unopenable: a key was sealed with a sealing key that is not known here.
        """
        found = await self._repository.list_signing_keys()
        if self._is_due(found):
            async with self._repository.change() as store:
                # Another process may have been first.
                await self._bring_up_to_date(store, await store.list_signing_keys())
            found = await self._repository.list_signing_keys()
        self._opened = {key.id: self._opened.get(key.id) or self._open(key) for key in found}

    async def private(self, identity: str) -> Ed25519PrivateKey:
        """The key of an id, which is one that signs now.

        Raises:
            Unavailable: there is none.
        """
        if identity not in self._opened:
            self._opened = {key.id: self._open(key) for key in await self._repository.list_signing_keys()}
        if identity not in self._opened:
            raise Unavailable("there is no key to sign with yet; try again", reason="NO_SIGNING_KEY", retry_after=1)
        return self._opened[identity]

    def _is_due(self, keys: Sequence[SigningKey]) -> bool:
        return self._next_is_due(keys) or bool(self._outdated(keys)) or not all(self._sealer.is_current(key.sealed_private) for key in keys)

    def _next_is_due(self, keys: Sequence[SigningKey]) -> bool:
        return not keys or self._clock() >= keys[-1].signs_from + self._lifetime - PUBLISHED_BEFORE

    def _outdated(self, keys: Sequence[SigningKey]) -> Sequence[SigningKey]:
        return [key for key, following in pairwise(keys) if following.signs_from + PUBLISHED_AFTER <= self._clock()]

    async def _bring_up_to_date(self, store: Store, keys: Sequence[SigningKey]) -> None:
        outdated = self._outdated(keys)
        for key in outdated:
            await store.delete_signing_key(key.id)
            logger().info("signing_key_removed", key=key.id)
        for key in keys:
            if key not in outdated and not self._sealer.is_current(key.sealed_private):
                await store.reseal_signing_key(key.id, self._sealer.seal(self._unsealed(key), _place(key.id)))
                logger().info("signing_key_sealed_again", key=key.id)
        if self._next_is_due(keys):
            now = self._clock()
            new = self._new(now, now + PUBLISHED_BEFORE if keys else now)
            await store.insert_signing_key(new)
            logger().info("signing_key_made", key=new.id, signs_from=new.signs_from.isoformat())
        await store.notify()

    def _new(self, now: datetime, signs_from: datetime) -> SigningKey:
        identity, private = str(uuid7()), Ed25519PrivateKey.generate()
        raw = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return SigningKey(identity, public, self._sealer.seal(raw, _place(identity)), now, signs_from)

    def _open(self, key: SigningKey) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._unsealed(key))

    def _unsealed(self, key: SigningKey) -> bytes:
        try:
            return self._sealer.open(key.sealed_private, _place(key.id))
        except Unopenable as error:
            raise Unopenable(f"the signing key {key.id} cannot be opened: {error}") from None


def _place(identity: str) -> str:
    return f"auth.signing_keys/{identity}"
