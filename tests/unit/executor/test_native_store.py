"""Native code comes back from the disk as it was kept, or not at all; and the disk is never why a call fails."""

import errno
import multiprocessing
import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.executor.sandbox import native_store
from services.executor.sandbox.native import NativeCode
from services.executor.sandbox.native_store import KEY, SUFFIX, NativeStore, open_native_store

ENGINE, OTHER_ENGINE = "an engine", "an engine with another setting"
MAX_BYTES = 1 << 20
CODE = NativeCode("sha256:one", "kiln", bytes(range(256)) * 4)
OTHER = NativeCode("sha256:other", "kiln", b"other code")


def opened(folder: Path, engine: str = ENGINE, max_bytes: int = MAX_BYTES) -> NativeStore:
    store = open_native_store(folder, engine, max_bytes)
    assert store is not None
    return store


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"*{SUFFIX}"))


def kept(folder: Path, *natives: NativeCode) -> Path:
    """Keeps code; the file of the first."""
    before = set(files(folder))
    store = opened(folder)
    store.keep(natives[0])
    (file,) = set(files(folder)) - before
    for native in natives[1:]:
        store.keep(native)
    return file


def found(store: NativeStore, native: NativeCode = CODE) -> NativeCode | None:
    return store.read(native.digest, native.abi)


def digests(store: NativeStore, max_bytes: int = MAX_BYTES) -> Sequence[str]:
    return [native.digest for native in store.recent(max_bytes)]


def used(folder: Path, *natives: NativeCode) -> None:
    """As if these had been used one after the other, long ago."""
    for number, native in enumerate(natives):
        os.utime(opened(folder)._path(native.digest, native.abi), (number, number))


def sized(digest: str, size: int) -> NativeCode:
    return NativeCode(digest, "kiln", bytes(size))


