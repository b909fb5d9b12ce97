"""Finds the endpoint of a method and path.

A path is split into segments before it is decoded, so that `%2F` stays inside its segment. Paths that mean another one to some reader
(`//`, `.` and `..` however encoded, a trailing slash, `;`) match nothing.
"""

from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

from libs.common.errors import NotFound, Unimplemented

METHOD_NOT_ALLOWED: Final = "METHOD_NOT_ALLOWED"

T = TypeVar("T")


class Match(NamedTuple, Generic[T]):
    """What a path leads to, and its variables: field path → decoded text."""

    target: T
    variables: dict[str, str]


@dataclass(slots=True)
class _Node(Generic[T]):
    """What may follow the segments so far."""

    literals: dict[str, "_Node[T]"] = field(default_factory=dict)
    variable: "_Node[T] | None" = None
    # Method → target, and the variables on the way here: name and number of the segment.
    targets: dict[str, tuple[T, tuple[tuple[str, int], ...]]] = field(default_factory=dict)


class Routes(Generic[T]):
    """A table of path templates: literal segments, and `{field}` for one segment."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, method: str, template: str, target: T) -> None:
        """Adds a route.

        Raises:
            ValueError: the template is not of the supported form, or the route is there already.
        """
        node, variables = self._root, []
        for number, segment in enumerate(_segments(template)):
            name = variable_of(segment)
            if name is None:
                node = node.literals.setdefault(segment, _Node())
            else:
                variables.append((name, number))
                node.variable = node.variable or _Node()
                node = node.variable
        if method in node.targets:
            raise ValueError(f"two routes for {method} {template}")
        node.targets[method] = (target, tuple(variables))

    def find(self, method: str, raw_path: str) -> Match[T]:
        """The route of a request. `HEAD` finds that of `GET`.

        Args:
            method: In capitals.
            raw_path: As it was sent, percent-encoded, without the query.

        Raises:
            NotFound: no route has this path.
            Unimplemented: one has it with other methods (reason `METHOD_NOT_ALLOWED`, metadata `allow`).
        """
        segments = _decoded(raw_path)
        node = _descend(self._root, segments, 0)
        if node is None:
            raise _no_route()
        found = node.targets.get(method)
        if found is None and method == "HEAD":
            found = node.targets.get("GET")
        if found is None:
            raise _method_not_allowed(method, _allowed(node))
        target, places = found
        variables = {}
        for name, number in places:
            variables[name] = segments[number]
        return Match(target, variables)

    def methods(self, raw_path: str) -> list[str]:
        """The methods that a path has.

        Raises:
            NotFound: no route has this path.
        """
        node = _descend(self._root, _decoded(raw_path), 0)
        if node is None:
            raise _no_route()
        return _allowed(node)


def variable_of(segment: str) -> str | None:
    """The field path of a template's segment that is a variable; None for a literal.

    Raises:
        ValueError: the segment uses a part of the template syntax that no route of Kiln needs.
    """
    if segment.startswith("{") and segment.endswith("}") and "=" not in segment:
        return segment[1:-1]
    if any(mark in segment for mark in "{}*:"):
        raise ValueError(f"unsupported path template segment {segment!r}")
    return None


def _segments(path: str) -> list[str]:
    if not path.startswith("/"):
        raise ValueError(f"path {path!r} does not start with a slash")
    return path[1:].split("/")


def _decoded(raw_path: str) -> list[str]:
    segments = raw_path.split("/")
    if segments.pop(0) or ";" in raw_path:
        raise _no_route()
    if "%" in raw_path:
        try:
            segments = [unquote_to_bytes(segment).decode() for segment in segments]
        except ValueError:
            raise _no_route() from None
    if "." in segments or ".." in segments or not "".join(segments).isprintable():
        raise _no_route()
    return segments


def _descend(node: _Node[T], segments: list[str], number: int) -> _Node[T] | None:
    """The node of all segments, of which those before a number led here. Where both could go on, a literal goes before a variable."""
    for at in range(number, len(segments)):
        segment = segments[at]
        literal = node.literals.get(segment)
        variable = node.variable if segment else None
        if literal and variable and (found := _descend(literal, segments, at + 1)):
            return found
        onward = variable or literal
        if onward is None:
            return None
        node = onward
    return node if node.targets else None


def _allowed(node: _Node[T]) -> list[str]:
    return sorted({*node.targets, "OPTIONS", *(["HEAD"] if "GET" in node.targets else [])})


def _no_route() -> NotFound:
    return NotFound("there is no such path; /openapi.json lists those there are", reason="NO_SUCH_PATH")


def _method_not_allowed(method: str, allowed: list[str]) -> Unimplemented:
    words = ", ".join(allowed)
    return Unimplemented(f"{method} is not possible here; possible: {words}", reason=METHOD_NOT_ALLOWED, metadata={"allow": words})
