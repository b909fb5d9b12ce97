"""Finds the endpoint of a method and path.

A path is split into segments before it is decoded, so that `%2F` stays inside its segment. Paths that mean another one to some reader
(`//`, `.` and `..` however encoded, a trailing slash, `;`) match nothing.
"""

from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from libs.common.errors import NotFound, Unimplemented

METHOD_NOT_ALLOWED: Final = "METHOD_NOT_ALLOWED"
_DOTS: Final = (".", "..")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Match(Generic[T]):
    """What a path leads to, and its variables: field path → decoded text."""

    target: T
    variables: dict[str, str]


@dataclass(slots=True)
class _Node(Generic[T]):
    """What may follow the segments so far."""

    literals: dict[str, "_Node[T]"] = field(default_factory=dict)
    variable: "_Node[T] | None" = None
    # Method → target and the names of the variables on the way here.
    targets: dict[str, tuple[T, tuple[str, ...]]] = field(default_factory=dict)


class Routes(Generic[T]):
    """A table of path templates: literal segments, and `{field}` for one segment."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, method: str, template: str, target: T) -> None:
        """Adds a route.

        Raises:
            ValueError: the template is not of the supported form, or the route is there already.
        """
        node, names = self._root, []
        for segment in _segments(template):
            name = variable_of(segment)
            if name is None:
                node = node.literals.setdefault(segment, _Node())
            else:
                names.append(name)
                node.variable = node.variable or _Node()
                node = node.variable
        if method in node.targets:
            raise ValueError(f"two routes for {method} {template}")
        node.targets[method] = (target, tuple(names))

    def find(self, method: str, raw_path: str) -> Match[T]:
        """The route of a request. `HEAD` finds that of `GET`.

        Args:
            method: In capitals.
            raw_path: As it was sent, percent-encoded, without the query.

        Raises:
            NotFound: no route has this path.
            Unimplemented: one has it with other methods (reason `METHOD_NOT_ALLOWED`, metadata `allow`).
        """
        node, values = self._descend(self._root, _decoded(raw_path), [])
        if node is None:
            raise _no_route()
        found = node.targets.get("GET" if method == "HEAD" and "HEAD" not in node.targets else method)
        if found is None:
            raise _method_not_allowed(method, _allowed(node))
        target, names = found
        return Match(target, dict(zip(names, values, strict=True)))

    def methods(self, raw_path: str) -> list[str]:
        """The methods that a path has.

        Raises:
            NotFound: no route has this path.
        """
        node, _ = self._descend(self._root, _decoded(raw_path), [])
        if node is None:
            raise _no_route()
        return _allowed(node)

    def _descend(self, node: _Node[T], segments: list[str], values: list[str]) -> tuple[_Node[T] | None, list[str]]:
        if not segments:
            return (node if node.targets else None), values
        head, rest = segments[0], segments[1:]
        if literal := node.literals.get(head):
            found, taken = self._descend(literal, rest, values)
            if found:
                return found, taken
        if node.variable and head:
            return self._descend(node.variable, rest, [*values, head])
        return None, values


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
    try:
        segments = [unquote_to_bytes(segment).decode() if "%" in segment else segment for segment in _segments(raw_path)]
    except ValueError:
        raise _no_route() from None
    if ";" in raw_path or any(segment in _DOTS or not segment.isprintable() for segment in segments):
        raise _no_route()
    return segments


def _allowed(node: _Node[T]) -> list[str]:
    return sorted({*node.targets, "OPTIONS", *(["HEAD"] if "GET" in node.targets else [])})


def _no_route() -> NotFound:
    return NotFound("there is no such path; /openapi.json lists those there are", reason="NO_SUCH_PATH")


def _method_not_allowed(method: str, allowed: list[str]) -> Unimplemented:
    words = ", ".join(allowed)
    return Unimplemented(f"{method} is not possible here; possible: {words}", reason=METHOD_NOT_ALLOWED, metadata={"allow": words})