@settings(deadline=None)
@given(st.text(), st.text(), st.binary())
def test_what_was_kept_is_found_by_the_next_process(digest: str, abi: str, code: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        native = NativeCode(digest, abi, code)

        opened(Path(folder)).keep(native)

        assert found(opened(Path(folder)), native) == native
        assert list(opened(Path(folder)).recent(MAX_BYTES)) == [native]


def test_what_was_never_kept_is_not_there(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.keep(CODE)

    assert store.read(CODE.digest, "wasi-command") is None
    assert store.read("sha256:another", CODE.abi) is None


@settings(deadline=None)
@given(st.data())
def test_a_file_in_which_any_bit_was_changed_is_refused_and_healed(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = kept(folder, CODE)
        whole = bytearray(file.read_bytes())
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        file.write_bytes(whole)

        assert found(opened(folder)) is None
        assert files(folder) == []

        opened(folder).keep(CODE)

        assert found(opened(folder)) == CODE


def test_no_byte_of_a_file_can_be_changed(tmp_path: Path) -> None:
    file = kept(tmp_path, OTHER)
    whole, store = file.read_bytes(), opened(tmp_path)

    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        file.write_bytes(damaged)
        assert found(store, OTHER) is None, place

    file.write_bytes(whole)
    assert found(store, OTHER) == OTHER


@settings(deadline=None)
@given(st.integers(0, 2000), st.binary(max_size=5))
def test_a_file_that_was_cut_or_has_grown_is_refused_and_deleted(size: int, more: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = kept(folder, CODE)
        whole = file.read_bytes()
        file.write_bytes(damaged := whole[:size] + more)

        assert found(opened(folder)) == (CODE if damaged == whole else None)
        assert files(folder) == ([file] if damaged == whole else [])


def test_a_file_that_lies_in_the_place_of_another_is_refused_by_both_ways(tmp_path: Path) -> None:
    mine = kept(tmp_path, CODE)
    theirs = kept(tmp_path, OTHER)
    own = mine.read_bytes()

    mine.write_bytes(theirs.read_bytes())
    assert found(opened(tmp_path)) is None
    assert not mine.exists()

    mine.write_bytes(theirs.read_bytes())
    assert digests(opened(tmp_path)) == [OTHER.digest]
    assert not mine.exists()

    mine.write_bytes(own)
    assert found(opened(tmp_path)) == CODE


def test_code_for_another_engine_is_neither_found_nor_left(tmp_path: Path) -> None:
    kept(tmp_path, CODE)

    assert found(opened(tmp_path, OTHER_ENGINE)) is None
    assert files(tmp_path) == []


def test_a_file_of_another_engine_under_this_ones_name_is_refused(tmp_path: Path) -> None:
    file = kept(tmp_path / "here", CODE)
    key = file.with_name(KEY).read_bytes()
    opened(tmp_path / "there", OTHER_ENGINE).keep(CODE)
    (foreign,) = files(tmp_path / "there")
    foreign.with_name(KEY).write_bytes(key)
    opened(tmp_path / "there", OTHER_ENGINE).keep(CODE)

    file.write_bytes(foreign.read_bytes())

    assert found(opened(tmp_path / "here")) is None


def test_a_file_of_another_folders_key_is_refused(tmp_path: Path) -> None:
    file, foreign = kept(tmp_path / "here", CODE), kept(tmp_path / "there", CODE)
    assert file.name == foreign.name

    file.write_bytes(foreign.read_bytes())

    assert found(opened(tmp_path / "here")) is None


def lost(key: Path) -> None:
    key.unlink()


def cut(key: Path) -> None:
    key.write_bytes(key.read_bytes()[:-1])


def lengthened(key: Path) -> None:
    key.write_bytes(key.read_bytes() + b"x")


def shown(key: Path) -> None:
    key.chmod(0o640)


def linked(key: Path) -> None:
    key.rename(key.with_name("elsewhere"))
    key.symlink_to("elsewhere")


def piped(key: Path) -> None:
    key.unlink()
    os.mkfifo(key, 0o600)


@pytest.mark.parametrize("spoil", [lost, cut, lengthened, shown, linked, piped])
def test_a_key_that_is_of_no_use_is_replaced_and_all_begins_anew(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    file = kept(tmp_path, CODE)
    key = file.with_name(KEY)
    before = key.read_bytes()

    spoil(key)
    store = opened(tmp_path)

    assert files(tmp_path) == []
    assert key.read_bytes() != before
    store.keep(CODE)
    assert found(opened(tmp_path)) == CODE


def test_files_and_their_folder_are_closed_to_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        file = kept(tmp_path, CODE)
    finally:
        os.umask(before)

    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()} == {0o600}


def test_a_folder_that_was_opened_to_others_is_closed_and_the_one_above_left_alone(tmp_path: Path) -> None:
    file = kept(tmp_path, CODE)
    file.parent.chmod(0o777)
    tmp_path.chmod(0o755)

    opened(tmp_path)

    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@pytest.mark.parametrize("thing", ["link", "pipe", "huge"])
def test_what_is_no_file_of_ours_is_not_read(tmp_path: Path, thing: str) -> None:
    file = kept(tmp_path, CODE)
    if thing == "link":
        file.rename(elsewhere := file.with_name("elsewhere"))
        file.symlink_to(elsewhere)
    elif thing == "pipe":
        file.unlink()
        os.mkfifo(file)
    else:
        os.truncate(file, 1 << 40)

    assert found(opened(tmp_path) if thing != "huge" else opened_as_it_is(file)) is None
    assert not file.is_symlink()
    assert not file.exists()


def opened_as_it_is(file: Path) -> NativeStore:
    """Without the cleaning of a start."""
    return NativeStore(file.parent, file.with_name(KEY).read_bytes(), ENGINE, MAX_BYTES)


def test_those_go_first_whose_use_is_longest_ago(tmp_path: Path) -> None:
    natives = [sized(name, 1000) for name in "abcd"]
    kept(tmp_path, *natives)
    used(tmp_path, *natives)
    store = opened(tmp_path, max_bytes=4500)

    store.touch([("a", "kiln")])
    store.keep(sized("e", 1000))

    assert digests(opened(tmp_path)) == ["e", "a", "d"], "with an eighth of the bound to spare"


def test_what_was_used_last_comes_first_as_far_as_it_fits(tmp_path: Path) -> None:
    natives = [sized(name, 1000) for name in "abcd"]
    kept(tmp_path, *natives)
    used(tmp_path, *natives)

    assert digests(opened(tmp_path), 2500) == ["d", "c"]


def test_one_that_is_too_large_keeps_no_smaller_one_away(tmp_path: Path) -> None:
    natives = [sized("a", 1000), sized("b", 5000), sized("c", 1000)]
    kept(tmp_path, *natives)
    used(tmp_path, *natives)

    assert digests(opened(tmp_path), 2500) == ["c", "a"]


def test_reading_is_no_use(tmp_path: Path) -> None:
    kept(tmp_path, CODE, OTHER)
    used(tmp_path, CODE, OTHER)

    found(opened(tmp_path))
    digests(opened(tmp_path))

    assert digests(opened(tmp_path)) == [OTHER.digest, CODE.digest]


def test_there_are_never_more_files_than_can_be_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_store, "MAX_FILES", 20)
    store = opened(tmp_path, max_bytes=1 << 20)
    most = 0
    for number in range(100):
        store.keep(sized(str(number), 10))
        most = max(most, len(files(tmp_path)))

    assert 15 < most <= 20
    assert digests(store)[:10] == [str(number) for number in range(99, 89, -1)]


def test_two_that_share_a_folder_keep_its_bound_together(tmp_path: Path) -> None:
    stores = [opened(tmp_path, max_bytes=20_000) for _ in range(2)]

    for number in range(100):
        stores[number % 2].keep(sized(str(number), 1000))

        assert sum(file.stat().st_size for file in files(tmp_path)) <= 20_000


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 2000))), st.integers(300, 5000))
def test_the_bound_is_never_passed(puts: list[tuple[str, int]], max_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        store = opened(Path(name), max_bytes=max_bytes)
        for digest, size in puts:
            store.keep(sized(digest, size))

            assert sum(file.stat().st_size for file in files(Path(name))) <= max_bytes


def test_a_smaller_bound_acts_from_the_start(tmp_path: Path) -> None:
    natives = [sized(name, 1000) for name in "abcd"]
    kept(tmp_path, *natives)
    used(tmp_path, *natives)

    assert digests(opened(tmp_path, max_bytes=2500)) == ["d", "c"]
    assert len(files(tmp_path)) == 2


def test_code_that_is_larger_than_the_bound_pushes_out_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path, max_bytes=2000)
    store.keep(sized("a", 1000))

    store.keep(sized("b", 2000))

    assert digests(store) == ["a"]


