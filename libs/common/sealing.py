"""Values at rest that nobody may read who has only the database: sealed with AES-256-GCM under a key from settings.

A sealed value names the key that it is sealed with, and belongs to one place: moved to another row it does not open. Several keys may be
known at once, so that one can be followed by another: new values are sealed with the first, and old ones say whether they should be again.
"""

import base64
import hashlib
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
# Each sealed value begins with the name of its key.
NAME_BYTES: Final = 8


class Unopenable(Exception):
    """A sealed value was changed, moved, or sealed with a key that is not known here."""


class Sealer:
    """Seals and opens.

    Args:
        keys: Each of 32 bytes; the first seals.

    Attributes:
        first_key: The name of that one.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a sealing key has {KEY_BYTES} bytes")
        self.first_key = _name(keys[0])
        self._keys = {_name(key): AESGCM(key) for key in keys}

    @property
    def keys(self) -> frozenset[bytes]:
        """The names of the keys."""
        return frozenset(self._keys)

    @staticmethod
    def size_of(sealed: bytes) -> int:
        """How many bytes a value has that is sealed."""
        return len(sealed) - NAME_BYTES - _NONCE_BYTES - _TAG_BYTES

    def seal(self, value: bytes, place: str) -> bytes:
        """Seals a value for one place.

        Args:
            value: What to seal.
            place: Where it will be, for instance `auth.signing_keys/<id>`; needed again to open it.
        """
        nonce = os.urandom(_NONCE_BYTES)
        return self.first_key + nonce + self._keys[self.first_key].encrypt(nonce, value, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """The value.

        Raises:
            Unopenable: it was changed, is of another place, or its key is not known here.
        """
        name, nonce, rest = sealed[:NAME_BYTES], sealed[NAME_BYTES : NAME_BYTES + _NONCE_BYTES], sealed[NAME_BYTES + _NONCE_BYTES :]
        key = self._keys.get(name)
        if key is None:
            raise Unopenable("it is sealed with a key that is not among those given")
        try:
            return key.decrypt(nonce, rest, place.encode())
        except (InvalidTag, ValueError):
            raise Unopenable("it was changed, or belongs to another place") from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether a value is sealed with the first key; one that is not should be sealed again."""
        return sealed[:NAME_BYTES] == self.first_key


def read_keys(text: str) -> list[bytes]:
    """The keys that a setting spells: base64 of 32 bytes each, separated by commas.

    Raises:
        ValueError: one is none.
    """
    keys = [base64.b64decode(part.strip(), validate=True) for part in text.split(",") if part.strip()]
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ValueError(f"must be base64 of {KEY_BYTES} random bytes, or several of these separated by commas")
    return keys


def _name(key: bytes) -> bytes:
    return hashlib.sha256(b"kiln sealing key" + key).digest()[:NAME_BYTES]
