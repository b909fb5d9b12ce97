"""What callers prove themselves by for long: API keys and the tokens of sessions. Both are `<prefix>_<id>_<secret><checksum>`.

A text that was mistyped or made up is told by its form and checksum, without asking anyone. Of the secret only a hash is kept: it has 192
random bits, so that a plain SHA-256 cannot be searched.
"""

import hashlib
import hmac
import secrets
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from libs.common.ids import uuid7

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_BYTES: Final = 24
# So many characters of the alphabet hold them, and a CRC-32.
_SECRET_LENGTH: Final = 33
_CHECKSUM_LENGTH: Final = 6
_ID_LENGTH: Final = 22


class Kind(StrEnum):
    """What a credential is, by its prefix."""

    API_KEY = "kiln"
    SESSION = "kilnsession"


_PREFIXES: Final = tuple(f"{kind}_" for kind in Kind)


@dataclass(frozen=True, slots=True)
class Credential:
    """A well-formed credential.

    Attributes:
        kind: What it is.
        id: Which one it claims to be.
        secret: What proves it. It is in no representation of this.
    """

    kind: Kind
    id: UUID
    secret: str

    def __repr__(self) -> str:
        return f"Credential({self.kind.name}, {self.id})"

    @property
    def text(self) -> str:
        """As its owner has it."""
        body = f"{self.kind}_{_encode(self.id.int, _ID_LENGTH)}_{self.secret}"
        return body + _checksum(body)

    @property
    def digest(self) -> bytes:
        """What is kept of its secret."""
        return hashlib.sha256(self.secret.encode("ascii")).digest()

    def matches(self, digest: bytes) -> bool:
        """Whether a kept digest is of its secret; takes as long whichever byte differs."""
        return hmac.compare_digest(self.digest, digest)


def new_credential(kind: Kind) -> Credential:
    """A new one, with an id of its own."""
    return Credential(kind, uuid7(), _encode(int.from_bytes(secrets.token_bytes(_SECRET_BYTES), "big"), _SECRET_LENGTH))


def parse_credential(text: str) -> Credential | None:
    """The credential that a text is; None for one that nobody can have been given."""
    body, checksum = text[:-_CHECKSUM_LENGTH], text[-_CHECKSUM_LENGTH:]
    prefix, _, rest = body.partition("_")
    identity, _, secret = rest.partition("_")
    if prefix not in tuple(Kind) or len(identity) != _ID_LENGTH or len(secret) != _SECRET_LENGTH or not _is_encoded(identity + secret):
        return None
    number = _decode(identity)
    if checksum != _checksum(body) or number >= 1 << 128:
        return None
    return Credential(Kind(prefix), UUID(int=number), secret)


def looks_like_credential(text: str) -> bool:
    """Whether a text means to be a credential of Kiln's, and no token."""
    return text.startswith(_PREFIXES)


def _checksum(body: str) -> str:
    return _encode(zlib.crc32(body.encode("ascii")), _CHECKSUM_LENGTH)


def _encode(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def _decode(text: str) -> int:
    number = 0
    for character in text:
        number = number * len(_ALPHABET) + _ALPHABET.index(character)
    return number


def _is_encoded(text: str) -> bool:
    return all(character in _ALPHABET for character in text)
