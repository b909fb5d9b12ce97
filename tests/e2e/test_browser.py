"""What people do with a browser on the page at the root: a real one, with the whole platform and an identity provider behind it."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.mock_provider import id_token, running_mock_provider
from tests.support.platform import Platform, error_of, running_platform

CHROMIUM: Final = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
PASSWORD: Final = "nine horses cross a frozen lake"
BETTER: Final = "seven grey cats on a tin roof"
GRACE: Final[dict[str, Any]] = {"sub": "grace-1", "preferred_username": "grace", "roles": ["operators"]}
PATIENCE_MS: Final = 30_000

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: run `make browser`")


@pytest.fixture(scope="module")
def issuer(home: Path) -> Iterator[str]:
    """An identity provider that knows Grace."""
    with running_mock_provider(home / "mock-provider.log", GRACE) as running:
        yield running


@pytest.fixture(scope="module")
def own(home: Path, issuer: str) -> Iterator[Platform]:
    """A platform whose users may sign in by that."""
    mock = {"id": "mock", "title": "Acme", "issuer": issuer, "clientId": "kiln", "clientSecret": "any", "audience": "robots"}
    mapping = {"roleClaim": "roles", "adminValues": ["operators"]}
    with running_platform(home / "browser", KILN_AUTH_OIDC=json.dumps([mock | mapping])) as platform:
        yield platform


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser without a window. Root's has no sandbox of its own, and needs none for these pages."""
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=[*options, "--disable-dev-shm-usage"])
        yield opened
        opened.close()


@contextmanager
def page_of(browser: Browser, platform: Platform) -> Iterator[Page]:
    """The page at the root, in a browser that nobody has used; whatever its scripts stumble over fails the test."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page, faults = context.new_page(), list[str]()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(f"http://{platform.http_address}/")
    yield page
    context.close()
    assert faults == []


def sign_in(page: Page, name: str, password: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


def expect_signed_in(page: Page, name: str) -> None:
    expect(page.get_by_text(f"Signed in as {name}")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_role("button", name="Sign in")).to_be_hidden()


def expect_signed_out(page: Page, said: str = "") -> None:
    expect(page.get_by_role("button", name="Sign in")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    expect(page.locator("[role=status]")).to_contain_text(said, timeout=PATIENCE_MS)


def test_somebody_signs_in_changes_the_password_and_signs_out(own: Platform, browser: Browser) -> None:
    own.http.post("/users", json={"name": "ada", "password": PASSWORD}).raise_for_status()
    with page_of(browser, own) as page:
        sign_in(page, "ada", BETTER)
        expect_signed_out(page, "the credentials are not valid")
        sign_in(page, "ada", PASSWORD)
        expect_signed_in(page, "ada")

        page.get_by_text("Change password").click()
        page.get_by_label("Current password").fill(PASSWORD)
        for new, said in (("short", "newPassword: "), (BETTER, "The password is changed")):
            page.get_by_label("New password").fill(new)
            page.get_by_role("button", name="Change", exact=True).click()
            expect(page.locator("[role=status]")).to_contain_text(said, timeout=PATIENCE_MS)
        page.reload()
        expect_signed_in(page, "ada")

        page.get_by_role("button", name="Sign out").click()
        expect_signed_out(page)
        assert page.context.cookies() == []
        sign_in(page, "ada", PASSWORD)
        expect_signed_out(page, "the credentials are not valid")
        sign_in(page, "ada", BETTER)
        expect_signed_in(page, "ada")


def test_somebody_signs_in_by_an_identity_provider_and_is_who_it_says(own: Platform, browser: Browser) -> None:
    with page_of(browser, own) as page:
        page.get_by_role("link", name="Acme").click()
        page.get_by_role("button", name=GRACE["sub"]).first.click()

        expect_signed_in(page, "grace")
        assert page.url == f"http://{own.http_address}/"
        # She has no password here.
        expect(page.get_by_text("Change password")).to_be_hidden()
        (cookie,) = page.context.cookies()
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("kiln_session", True, "Lax")
        answer = page.request.get(f"http://{own.http_address}/users/grace").json()
        assert (answer["role"], answer["hasPassword"]) == ("ADMIN", False)
        page.get_by_role("button", name="Sign out").click()
        expect_signed_out(page)


def test_somebody_who_refuses_at_the_provider_reads_so_on_the_page(own: Platform, browser: Browser) -> None:
    with page_of(browser, own) as page:
        page.get_by_role("link", name="Acme").click()
        page.get_by_role("button", name="Deny").click()

        expect_signed_out(page, "Acme did not sign you in: access was denied")
        assert page.url == f"http://{own.http_address}/"
        assert page.request.get(f"http://{own.http_address}/auth/whoami").status == 401


def test_what_a_browser_brings_back_signs_in_once_and_no_other_browser(own: Platform, browser: Browser) -> None:
    with page_of(browser, own) as page, page_of(browser, own) as other:
        brought = list[str]()
        page.on("request", lambda request: brought.append(request.url) if "/callback?" in request.url else None)
        page.get_by_role("link", name="Acme").click()
        page.get_by_role("button", name=GRACE["sub"]).first.click()
        expect_signed_in(page, "grace")

        # A link that signs whoever follows it in as somebody else; and the same page once more.
        other.goto(brought[0])
        expect_signed_out(other, "this login was not begun in this browser")
        page.get_by_role("button", name="Sign out").click()
        expect_signed_out(page)
        page.goto(brought[0])
        expect_signed_out(page, "sign in again")


def test_a_program_presents_a_token_of_the_provider(own: Platform, issuer: str) -> None:
    with httpx.Client(base_url=f"http://{own.http_address}", timeout=30, trust_env=False) as program:
        good = program.get("/auth/whoami", headers={"authorization": f"Bearer {id_token(issuer, 'robots', 'robot')}"})
        bad = program.get("/auth/whoami", headers={"authorization": f"Bearer {id_token(issuer, 'another-client', 'robot')}"})

    assert (good.json()["role"], good.json()["session"], good.json()["apiKey"]) == ("DEV", "", "")
    assert (bad.status_code, error_of(bad)["details"][0]["reason"]) == (401, "BAD_CREDENTIALS")
