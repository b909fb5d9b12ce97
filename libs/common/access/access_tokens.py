"""Access tokens: what a credential is exchanged for, and every service verifies by itself. JWTs (RFC 9068 in form) signed with Ed25519.

A token says who calls as the auth service knew it at a revision. Whoever verifies it must ask besides whether anything of that has changed
since (`libs.common.access.watch`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from libs.common.access.principal import Principal, Role
from libs.common.errors import Unauthenticated

ISSUER: Final = "kiln"
AUDIENCE: Final = "kiln"
TYPE: Final = "at+jwt"
# The only algorithm there is, for signing and for verifying.
ALGORITHM: Final = "EdDSA"
MAX_SECONDS: Final = 300
# Fits into gRPC's metadata beside all else; the largest that is ever made, of a hundred groups and functions, has 10 KB.
MAX_BYTES: Final = 12 << 10
# By how much clocks of services may differ.
LEEWAY_SECONDS: Final = 5

_REQUIRED: Final = ("iss", "aud", "sub", "exp", "iat", "name", "role", "rev")


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a token says.

    Attributes:
        principal: Who calls.
        revision: What was known of that when it was made.
        expires_at: Unix time in seconds.
    """

    principal: Principal
    revision: int
    expires_at: float


def sign(token: AccessToken, key: Ed25519PrivateKey, key_id: str, issued_at: float) -> str:
    """The token as it travels.

    Args:
        token: What to say.
        key: Signs it.
        key_id: Names the key.
        issued_at: Unix time in seconds.
    """
    principal = token.principal
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": principal.id,
        "iat": int(issued_at),
        "exp": int(token.expires_at),
        "rev": token.revision,
        "name": principal.name,
        "role": principal.role.value,
        "groups": sorted(principal.groups),
    }
    narrowing = {"functions": sorted(principal.functions), "verbs": sorted(principal.verbs)}
    by = {"session": principal.session, "api_key": principal.api_key}
    claims |= {name: value for name, value in {**narrowing, **by}.items() if value}
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": key_id, "typ": TYPE})


def verify(text: str, keys: Mapping[str, Ed25519PublicKey]) -> AccessToken:
    """What a token says, if it is one of the auth service's and has not expired.

    Args:
        text: As it travels.
        keys: Those that it may be signed with, by their names.

    Raises:
        Unauthenticated: it is none, or another's, or has expired.
    """
    if len(text) > MAX_BYTES:
        raise refused("it is too long")
    try:
        header = jwt.get_unverified_header(text)
        key = keys.get(header.get("kid", ""))
        if header.get("typ") != TYPE or header.get("alg") != ALGORITHM or key is None:
            raise refused("it is of another kind, or signed with an unknown key")
        claims = jwt.decode(
            text,
            key,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            leeway=LEEWAY_SECONDS,
            options={"require": list(_REQUIRED), "strict_aud": True},
        )
        return _token(claims)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise refused(str(error)) from None


def expiry(token: AccessToken) -> datetime:
    """When a token ends."""
    return datetime.fromtimestamp(token.expires_at, UTC)


def refused(why: str) -> Unauthenticated:
    """What a caller hears whose token is not taken."""
    return Unauthenticated(f"the access token is not valid: {why}", reason="BAD_TOKEN")


def _token(claims: Mapping[str, Any]) -> AccessToken:
    role = Role(claims["role"])
    if role is Role.SERVICE:
        raise ValueError("no user is a service")
    principal = Principal(
        id=claims["sub"],
        name=claims["name"],
        role=role,
        groups=_words(claims, "groups"),
        session=claims.get("session", ""),
        api_key=claims.get("api_key", ""),
        functions=_words(claims, "functions"),
        verbs=_words(claims, "verbs"),
    )
    return AccessToken(principal, int(claims["rev"]), float(claims["exp"]))


def _words(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    return frozenset(claims.get(name, ()))
