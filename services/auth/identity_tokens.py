"""Tokens of identity providers: whether they are to be believed, and what of them Kiln goes by."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt

from libs.common.access.access_tokens import MAX_BYTES
from libs.common.access.principal import Role
from libs.common.errors import PermissionDenied, Unauthenticated
from libs.common.ids import parse_uuid
from services.auth.identity_providers import Provider
from services.auth.names import NAME
from services.auth.provider_client import ProviderClient

# By how much the provider's clock may differ.
LEEWAY: Final = timedelta(seconds=60)
# All by public keys: whoever knows the client's secret, or the key set, must not be able to sign.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
# What `typ` may say of an ID token, and of one that a program presents. Logout and security event tokens are of others.
OF_IDENTITIES: Final = frozenset({"", "jwt"})
OF_PROGRAMS: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
MAX_SUBJECT_CHARACTERS: Final = 255
_REQUIRED: Final = ("iss", "sub", "aud", "exp", "iat")
_NO_TIME: Final = 253_402_300_799  # the end of the year 9999
_NAME_CHARACTERS: Final = 40


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody whom an identity provider knows.

    Attributes:
        issuer: The provider.
        subject: By which it knows them; another provider may know another by the same.
        name: What a new user would best be called.
        role: What the user may do; None where the provider has no say in it.
        groups: Names of the groups that the user is in; None where it has no say.
        issued_at: When it said so.
        expires_at: Until when, leeway included.
    """

    issuer: str
    subject: str
    name: str
    role: Role | None
    groups: frozenset[str] | None
    issued_at: datetime
    expires_at: datetime


async def verified(client: ProviderClient, text: str, audience: str, types: Collection[str]) -> Mapping[str, Any]:
    """What a token says, if it is the provider's, for this audience, and good now.

    Raises:
        Unauthenticated: it is not; the message says why.
        Unavailable: the provider's keys cannot be had.
    """
    if len(text) > MAX_BYTES:
        raise refused(client.provider, "it is too long")
    try:
        header = jwt.get_unverified_header(text)
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise refused(client.provider, f"it must be signed by one of {', '.join(ALGORITHMS)}")
        if str(header.get("typ", "")).lower() not in types:
            raise refused(client.provider, "it is of another kind")
        keys = [one for one in await client.keys(key_id) if _fits(one, algorithm)]
        if len(keys) != 1:
            raise refused(client.provider, "it does not name a key of the issuer's that fits")
        claims: Mapping[str, Any] = jwt.decode(
            text,
            jwt.PyJWK(dict(keys[0]), algorithm),
            algorithms=[algorithm],
            audience=audience,
            issuer=client.provider.issuer,
            leeway=LEEWAY,
            options={"require": list(_REQUIRED)},
        )
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
        raise refused(client.provider, str(error)) from None
    if "cnf" in claims:
        raise refused(client.provider, "it is bound to a key of its holder's, which a bearer cannot prove to have")
    return claims


async def verified_id_token(client: ProviderClient, text: str, nonce: str) -> Mapping[str, Any]:
    """The same for the answer to a login (OpenID Connect Core 1.0, 3.1.3.7).

    Raises:
        Unauthenticated, Unavailable: as `verified`.
    """
    provider = client.provider
    claims = await verified(client, text, provider.client_id, OF_IDENTITIES)
    azp, aud = claims.get("azp"), claims["aud"]
    if (azp is not None and azp != provider.client_id) or (azp is None and isinstance(aud, list) and len(aud) > 1):
        raise refused(provider, "it was made for another client")
    if claims.get("nonce") != nonce:
        raise refused(provider, "it belongs to another login")
    return claims


def identity_of(provider: Provider, claims: Mapping[str, Any]) -> Identity:
    """Whom verified claims are of.

    Raises:
        Unauthenticated: they do not tell.
        PermissionDenied: the provider's users need a verified email address, or one of certain domains, and this one has none.
    """
    subject = claims["sub"]
    if not 0 < len(subject) <= MAX_SUBJECT_CHARACTERS or not subject.isprintable():
        raise refused(provider, "its subject is empty, too long, or not printable")
    _check_email(provider, claims)
    is_admin = not _words(claims, provider.role_claim).isdisjoint(provider.admin_values)
    return Identity(
        issuer=provider.issuer,
        subject=subject,
        name=name_of(claims, provider.name_claim),
        role=(Role.ADMIN if is_admin else Role.DEV) if provider.role_claim else None,
        # No group has another name.
        groups=frozenset(filter(NAME.fullmatch, _words(claims, provider.groups_claim))) if provider.groups_claim else None,
        issued_at=datetime.fromtimestamp(max(0, int(claims["iat"])), UTC),
        expires_at=datetime.fromtimestamp(min(int(claims["exp"]) + LEEWAY.seconds, _NO_TIME), UTC),
    )


def name_of(claims: Mapping[str, Any], claim: str) -> str:
    """A user's name as Kiln has them, made from claims: of an address what is before the @, and of others what may be in a name."""
    for text in (_claim(claims, claim), claims.get("email")):
        if isinstance(text, str):
            plain = re.sub(r"[^a-z0-9._-]+", "-", text.partition("@")[0].lower())
            name = plain.lstrip("0123456789._-")[:_NAME_CHARACTERS].rstrip("._-")
            if name and not parse_uuid(name):
                return name
    return "user"


def refused(provider: Provider, why: str) -> Unauthenticated:
    """What a caller hears whose token is not taken."""
    return Unauthenticated(f"the token of {provider.shown} is not taken: {why}", reason="BAD_IDENTITY")


def _check_email(provider: Provider, claims: Mapping[str, Any]) -> None:
    email, is_verified = claims.get("email"), claims.get("email_verified") is True
    if (provider.require_verified_email or provider.allowed_domains) and not (is_verified and isinstance(email, str)):
        raise PermissionDenied(f"{provider.shown} does not say that it has verified your email address", reason="EMAIL_NOT_VERIFIED")
    domains = [one.lower() for one in provider.allowed_domains]
    if domains and str(email).rpartition("@")[2].lower() not in domains:
        raise PermissionDenied("your email address is not of a domain that is let in here", reason="DOMAIN_NOT_ALLOWED")


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    kind = {"R": "RSA", "P": "RSA"}.get(algorithm[0]) or ("OKP" if algorithm == "EdDSA" else "EC")
    return key.get("kty") == kind and key.get("use", "sig") == "sig" and key.get("alg", algorithm) == algorithm


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or by the names on the way to it, for instance `realm_access.roles`."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _words(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """The texts of a claim: one, or a list."""
    found = _claim(claims, path) if path else None
    listed = found if isinstance(found, list) else [found]
    return frozenset(one for one in listed if isinstance(one, str))
