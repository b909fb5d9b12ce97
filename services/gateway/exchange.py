"""One HTTP exchange, free of any server: what was asked and what is answered."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """A request that found its endpoint.

    Attributes:
        query: As it was sent, without the question mark.
        headers: By lower-case name; of several of one name the first.
        variables: Field path → text of the path's variables, decoded.
        body: Whole.
        method: `GET` and so on.
        address: Where it came from.
    """

    query: bytes
    headers: Mapping[str, str]
    variables: Mapping[str, str]
    body: bytes
    method: str
    address: str

    def prefers(self, media_type: str) -> bool:
        """Whether the `Accept` header names a type, before any JSON."""
        return prefers(self.headers, media_type)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. The server adds the date and the length."""

    status: int
    body: bytes = b""
    media_type: str = JSON
    headers: list[Header] = field(default_factory=list)


Endpoint = Callable[[Request], Awaitable[Answer]]


def prefers(headers: Mapping[str, str], media_type: str) -> bool:
    """Whether `Accept` names a type before any JSON. Weights are not looked at: browsers and clients send what they like best first."""
    for offered in headers.get("accept", "").lower().split(","):
        name = offered.partition(";")[0].strip()
        if name in (media_type, JSON):
            return name == media_type
    return False
