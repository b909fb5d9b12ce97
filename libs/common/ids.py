"""UUIDv7 (RFC 9562): ids that sort by the time they were made."""

import os
import threading
import time
from uuid import UUID

_COUNTER_BITS = 12
# Random bytes are asked of the system for so many ids at once.
_IDS_AHEAD = 128
_lock = threading.Lock()
_last = 0
_random: list[int] = []


def uuid7() -> UUID:
    """A new id, above every id this process made before, also within a millisecond and when the clock steps back."""
    global _last
    with _lock:
        if not _random:
            drawn = os.urandom(8 * _IDS_AHEAD)
            _random.extend(int.from_bytes(drawn[at : at + 8], "big") >> 2 for at in range(0, len(drawn), 8))
        chance = _random.pop()
        # The 12 bits behind the milliseconds count within one, as RFC 9562 section 6.2 method 1 has it.
        _last = max(_last + 1, time.time_ns() // 1_000_000 << _COUNTER_BITS)
        stamp = _last
    milliseconds, counter = stamp >> _COUNTER_BITS, stamp & (1 << _COUNTER_BITS) - 1
    return UUID(int=milliseconds << 80 | 7 << 76 | counter << 64 | 0b10 << 62 | chance)


def milliseconds_of(identity: UUID) -> int:
    """The Unix time in milliseconds that a UUIDv7 carries."""
    return identity.int >> 80


def parse_uuid(text: str) -> UUID | None:
    """The id that a text in the usual form spells, else None. Other spellings that `UUID` takes (braces, URNs) are no ids."""
    try:
        identity = UUID(text)
    except ValueError:
        return None
    return identity if str(identity) == text.lower() else None
