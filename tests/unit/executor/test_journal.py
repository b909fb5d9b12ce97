"""What was appended is there for the next who opens the journal, however the one before ended; what is damaged is told and kept."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.ids import uuid7
from services.executor import journal as tested
from services.executor.journal import FRAME_BYTES, SEGMENT_HEAD, Journal, JournalFailed, Place
from services.executor.journal_folder import ASIDE, Journals, open_journals
from tests.support.processes import environment

PAYLOADS = [b"first", b"", b"x" * 300, b"last one"]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Journal]:
    journals = open_journals(tmp_path / "base", uuid7())
    yield journals.own
    journals.close()


def die(journals: Journals) -> None:
    """The process ends without a word: its locks go, its files stay."""
    for journal in (journals.own, *journals.inherited):
        os.close(journal._lock)


@contextmanager
def left(base: Path, *payloads: bytes) -> Iterator[tuple[Journal, Path]]:
    """A journal that a dead executor left, as the next one finds it, and its last segment, which may be changed before it is read."""
    journals = open_journals(base, uuid7())
    for payload in payloads:
        journals.own.append(payload)
    die(journals)
    segment = max((base / str(journals.own.executor_id)).glob("*.journal"))
    opened = open_journals(base, uuid7())
    try:
        yield next(one for one in opened.inherited if one.executor_id == journals.own.executor_id), segment
    finally:
        opened.close()


def replayed(journal: Journal) -> list[bytes]:
    """What is read, and kept as long as the journal is open."""
    found = []
    for place, payload in journal.replay():
        journal.hold(place)
        found.append(payload)
    return found


# Frames


@settings(deadline=None)
@given(payloads=st.lists(st.binary(max_size=500), max_size=8))
def test_what_was_appended_is_replayed_in_its_order(payloads: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("journal")
    journals = open_journals(base, uuid7())
    places = [journals.own.append(payload) for payload in payloads]
    assert [journals.own.read(place) for place in places] == payloads
    die(journals)

    opened = open_journals(base, uuid7())

    assert replayed(opened.inherited[0]) == payloads
    opened.close()


def test_a_payload_that_looks_like_frames_is_a_payload(tmp_path: Path) -> None:
    forged = SEGMENT_HEAD + tested.frame(b"forged")

    with left(tmp_path, forged, b"after") as (journal, _):
        assert replayed(journal) == [forged, b"after"]


@pytest.mark.parametrize("cut", range(1, FRAME_BYTES + len(PAYLOADS[-1]) + 1))
def test_a_frame_whose_writer_died_is_cut_off_wherever_that_was(tmp_path: Path, cut: int) -> None:
    with left(tmp_path, *PAYLOADS) as (journal, segment):
        whole = segment.stat().st_size
        os.truncate(segment, whole - cut)

        assert replayed(journal) == PAYLOADS[:-1]
        assert segment.stat().st_size == whole - FRAME_BYTES - len(PAYLOADS[-1])
    assert not (tmp_path / ASIDE).exists()


@pytest.mark.parametrize("length", range(len(SEGMENT_HEAD)))
def test_a_segment_whose_maker_died_holds_nothing(tmp_path: Path, length: int) -> None:
    with left(tmp_path, b"only") as (journal, segment):
        os.truncate(segment, length)

        assert replayed(journal) == []
        assert not segment.exists()


@pytest.mark.parametrize("at", range(2 * FRAME_BYTES + len(b"firstsecond")))
def test_damage_anywhere_is_told_and_what_lies_before_it_counts(tmp_path: Path, at: int, capsys: pytest.CaptureFixture[str]) -> None:
    first_frame = FRAME_BYTES + len(b"first")
    with left(tmp_path, b"first", b"second", b"third") as (journal, segment):
        data = bytearray(segment.read_bytes())
        data[len(SEGMENT_HEAD) + at] ^= 0x10
        segment.write_bytes(data)

        places: list[Place] = []
        found = []
        for place, payload in journal.replay():
            journal.hold(place)
            places.append(place)
            found.append(payload)
        assert found == ([b"first"] if at >= first_frame else [])

        for place in places:
            journal.release(place)
        assert not segment.exists()
    (kept,) = (tmp_path / ASIDE).iterdir()
    assert kept.read_bytes() == bytes(data)
    told = capsys.readouterr()
    assert "journal_damaged" in told.out + told.err
    begin = len(SEGMENT_HEAD) + (first_frame if found else 0)
    assert str(len(data) - begin) in told.out + told.err


@pytest.mark.parametrize("data", [b"something else", b"\0" * 64, SEGMENT_HEAD + b"\0" * 64], ids=["foreign", "zeros", "zeros behind"])
def test_a_file_that_is_no_segment_is_kept_aside(tmp_path: Path, data: bytes) -> None:
    with left(tmp_path, b"x") as (journal, segment):
        segment.write_bytes(data)

        assert replayed(journal) == []
    assert [one.read_bytes() for one in (tmp_path / ASIDE).iterdir()] == [data]


def test_a_payload_that_was_damaged_while_it_waited_is_not_believed(own: Journal) -> None:
    place = own.append(b"payload")
    place.segment.path.write_bytes(place.segment.path.read_bytes().replace(b"payload", b"pAyload"))

    with pytest.raises(JournalFailed):
        own.read(place)


# Segments


def test_a_segment_goes_when_nothing_in_it_is_needed(own: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "SEGMENT_BYTES", 100)
    places = [own.append(b"x" * 60) for _ in range(6)]
    first, second, third = sorted({place.segment.path for place in places})

    own.release(places[2])
    own.release(places[0])
    assert first.exists()
    own.release(places[1])

    assert [path.exists() for path in (first, second, third)] == [False, True, True]
    assert own.size == second.stat().st_size + third.stat().st_size
    assert [own.read(place) for place in places[3:]] == [b"x" * 60] * 3


def test_the_segment_that_is_written_to_begins_anew_when_nothing_in_it_is_needed(own: Journal) -> None:
    for _ in range(3):
        place = own.append(b"x" * 1000)
        assert place.segment.path.stat().st_size > 1000
        own.release(place)
        assert place.segment.path.stat().st_size == len(SEGMENT_HEAD) == own.size


def test_segments_that_are_kept_for_little_are_known(own: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "SEGMENT_BYTES", 1000)
    places = [own.append(b"x" * 300) for _ in range(8)]
    assert own.sparse() == []

    for place in places[1:3]:
        own.release(place)

    assert own.sparse() == [places[0].segment]


# Folders


def test_nobody_else_can_look_into_a_journal(tmp_path: Path) -> None:
    journals = open_journals(tmp_path / "deep" / "base", uuid7())
    journals.own.append(b"secret")
    journals.keep_aside(uuid7(), [b"secret"])

    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "deep" / "base").rglob("*") if path.is_file()}
    folders = {path.stat().st_mode & 0o777 for path in (tmp_path / "deep" / "base").rglob("*") if path.is_dir()}
    journals.close()

    assert (modes, folders) == ({0o600}, {0o700})
    assert (tmp_path / "deep" / "base").stat().st_mode & 0o777 == 0o700


def test_the_journal_of_a_living_executor_is_left_alone(tmp_path: Path) -> None:
    living = open_journals(tmp_path, uuid7())
    living.own.append(b"mine")

    other = open_journals(tmp_path, uuid7())

    assert other.inherited == []
    other.close()
    living.close()


def test_a_journal_is_inherited_once_and_its_folder_goes_when_nothing_in_it_is_needed(tmp_path: Path) -> None:
    with left(tmp_path, b"1", b"2") as (journal, segment):
        assert open_journals(tmp_path, uuid7()).inherited == []
        places = []
        for place, _ in journal.replay():
            journal.hold(place)
            places.append(place)
        assert not journal.is_empty

        for place in places:
            journal.release(place)

        assert journal.is_empty
    assert not segment.parent.exists()


def test_what_was_not_needed_any_more_is_gone_after_a_close_and_what_was_stays(tmp_path: Path) -> None:
    journals = open_journals(tmp_path, uuid7())
    kept = journals.own.append(b"kept")
    journals.own.release(journals.own.append(b"gone"))
    journals.close()
    assert kept.segment.path.exists()

    again = open_journals(tmp_path, uuid7())
    assert replayed(again.inherited[0]) == [b"kept", b"gone"]
    again.close()

    done = open_journals(tmp_path, uuid7())
    for _ in done.inherited[0].replay():
        pass
    done.close()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_what_was_kept_aside_is_replayed_from_a_folder(tmp_path: Path) -> None:
    journals = open_journals(tmp_path, uuid7())
    path = journals.keep_aside(uuid7(), [b"ab", b"c"])
    journals.close()
    folder = tmp_path / str(uuid7())
    folder.mkdir()
    path.rename(folder / path.name)

    again = open_journals(tmp_path, uuid7())

    assert replayed(again.inherited[0]) == [b"ab", b"c"]
    again.close()


# Disks that are full


def check_full(journal: Journal, place: Place, make_room: "Iterator[None]") -> None:
    """A journal on a disk that cannot take another large frame: it says so, stays whole, and heals."""
    before = place.segment.path.read_bytes()
    for _ in range(3):
        with pytest.raises(JournalFailed):
            journal.append(b"y" * 300_000)
    assert place.segment.path.read_bytes() == before
    assert journal.size == sum(one.stat().st_size for one in place.segment.path.parent.glob("*.journal"))

    small = journal.append(b"small")
    next(make_room)
    large = journal.append(b"y" * 300_000)

    assert [journal.read(one) for one in (place, small, large)] == [b"first", b"small", b"y" * 300_000]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_is_full_takes_nothing_in_part_and_everything_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        (disk / "ballast").write_bytes(b"z" * 200_000)
        journals = open_journals(disk / "base", uuid7())

        def make_room() -> Iterator[None]:
            (disk / "ballast").unlink()
            yield

        check_full(journals.own, journals.own.append(b"first"), make_room())
        journals.close()
    finally:
        subprocess.run(["umount", disk], check=True)


LIMITED = """
import resource, sys
from pathlib import Path
from libs.common.ids import uuid7
from services.executor.journal_folder import open_journals
from tests.unit.executor.test_journal import check_full

_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))

def make_room():
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, hard))
    yield

journals = open_journals(Path(sys.argv[1]), uuid7())
check_full(journals.own, journals.own.append(b"first"), make_room())
print("held")
"""


def test_a_limit_on_the_size_of_files_is_met_in_the_same_way(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY

    done = subprocess.run([sys.executable, "-c", LIMITED, tmp_path], env=environment(), capture_output=True, text=True, check=False)

    assert done.stdout == "held\n", done.stderr


def test_a_folder_that_has_gone_is_told(own: Journal) -> None:
    own.release(own.append(b"x"))
    folder = own._folder
    own._seal(own._last)  # type: ignore[arg-type]
    for one in folder.glob("*.journal"):
        one.unlink()
    moved = folder.rename(folder.with_name(str(UUID(int=7))))

    with pytest.raises(JournalFailed, match=os.strerror(errno.ENOENT)):
        own.append(b"y")

    moved.rename(folder)
    assert own.read(own.append(b"y")) == b"y"
