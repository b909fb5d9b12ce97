"""The journal's files: frames, appended to segments, in a folder that one running process owns.

A segment is `SEGMENT_HEAD` and frames behind it: the length of a payload, its CRC-32, the CRC-32 of those two, and the payload.
What was appended is in the page cache: it survives the death of the process. A power cut it does not; that would cost an fsync each time.

A frame that ends beyond its file is one whose writer died, and is cut off. Anything else that does not add up is damage: what lies before
counts, and what comes after is not searched for frames, since an input may hold what looks like one.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from libs.common.logs import logger

SEGMENT_HEAD: Final = b"kilnjrn1"
# Large enough that making one is rare, small enough that few are kept for the sake of one run.
SEGMENT_BYTES: Final = 8 << 20
SUFFIX: Final = ".journal"

_FRAME: Final = struct.Struct("<III")
_LENGTH_AND_CHECK: Final = struct.Struct("<II")
FRAME_BYTES: Final = _FRAME.size
_CLOSED: Final = -1


class JournalFailed(Exception):
    """Nothing was appended; the message says why."""


class Segment:
    """One file of frames.

    Attributes:
        users: How many frames are still needed.
        needed_bytes: How many bytes those have.
        damaged: Whether something in it cannot be read; it is kept aside then, rather than deleted.
    """

    __slots__ = ("damaged", "descriptor", "needed_bytes", "path", "size", "users")

    def __init__(self, path: Path, size: int, descriptor: int = _CLOSED) -> None:
        self.path = path
        self.size = size
        self.descriptor = descriptor
        self.users = 0
        self.needed_bytes = 0
        self.damaged = False


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a payload lies."""

    segment: Segment
    offset: int
    length: int


