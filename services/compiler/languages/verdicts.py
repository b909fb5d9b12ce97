"""What every language tells alike: bounds that a build passed, compilers that crashed, and texts that can be shown and stored."""

import re
import signal
from typing import Final

from services.compiler.languages import Bounds, Diagnostic, Failed, Reason
from services.compiler.process import Limit

_EXCERPT_CHARACTERS: Final = 200
_REASONS: Final[dict[Limit, Reason]] = {
    Limit.WALL: "COMPILE_TIMEOUT",
    Limit.CPU: "COMPILE_TIMEOUT",
    Limit.MEMORY: "COMPILE_MEMORY",
    Limit.OUTPUT: "COMPILE_OUTPUT",
    Limit.PROCESSES: "COMPILE_PROCESSES",
}


def at_top(message: str, source: str, *, code: str | None = None) -> Diagnostic:
    """An error of the file as a whole: it stands at its first character."""
    return Diagnostic("ERROR", 1, 1, None, None, code, plain(message), excerpt(source, 1))


def at(name: str, message: str, source: str, *, code: str | None = None, after: int = 0) -> Diagnostic:
    """An error about a name, at the first place where it stands, behind so many characters, or at the top when there is none."""
    found = re.compile(rf"\b{re.escape(name)}\b").search(source, after)
    if not found:
        return at_top(message, source, code=code)
    before = source.removeprefix("\ufeff")[: found.start() - source.startswith("\ufeff")]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return Diagnostic("ERROR", line, column, line, column + len(name), code, plain(message), excerpt(source, line))


def exceeded(limit: Limit, bounds: Bounds, source: str) -> Failed:
    """A build that passed a bound."""
    return Failed(_REASONS[limit], (at_top(_passed(limit, bounds), source),))


def too_large(size: int, bounds: Bounds, source: str) -> Failed:
    """A build whose module has more bytes than it may."""
    message = f"The compiled module has {size} bytes, the limit is {bounds.artifact_bytes}."
    return Failed("COMPILE_OUTPUT", (at_top(message, source),))


def not_said(compiler: str, status: int, said: str, bounds: Bounds, source: str) -> Failed:
    """A build that failed, while what its compiler said does not tell why."""
    if status in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ):
        return Failed("COMPILE_OUTPUT", (at_top("Compiling made too large a file; is there a large array among the data?", source),))
    if len(said.encode()) >= bounds.output_bytes:
        message = f"The compiler said more than {bounds.output_bytes} bytes before it said what is wrong."
        return Failed("COMPILE_OUTPUT", (at_top(message, source),))
    return crashed(compiler, source)


def crashed(compiler: str, source: str) -> Failed:
    """A build whose compiler ended without a result."""
    return Failed("COMPILER_CRASHED", (at_top(f"The {compiler} compiler crashed: it ended without a result.", source),))


def excerpt(source: str, line: int) -> str:
    """A line of a source as it may be shown on a terminal: cut, without control characters. Empty when there is no such line."""
    lines = source.removeprefix("\ufeff").split("\n", line)
    text = lines[line - 1].rstrip("\r")[:_EXCERPT_CHARACTERS] if 0 < line <= len(lines) else ""
    return plain(text)


def plain(text: str) -> str:
    """A text without control characters but those that part and indent its lines."""
    return "".join(one if one.isprintable() or one in "\t\n" else one.encode("unicode_escape").decode() for one in storable(text))


def storable(text: str) -> str:
    """A text that can be stored and sent everywhere: sources may hold half of a surrogate pair, and messages quote sources."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _passed(limit: Limit, bounds: Bounds) -> str:
    match limit:
        case Limit.WALL:
            return f"Compiling took longer than {bounds.wall_seconds:g} seconds."
        case Limit.CPU:
            return f"Compiling used more than {bounds.cpu_seconds} seconds of processor time."
        case Limit.MEMORY:
            return f"Compiling needed more than {bounds.memory_bytes // (1024 * 1024)} MiB of memory."
        case Limit.OUTPUT:
            return f"The compiler wrote more than {bounds.artifact_bytes + bounds.output_bytes} bytes."
        case Limit.PROCESSES:
            return "The compiler started too many processes."
