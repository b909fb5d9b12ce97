"""oidc-provider-mock, an identity provider for tests, as a process of its own. Whoever says who they are is believed."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from libs.local.ports import free_ports
from tests.support.processes import environment


@contextmanager
def running_mock_provider(log: Path, *users: Mapping[str, Any]) -> Iterator[str]:
    """The issuer of a provider that knows these users by their claims, while the block runs."""
    port = free_ports(1)[0]
    known = [word for user in users for word in ("--user-claims", json.dumps(user))]
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce", *known]
    issuer = f"http://127.0.0.1:{port}"
    with log.open("ab") as file:
        process = subprocess.Popen(command, env=environment(), stdout=file, stderr=file)
        try:
            _wait_until_serving(issuer, process, log)
            yield issuer
        finally:
            process.terminate()
            process.wait(10)


def authorize(location: str, subject: str | None) -> dict[str, str]:
    """Somebody signs in on the page that a browser was sent to, or refuses; what they bring back."""
    form = {"action": "deny"} if subject is None else {"sub": subject}
    answer = httpx.post(location, data=form, timeout=10, trust_env=False)
    assert answer.status_code == 302, answer.text
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


def id_token(issuer: str, client: str, subject: str) -> str:
    """An ID token as another client of the provider's gets it."""
    back = "http://127.0.0.1/back"
    asked = {
        "client_id": client,
        "redirect_uri": back,
        "response_type": "code",
        "scope": "openid profile email",
        "nonce": f"{client} {time.time()}",
    }
    code = authorize(str(httpx.URL(f"{issuer}/oauth2/authorize", params=asked)), subject)["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back}
    answer = httpx.post(f"{issuer}/oauth2/token", data=form, auth=(client, "any"), timeout=10, trust_env=False)
    token: str = answer.json()["id_token"]
    return token


def _wait_until_serving(issuer: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    give_up = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"{issuer}/.well-known/openid-configuration", timeout=5, trust_env=False).raise_for_status()
        except httpx.HTTPError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.1)
        else:
            return
