"""Tokens that somebody else than Kiln made. Who that may be only the auth service knows: others take them to it, to be exchanged."""

import base64
from typing import Final

import orjson

from libs.common.access import access_tokens, service_tokens

# As long as what a credential is exchanged for: neither fits into gRPC's metadata otherwise.
MAX_BYTES: Final = access_tokens.MAX_BYTES
_KILNS_OWN: Final = frozenset({access_tokens.ISSUER, service_tokens.ISSUER})


def foreign_issuer(text: str) -> str | None:
    """Who a token (JWT) says that it is of; None for what is no token, or says that Kiln made it. Nothing of it is believed."""
    parts = text.split(".", 3) if len(text) <= MAX_BYTES and text.isascii() else ()
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    return issuer if isinstance(issuer, str) and issuer and issuer not in _KILNS_OWN else None
