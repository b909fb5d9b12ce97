"""Logins and tokens by an identity provider that others have written."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.common.access.principal import Role
from libs.common.errors import PermissionDenied, Unauthenticated
from services.auth.identity_providers import Provider
from services.auth.oidc_logins import Reply
from services.auth.provider_client import ProviderClient
from tests.integration.auth.refusals import reason
from tests.support.auth import HOME, AuthWorld
from tests.support.mock_provider import authorize, id_token, running_mock_provider

ADA = {"sub": "ada", "preferred_username": "ada", "email": "ada@example.com", "email_verified": True, "groups": ["crew"], "role": "boss"}


@pytest.fixture(scope="module")
def issuer(home: Path) -> Iterator[str]:
    with running_mock_provider(home / "mock-provider.log", ADA) as running:
        yield running


@pytest.fixture
async def client(issuer: str) -> AsyncIterator[ProviderClient]:
    given: dict[str, Any] = {"id": "mock", "issuer": issuer, "clientId": "kiln", "clientSecret": "any", "audience": "robots"}
    mapping = {"roleClaim": "role", "adminValues": ["boss"], "groupsClaim": "groups", "allowedDomains": ["example.com"]}
    async with ProviderClient(Provider.model_validate(given | mapping)) as made:
        yield made


async def test_somebody_signs_in_once(world: AuthWorld, client: ProviderClient) -> None:
    crew = await world.groups.create(world.root, "crew", "")
    logins = world.logins_by(client)
    location, kept = await logins.begin("mock")
    back = authorize(location, "ada")
    reply = Reply(back["state"], back["code"], "", "")

    begun = await logins.complete("mock", reply, kept, HOME)

    assert (begun.caller.name, begun.caller.role, begun.caller.groups) == ("ada", Role.ADMIN, frozenset({str(crew.id)}))
    assert await reason(Unauthenticated, logins.complete("mock", reply, kept, HOME)) == "LOGIN_EXPIRED"
    # The provider does not take a code twice either.
    location, kept = await logins.begin("mock")
    again = Reply(authorize(location, "ada")["state"], back["code"], "", "")
    assert await reason(Unauthenticated, logins.complete("mock", again, kept, HOME)) == "BAD_IDENTITY"


async def test_somebody_refuses_or_has_no_address_that_counts(world: AuthWorld, client: ProviderClient) -> None:
    logins = world.logins_by(client)
    location, kept = await logins.begin("mock")
    back = authorize(location, None)
    refused = Reply(back.get("state", ""), "", back["error"], "")
    location, other = await logins.begin("mock")
    back = authorize(location, "mallory@example.com")

    assert await reason(PermissionDenied, logins.complete("mock", refused, kept, HOME)) == "LOGIN_DENIED"
    assert (
        await reason(PermissionDenied, logins.complete("mock", Reply(back["state"], back["code"], "", ""), other, HOME))
        == "EMAIL_NOT_VERIFIED"
    )


async def test_a_programs_token_is_exchanged_and_one_for_another_client_is_not(
    world: AuthWorld, client: ProviderClient, issuer: str
) -> None:
    world.exchange = world.exchange_for(client)

    assert (await world.token(id_token(issuer, "robots", "ada")))["role"] == "ADMIN"
    assert await reason(PermissionDenied, world.token(id_token(issuer, "robots", "grace"))) == "EMAIL_NOT_VERIFIED"
    assert await reason(Unauthenticated, world.token(id_token(issuer, "kiln", "ada"))) == "BAD_CREDENTIALS"
