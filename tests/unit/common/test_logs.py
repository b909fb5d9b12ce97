"""A log line is one line of JSON, whatever is logged."""

import asyncio
import io
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common import logs, request
from libs.common.logs import logger

Lines = Callable[[], list[Mapping[str, Any]]]

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.uuids()
FIELDS = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(SCALARS, inner) | st.tuples(inner, inner))


class Unspeakable:
    """Something that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


def ring() -> list[Any]:
    """A list that contains itself."""
    found: list[Any] = []
    found.append(found)
    return found


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """What this process says on stderr, with logging configured as a service does."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    said = io.BytesIO()
    with monkeypatch.context() as patch:
        # Kept by name: pytest puts its own stderr back for the test itself, and a forgotten wrapper would close what it wraps.
        stderr = io.TextIOWrapper(said, write_through=True)
        patch.setattr(sys, "stderr", stderr)
        # Put back with the rest.
        patch.setattr(logs._bound, "logger", logs._bound.logger)
        logs.configure("registry", "info")
        yield said
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def lines(stream: io.BytesIO) -> Lines:
    """The lines said so far, understood."""
    return lambda: [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_its_event_fields_level_service_and_time(lines: Lines) -> None:
    logger().info("built", ms=12, name="sum")

    (line,) = lines()
    assert (line["event"], line["ms"], line["name"], line["level"], line["service"]) == ("built", 12, "sum", "info", "registry")
    assert datetime.fromisoformat(line["timestamp"]).tzinfo == UTC


def test_lines_below_the_level_are_not_written(lines: Lines) -> None:
    logger().debug("detail")

    assert lines() == []


def test_the_request_being_served_stands_in_the_line(lines: Lines) -> None:
    token = request.request_id.set("request-7")
    try:
        logger().info("built")
    finally:
        request.request_id.reset(token)

    assert lines()[0]["request_id"] == "request-7"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.from_regex(r"[a-df-z][a-z_]{0,9}", fullmatch=True), FIELDS))
def test_any_fields_make_one_line_of_json(stream: io.BytesIO, fields: dict[str, Any]) -> None:
    stream.seek(0)
    stream.truncate()

    logger().info("anything", **fields)

    written = stream.getvalue()
    assert written.endswith(b"\n")
    assert written.count(b"\n") == 1
    assert orjson.loads(written)["event"] == "anything"


@pytest.mark.parametrize(
    "value",
    [Unspeakable(), ring(), 2**70, "\ud800", {1: 2}, {("a", 1): 2}, {"\udfff": 1}, b"\xff", RuntimeError("x"), object(), {1, 2}],
    ids=lambda value: type(value).__name__,
)
def test_a_field_that_json_cannot_hold_costs_neither_the_line_nor_its_other_fields(lines: Lines, value: object) -> None:
    logger().info("odd", value=value, ms=12)

    (line,) = lines()
    assert "value" in line
    assert (line["event"], line["ms"]) == ("odd", 12)


@pytest.mark.parametrize("text", ['x\n{"event":"forged"}', "\x1b[31mred\x1b[0m", "a\rb", "tab\tnul\0"])
def test_control_characters_stay_escaped(lines: Lines, stream: io.BytesIO, text: str) -> None:
    logger().info("said", text=text)

    assert lines()[0]["text"] == text
    assert all(byte >= 0x20 for byte in stream.getvalue()[:-1])


def test_an_exception_is_told_in_the_line(lines: Lines) -> None:
    logger().error("failed", exc_info=ValueError("two\nlines"))

    (line,) = lines()
    assert "ValueError: two\nlines" in line["exception"]


def test_what_libraries_log_becomes_lines_of_ours(lines: Lines) -> None:
    logging.getLogger("some.library").warning("odd: %s", "\ud800\n")
    logging.getLogger("some.library").error("bad")
    logging.getLogger("some.library").info("chatter")

    first, second = lines()
    assert (first["event"], first["library"], first["level"]) == ("library_log", "some.library", "warning")
    assert (second["message"], second["level"]) == ("bad", "error")


def test_a_librarys_mistake_in_logging_harms_nobody(lines: Lines) -> None:
    record = logging.makeLogRecord({"name": "some.library", "levelno": logging.WARNING, "msg": "%d of %d", "args": (1,)})
    (ours,) = [handler for handler in logging.getLogger().handlers if type(handler).__module__ == logs.__name__]

    # Handed to ours alone: pytest's own handler, which listens as well, raises by design.
    ours.handle(record)

    assert "%d of %d" in lines()[0]["message"]


async def test_lines_of_one_turn_are_there_with_the_next_and_what_is_no_mere_information_at_once(lines: Lines) -> None:
    logger().info("first")
    logger().info("second")
    assert lines() == []

    await asyncio.sleep(0)
    assert [line["event"] for line in lines()] == ["first", "second"]

    logger().info("third")
    logger().warning("fourth")
    assert [line["event"] for line in lines()] == ["first", "second", "third", "fourth"]


async def test_lines_of_other_threads_are_all_there(lines: Lines) -> None:
    def say(name: str) -> None:
        for number in range(100):
            logger().info("said", name=name, number=number)

    await asyncio.gather(*(asyncio.to_thread(say, name) for name in "abc"), asyncio.sleep(0))
    say("d")
    await asyncio.sleep(0)

    assert [[line["number"] for line in lines() if line["name"] == name] for name in "abcd"] == [list(range(100))] * 4