class Journal:
    """The segments of one folder, which is locked for this process as long as `lock` is open.

    Args:
        folder: Named after the executor whose journal it is.
        lock: Descriptor of its lock file.
        aside: Where damaged segments go.
    """

    def __init__(self, folder: Path, lock: int, aside: Path) -> None:
        self.executor_id = UUID(folder.name)
        self._folder = folder
        self._lock = lock
        self._aside = aside
        self._segments: list[Segment] = []
        self._last: Segment | None = None
        self._made = 0
        self.size = 0

    def append(self, payload: bytes) -> Place:
        """Adds a payload by one write.

        Raises:
            JournalFailed: the disk is full, or cannot be written; the journal is as before.
        """
        try:
            segment = self._writable()
            self._write(segment, frame(payload))
        except OSError as error:
            raise JournalFailed(f"{self._folder}: {error.strerror or error}") from error
        length = len(payload)
        place = Place(segment, segment.size - length, length)
        self.hold(place)
        return place

    def read(self, place: Place) -> bytes:
        """The payload there.

        Raises:
            JournalFailed: it cannot be read any more.
        """
        try:
            descriptor = os.open(place.segment.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                frame = memoryview(os.pread(descriptor, FRAME_BYTES + place.length, place.offset - FRAME_BYTES))
            finally:
                os.close(descriptor)
            begin, end = _frame_at(frame, 0)
        except OSError as error:
            raise JournalFailed(f"{place.segment.path}: {error.strerror or error}") from error
        except (_Torn, _Damaged):
            raise JournalFailed(f"{place.segment.path}: the frame at {place.offset} is damaged") from None
        return bytes(frame[begin:end])

    def hold(self, place: Place) -> None:
        """The payload there is needed until it is released."""
        place.segment.users += 1
        place.segment.needed_bytes += place.length

    def release(self, place: Place) -> None:
        """It is not needed any more. A segment of which nothing is needed is deleted, or begun anew where frames are appended to it."""
        segment = place.segment
        segment.users -= 1
        segment.needed_bytes -= place.length
        if segment.users == 0:
            if segment is self._last:
                self._begin_anew(segment)
            else:
                self._remove(segment)

    def sparse(self) -> list[Segment]:
        """Segments that are kept for less than half of what is in them; whoever appends that again frees more than it takes."""
        return [one for one in self._segments if one is not self._last and one.users and one.needed_bytes * 2 < one.size]

    def replay(self) -> Iterator[tuple[Place, bytes]]:
        """Every payload that was there when the journal was opened, in order. What is needed must be held while it is looked at."""
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            data = path.read_bytes()
            segment = Segment(path, len(data))
            self._segments.append(segment)
            self.size += len(data)
            # Nobody may delete it before all of it was looked at.
            segment.users = 1
            yield from self._frames(segment, data)
            segment.users -= 1
            if segment.users == 0:
                self._remove(segment)

    def close(self) -> None:
        """Gives the folder back; it goes when nothing in it is needed."""
        if self._last is not None:
            self._seal(self._last)
            if self._last.users == 0:
                self._remove(self._last)
            self._last = None
        try:
            if not self._segments:
                (self._folder / "lock").unlink()
                self._folder.rmdir()
        except OSError as error:
            logger().warning("journal_folder_stays", folder=str(self._folder), error=str(error))
        os.close(self._lock)

    @property
    def is_empty(self) -> bool:
        """Whether nothing in it is needed."""
        return all(segment.users == 0 for segment in self._segments)

    def _writable(self) -> Segment:
        last = self._last
        if last is not None and last.size < SEGMENT_BYTES and last.descriptor != _CLOSED:
            return last
        if last is not None:
            self._seal(last)
            self._last = None
            if last.users == 0:
                self._remove(last)
        self._made += 1
        path = self._folder / f"{self._made:08}{SUFFIX}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        segment = self._last = Segment(path, 0, descriptor)
        self._segments.append(segment)
        self._write(segment, SEGMENT_HEAD)
        return segment

    def _write(self, segment: Segment, data: bytes) -> None:
        """Writes all or nothing.

        Raises:
            OSError: nothing was written.
        """
        try:
            written = os.write(segment.descriptor, data)
            if written != len(data):
                # What a disk has left is filled before it is told to be full.
                raise OSError(f"only {written} of {len(data)} bytes could be written; the disk is full")
        except OSError:
            self._cut(segment)
            raise
        segment.size += written
        self.size += written

    def _cut(self, segment: Segment) -> None:
        try:
            os.ftruncate(segment.descriptor, segment.size)
        except OSError as error:
            logger().error("journal_not_cut", segment=str(segment.path), error=str(error))
        # A segment without its head is no place for frames, and behind half of a frame none would be found.
        if segment.size < len(SEGMENT_HEAD) or os.fstat(segment.descriptor).st_size != segment.size:
            self._seal(segment)

    def _begin_anew(self, segment: Segment) -> None:
        if segment.descriptor == _CLOSED:
            return
        try:
            os.ftruncate(segment.descriptor, len(SEGMENT_HEAD))
        except OSError as error:
            logger().warning("journal_not_cut", segment=str(segment.path), error=str(error))
            return
        self.size -= segment.size - len(SEGMENT_HEAD)
        segment.size = len(SEGMENT_HEAD)

    @staticmethod
    def _seal(segment: Segment) -> None:
        if segment.descriptor != _CLOSED:
            os.close(segment.descriptor)
            segment.descriptor = _CLOSED

    def _remove(self, segment: Segment) -> None:
        self._segments.remove(segment)
        self.size -= segment.size
        try:
            if segment.damaged:
                self._aside.mkdir(mode=0o700, exist_ok=True)
                segment.path.rename(self._aside / f"{self.executor_id}-{segment.path.name}")
            else:
                segment.path.unlink()
        except OSError as error:
            # It will be read once more at the next start, which changes nothing.
            logger().warning("journal_segment_stays", segment=str(segment.path), error=str(error))

    def _frames(self, segment: Segment, data: bytes) -> Iterator[tuple[Place, bytes]]:
        view, at = memoryview(data), 0
        try:
            at = _after_head(view)
            while at < len(data):
                begin, end = _frame_at(view, at)
                yield Place(segment, begin, end - begin), data[begin:end]
                at = end
        except _Torn:
            logger().warning("journal_torn_tail", segment=str(segment.path), bytes=segment.size - at)
            os.truncate(segment.path, at)
            self.size -= segment.size - at
            segment.size = at
        except _Damaged:
            segment.damaged = True
            logger().error(
                "journal_damaged", segment=str(segment.path), at=at, skipped_bytes=segment.size - at, kept_aside_in=str(self._aside)
            )


def frame(payload: bytes) -> bytes:
    """A frame around a payload."""
    length, check = len(payload), zlib.crc32(payload)
    return _FRAME.pack(length, check, _head_check(length, check)) + payload


class _Torn(Exception):
    """The file ends inside of what begins here."""


class _Damaged(Exception):
    """What begins here is no frame."""


def _after_head(view: memoryview) -> int:
    head = bytes(view[: len(SEGMENT_HEAD)])
    if head == SEGMENT_HEAD:
        return len(SEGMENT_HEAD)
    raise _Torn if SEGMENT_HEAD.startswith(head) else _Damaged


def _frame_at(view: memoryview, at: int) -> tuple[int, int]:
    begin = at + FRAME_BYTES
    if begin > len(view):
        raise _Torn
    length, check, head_check = _FRAME.unpack_from(view, at)
    if head_check != _head_check(length, check):
        raise _Damaged
    if begin + length > len(view):
        raise _Torn
    if check != zlib.crc32(view[begin : begin + length]):
        raise _Damaged
    return begin, begin + length


def _head_check(length: int, check: int) -> int:
    """Without it a damaged length could not be told from a torn tail."""
    return zlib.crc32(_LENGTH_AND_CHECK.pack(length, check))