def no_space(*_arguments: object, **_named: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["tempfile.mkstemp", "os.replace"])
def test_a_full_disk_costs_a_warning_and_leaves_nothing_half(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    store.keep(OTHER)
    monkeypatch.setattr(step, no_space)

    with capture_logs() as logs:
        store.keep(CODE)

    monkeypatch.undo()
    assert [line["event"] for line in logs] == ["native_code_not_kept"]
    assert found(store) is None
    assert found(store, OTHER) == OTHER
    assert len(list((tmp_path / "code").iterdir())) == 3, "key, lock and the other's file"


def test_a_disk_that_fills_up_while_code_is_written_leaves_nothing_half(tmp_path: Path) -> None:
    store = opened(tmp_path)
    # The kernel refuses what goes past this size as it does where the disk ends.
    process = multiprocessing.get_context("fork").Process(target=keep_with_little_room, args=(store,))
    process.start()
    process.join(30)

    assert process.exitcode == 0
    assert {path.name for path in (tmp_path / "code").iterdir()} == {"key", "lock"}


def keep_with_little_room(store: NativeStore) -> None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    store.keep(sized("large", 500_000))


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_used_costs_a_warning(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("no folder")

    with capture_logs() as logs:
        assert open_native_store(tmp_path / place, ENGINE, MAX_BYTES) is None

    assert [line["event"] for line in logs] == ["native_folder_unusable"]


def test_a_folder_that_is_gone_costs_warnings(tmp_path: Path) -> None:
    store = opened(tmp_path)
    (tmp_path / "code").rename(tmp_path / "elsewhere")

    store.keep(CODE)
    store.touch([(CODE.digest, CODE.abi)])

    assert found(store) is None
    assert digests(store) == []


def test_what_a_dead_process_left_unfinished_is_deleted_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    opened(tmp_path)
    left, new = tmp_path / "code" / "unfinished-left", tmp_path / "code" / "unfinished-new"
    for path in (left, new):
        path.write_bytes(b"half")
    os.utime(left, (0, 0))

    opened(tmp_path)

    assert not left.exists()
    assert new.exists()


def writing(folder: Path, number: int, failed: "multiprocessing.Queue[str]") -> None:
    try:
        store = opened(folder)
        for turn in range(60):
            native = sized(f"{(number + turn) % 7}", 1000 + (number + turn) % 7)
            store.keep(native)
            there = found(store, native)
            # Perhaps the other has just made room.
            if there not in (None, native):
                failed.put(f"{native.digest} came back as {there}")
    except BaseException as error:
        failed.put(repr(error))
        raise


def test_processes_that_share_a_folder_never_see_anything_half(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    failed: multiprocessing.Queue[str] = context.Queue()
    processes = [context.Process(target=writing, args=(tmp_path, number, failed)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0] * 4
    assert failed.empty()
    assert sorted(native.digest for native in opened(tmp_path).recent(MAX_BYTES)) == [str(number) for number in range(7)]
