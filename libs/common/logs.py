"""Structured logs: one line of JSON per event on stderr, with the request id of the call being served.

Events are named and carry fields; never source, payloads or secrets.
"""

import asyncio
import atexit
import logging
import sys
import threading
from collections.abc import MutableMapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, BinaryIO, Final

import orjson
import structlog

from libs.common import request


class _Lines:
    """Writes lines to a file, those that come in one turn of an event loop by one write. What is no mere information is there at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting: list[bytes] = []
        self._lock = threading.Lock()

    def info(self, line: bytes) -> None:
        """A line of no hurry."""
        self._waiting.append(line)
        if len(self._waiting) == 1:
            try:
                asyncio.get_running_loop().call_soon(self.write)
            except RuntimeError:
                self.write()

    def error(self, line: bytes) -> None:
        """A line, and what waits before it."""
        self._waiting.append(line)
        self.write()

    debug = info
    warning = critical = exception = error

    def write(self) -> None:
        """Writes what waits."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            if waiting:
                self._file.write(b"\n".join(waiting) + b"\n")
                self._file.flush()


class _Bound:
    """The logger of this process."""

    logger: Any = structlog.get_logger()


_bound: Final = _Bound()


def configure(service: str, level: str) -> None:
    """Sets up logging for this process.

    Args:
        service: Stands in every line.
        level: `debug`, `info`, `warning` or `error`.
    """
    lines = _Lines(sys.stderr.buffer)
    structlog.configure(
        processors=[partial(_line, service)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda: lines,
        cache_logger_on_first_use=True,
    )
    atexit.register(lines.write)
    # Bound once: a lazy one is bound again for each line.
    _bound.logger = structlog.get_logger().bind()
    logging.basicConfig(handlers=[_ToStructlog()], level=logging.WARNING, force=True)


def logger() -> Any:
    """The logger; `logger().info("event_name", field=value)`."""
    return _bound.logger


def _line(service: str, _: Any, level: str, event: MutableMapping[str, Any]) -> bytes:
    """One line. Every call has one in each service it goes through; a chain of structlog's own processors would cost twice as much."""
    event["level"] = level
    event["timestamp"] = datetime.now(UTC)
    event["service"] = service
    if identity := request.request_id.get():
        event.setdefault("request_id", identity)
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(None, level, event)
    return _to_json(event)


def _to_json(event: Any) -> bytes:
    # Fields of any type must never break a log line.
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_UTC_Z)
    except TypeError:
        return orjson.dumps({name: _shown(value) for name, value in event.items()})


def _shown(value: object) -> object:
    """The value where JSON can hold it, else the nearest text."""
    try:
        orjson.dumps(value)
    except TypeError:
        try:
            return ascii(value)
        except Exception:
            return f"a {type(value).__name__} that cannot be shown"
    return value


class _ToStructlog(logging.Handler):
    """Carries what libraries log by the standard module into our lines."""

    def emit(self, record: logging.LogRecord) -> None:
        write = logger().error if record.levelno >= logging.ERROR else logger().warning
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            # The library's text and its arguments do not fit each other.
            message = f"{record.msg} {record.args!r}"
        write("library_log", library=record.name, message=message, exc_info=record.exc_info)
