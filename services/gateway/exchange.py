"""One HTTP exchange, free of any server: what was asked and what is answered."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"

Header = tuple[str, str]


class Request:
    """A request. Made for every call, so that it is of the plainest kind of class.

    Attributes:
        query: As it was sent, without the question mark.
        headers: By lower-case name; of several of one name the first.
        variables: Field path → text of the path's variables, decoded; known once it has found its endpoint.
        body: Whole, unless there is an `arrival`.
        method: `GET` and so on.
        address: Where it came from.
        path: As it was sent, percent-encoded, without the query.
        arrival: Waits for a body that is still to come; None when it is there.
    """

    __slots__ = ("address", "arrival", "body", "headers", "method", "path", "query", "variables")

    def __init__(
        self, query: bytes, headers: Mapping[str, str], variables: Mapping[str, str], body: bytes, method: str, address: str, path: str = ""
    ) -> None:
        self.query = query
        self.headers = headers
        self.variables = variables
        self.body = body
        self.method = method
        self.address = address
        self.path = path
        self.arrival: Callable[[], Awaitable[None]] | None = None

    def prefers(self, media_type: str) -> bool:
        """Whether the `Accept` header names a type, before any JSON."""
        return prefers(self.headers, media_type)


class Answer:
    """An answer. The server adds the date and the length."""

    __slots__ = ("body", "headers", "media_type", "status")

    def __init__(self, status: int, body: bytes = b"", media_type: str = JSON, headers: Sequence[Header] = ()) -> None:
        self.status = status
        self.body = body
        self.media_type = media_type
        self.headers = headers


Endpoint = Callable[[Request], Awaitable[Answer]]


def prefers(headers: Mapping[str, str], media_type: str) -> bool:
    """Whether `Accept` names a type before any JSON. Weights are not looked at: browsers and clients send what they like best first."""
    for offered in headers.get("accept", "").lower().split(","):
        name = offered.partition(";")[0].strip()
        if name in (media_type, JSON):
            return name == media_type
    return False
