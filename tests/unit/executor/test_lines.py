"""What a guest prints as bytes becomes lines, however it is cut into pieces, and never more than there is room for."""

from hypothesis import given
from hypothesis import strategies as st

from services.executor.sandbox import Level, Limits
from services.executor.sandbox.host import MAX_LOG_LINES, Host, Sources
from services.executor.sandbox.lines import Lines

DEFAULT = Limits()
PIECES = st.lists(st.binary(max_size=30) | st.sampled_from([b"\n", b"line\n", "é".encode()[:1], b""]), max_size=30)


def new_host(limits: Limits = DEFAULT) -> Host:
    return Host(limits, lambda: None, Sources())


def printed(host: Host, pieces: list[bytes]) -> list[str]:
    """The lines that an onlooker sees."""
    seen: list[str] = []
    lines = Lines(host, Level.WARN, seen.append)
    for piece in pieces:
        lines.write(piece)
    lines.close()
    return seen


@given(PIECES)
def test_lines_are_the_same_in_whatever_pieces_they_come(pieces: list[bytes]) -> None:
    whole = b"".join(pieces).split(b"\n")
    expected = [line.decode(errors="replace") for line in (whole if whole[-1] else whole[:-1])]
    host = new_host()

    seen = printed(host, pieces)

    assert seen == expected
    assert [line.message for line in host.logs] == expected
    assert {line.level for line in host.logs} <= {Level.WARN}


@given(PIECES, st.integers(0, 50))
def test_the_bounds_of_the_log_hold_and_losing_any_is_told(pieces: list[bytes], max_log_bytes: int) -> None:
    host = new_host(Limits(max_log_bytes=max_log_bytes))

    seen = printed(host, pieces)

    kept = [line.message for line in host.logs]
    assert sum(len(text.encode()) for text in kept) <= max_log_bytes
    assert host.logs_truncated == (kept != seen)


def test_a_line_without_an_end_is_not_kept_beyond_the_room_for_it() -> None:
    host = new_host(Limits(max_log_bytes=5_000))

    seen = printed(host, [b"x" * 1_000_000] * 10)

    assert seen == ["x" * 5_000]
    assert [line.message for line in host.logs] == seen
    assert host.logs_truncated


def test_an_onlooker_sees_lines_that_the_log_has_no_room_for() -> None:
    host = new_host(Limits(max_log_bytes=0))

    seen = printed(host, [b"\n" * MAX_LOG_LINES, b"last words"])

    assert seen[-1] == "last words"
    assert len(host.logs) == MAX_LOG_LINES
    assert host.logs_truncated


def test_lines_are_closed_twice_without_harm() -> None:
    host = new_host()
    lines = Lines(host, Level.INFO)
    lines.write(b"once")

    lines.close()
    lines.close()

    assert len(host.logs) == 1
