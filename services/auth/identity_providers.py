"""Identity providers, as the settings name them: where people sign in besides by a password, and whose tokens programs may present."""

import json
from typing import Any, Final, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel

from libs.common.urls import is_safe_url

MAX_PROVIDERS: Final = 20


class Provider(BaseModel):
    """One identity provider.

    Attributes:
        id: In paths.
        title: On the button.
        issuer: Who it is, as its tokens say; its discovery document is beneath that.
        client_id: As whom it knows Kiln. Empty: nobody signs in there.
        client_secret: By which Kiln proves that; None for a public client, which PKCE alone protects.
        scopes: What it is asked to tell.
        audience: Of the tokens that programs may present. Empty: none are taken.
        role_claim: The claim that tells who is ADMIN. Empty: users begin as DEV, and only an ADMIN changes that.
        admin_values: Those of its values that do.
        groups_claim: The claim that names groups. Empty: only an ADMIN puts users into groups.
        name_claim: The claim that a new user's name is made from.
        require_verified_email: Whether only those are let in whose email address the provider has verified.
        allowed_domains: Whether only those of such an address at these domains are; empty for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, hide_input_in_errors=True)

    id: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    title: str = Field("", max_length=60)
    issuer: str
    client_id: str = ""
    client_secret: SecretStr | None = None
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    audience: str = ""
    role_claim: str = ""
    admin_values: tuple[str, ...] = ()
    groups_claim: str = ""
    name_claim: str = "preferred_username"
    require_verified_email: bool = False
    allowed_domains: tuple[str, ...] = ()

    @field_validator("issuer")
    @classmethod
    def _is_an_issuer(cls, text: str) -> str:
        if not is_safe_url(text) or urlsplit(text).query or urlsplit(text).fragment:
            raise ValueError("must be an https URL without query, or one of http on a loopback address")
        return text

    @field_validator("scopes")
    @classmethod
    def _asks_for_an_identity(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in scopes or any(not one or " " in one for one in scopes):
            raise ValueError("must be words, and `openid` among them")
        return scopes

    @model_validator(mode="after")
    def _is_good_for_something(self) -> Self:
        if not self.client_id and not self.audience:
            raise ValueError("clientId or audience must be given: else nobody can sign in, and no token is taken")
        if self.client_id and self.client_id == self.audience:
            raise ValueError("audience must be another than clientId: else every token that tells who signed in could make calls")
        if bool(self.role_claim) is not bool(self.admin_values):
            raise ValueError("roleClaim and adminValues are given together or not at all")
        return self

    @property
    def shown(self) -> str:
        """What people call it."""
        return self.title or self.id


def read_providers(text: str) -> tuple[Provider, ...]:
    """The providers that a setting spells: a list in JSON.

    Raises:
        ValueError: it is none, or a field is bad; the message names it, and has nothing of any value.
    """
    try:
        listed = json.loads(text)
    except ValueError:
        raise ValueError("must be a list of identity providers in JSON") from None
    if not isinstance(listed, list) or len(listed) > MAX_PROVIDERS:
        raise ValueError(f"must be a list of at most {MAX_PROVIDERS} identity providers")
    providers = tuple(_read(one, place) for place, one in enumerate(listed))
    for field in ("id", "issuer"):
        if len({getattr(one, field) for one in providers}) < len(providers):
            raise ValueError(f"two identity providers have the same {field}")
    return providers


def _read(given: Any, place: int) -> Provider:
    try:
        return Provider.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise ValueError(f"[{place}]{field}: {first['msg'].removeprefix('Value error, ')}") from None
