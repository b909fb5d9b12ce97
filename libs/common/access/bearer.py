"""How credentials and tokens travel: as `authorization: Bearer ...` (RFC 6750), in HTTP's headers and gRPC's metadata alike."""

from typing import Final

AUTHORIZATION: Final = "authorization"


def bearer(presented: str) -> str:
    """The value that presents a credential or token."""
    return f"Bearer {presented}"


def presented(authorization: str) -> str | None:
    """What a value presents; None for one of another scheme. The scheme may be written in any case."""
    scheme, space, rest = authorization.partition(" ")
    return rest.strip() if space and scheme.lower() == "bearer" else None
