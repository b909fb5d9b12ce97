"""UUIDv7 (RFC 9562): ids that sort by the time they were made."""

import os
import re
import struct
import threading
import time
from uuid import UUID

_COUNTER_BITS = 12
_COUNTER = (1 << _COUNTER_BITS) - 1
_VERSION = 7 << 76
_VARIANT = 0b10 << 62
# What the system is asked for at once: the random bits of so many ids.
_CHANCES = struct.Struct("128Q")
_TEXT = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_lock = threading.Lock()
_last = 0
_random: list[int] = []


def uuid7() -> UUID:
    """A new id, above every id this process made before, also within a millisecond and when the clock steps back."""
    return UUID(int=_next())


def uuid7_text() -> str:
    """The text of such an id, for whom that is enough: a `UUID` costs more than all the rest."""
    digits = _next().to_bytes(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def milliseconds_of(identity: UUID) -> int:
    """The Unix time in milliseconds that a UUIDv7 carries."""
    return identity.int >> 80


def parse_uuid(text: str) -> UUID | None:
    """The id that a text in the usual form spells, else None. Other spellings that `UUID` takes (braces, URNs) are no ids."""
    return UUID(int=int(text.replace("-", ""), 16)) if _TEXT.fullmatch(text) else None


def _next() -> int:
    global _last
    with _lock:
        if not _random:
            _random.extend(_CHANCES.unpack(os.urandom(_CHANCES.size)))
        chance = _random.pop()
        # The 12 bits behind the milliseconds count within one, as RFC 9562 section 6.2 method 1 has it.
        now = time.time_ns() // 1_000_000 << _COUNTER_BITS
        _last = stamp = now if now > _last else _last + 1
    return (stamp & ~_COUNTER) << 68 | _VERSION | (stamp & _COUNTER) << 64 | _VARIANT | chance >> 2
