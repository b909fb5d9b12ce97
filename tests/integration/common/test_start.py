"""No process starts that would let in everyone who reaches it from elsewhere, or that could not tell who calls."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from libs.common.server import _service_tokens
from libs.common.settings import SERVICES, InvalidSettings, ProcessSettings
from libs.local.ports import free_ports
from tests.support.access import SERVICE_SECRET
from tests.support.processes import environment, running_process
from tests.support.services import running_services

EX_CONFIG: Final = 78
# Enough to start with; nobody is at these addresses, and nobody is asked before the settings are understood.
ENOUGH: Final = {
    "KILN_DATABASE_URL": "postgresql://kiln:secret@127.0.0.1:1/kiln",
    "KILN_LISTEN_ADDRESS": "127.0.0.1:1",
    "KILN_HTTP_ADDRESS": "127.0.0.1:1",
    "KILN_GRPC_ADDRESS": "127.0.0.1:1",
    "KILN_REGISTRY_ADDRESS": "127.0.0.1:1",
    "KILN_COMPILER_ADDRESS": "127.0.0.1:1",
    "KILN_EXECUTOR_ADDRESS": "127.0.0.1:1",
    "KILN_SEALING_KEY": base64.b64encode(bytes(32)).decode(),
}


def start(service: str, **variables: str) -> tuple[int, str]:
    """Exit code and last words of a service that does not start."""
    done = subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        env=environment(**{**ENOUGH, **({"KILN_EXECUTOR_JOURNAL_FOLDER": "/nowhere"} if service == "executor" else {}), **variables}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()[-1]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("secret", [{}, {"KILN_SERVICE_SECRET": "too short"}], ids=["none", "short"])
def test_without_a_secret_no_service_starts(service: str, secret: dict[str, str]) -> None:
    code, words = start(service, **secret)

    assert code == EX_CONFIG
    assert words == "kiln: KILN_SERVICE_SECRET must have 32 characters or more, unless KILN_AUTH is off"


@pytest.mark.parametrize("service", SERVICES)
def test_where_everyone_may_do_everything_no_service_listens_for_others(service: str) -> None:
    variable = "KILN_GRPC_ADDRESS" if service == "gateway" else "KILN_LISTEN_ADDRESS"

    code, words = start(service, KILN_AUTH="off", **{variable: "0.0.0.0:1"})

    assert code == EX_CONFIG
    assert words == "kiln: KILN_AUTH=off is for loopback addresses alone, and this process is to listen on 0.0.0.0:1"


def test_each_address_of_the_gateway_counts() -> None:
    code, words = start("gateway", KILN_AUTH="off", KILN_HTTP_ADDRESS="[::]:1")

    assert code == EX_CONFIG
    assert "[::]:1" in words


@pytest.mark.parametrize("word", ["of", "OFF", "false", "0", ""])
def test_auth_is_not_switched_off_by_a_word_that_only_looks_like_it(word: str) -> None:
    code, words = start("gateway", KILN_AUTH=word, KILN_SERVICE_SECRET=SERVICE_SECRET)

    assert code == EX_CONFIG
    assert words.startswith("kiln: KILN_AUTH: ")


def settings(auth: str) -> ProcessSettings:
    return ProcessSettings.model_validate({"auth": auth, "service_secret": SERVICE_SECRET})


@pytest.mark.parametrize("address", ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "localhost:80"])
def test_an_address_that_only_this_machine_reaches_will_do(address: str) -> None:
    assert _service_tokens("gateway", settings("off"), [address]) is None


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0:80", "[::]:80", ":80", "80", "", "10.0.0.1:80", "192.168.1.7:80", "[fe80::1]:80", "example.com:80"),
        *("localhost.example.com:80", "127.0.0.1.example.com:80", "128.0.0.1:80", "0:80", "[::ffff:10.0.0.1]:80", "unix:/tmp/kiln"),
    ],
)
def test_any_other_address_will_not_also_beside_one_that_does(address: str) -> None:
    with pytest.raises(InvalidSettings, match="KILN_AUTH=off is for loopback addresses alone"):
        _service_tokens("gateway", settings("off"), ["127.0.0.1:80", address])


def test_where_it_is_asked_who_calls_any_address_will_do_and_the_secret_is_used() -> None:
    tokens = _service_tokens("gateway", settings("on"), ["0.0.0.0:80"])

    assert tokens
    assert tokens.verify(tokens.own())[0].name == "gateway"


def test_a_process_that_lets_everyone_in_says_so_at_its_start(tmp_path: Path) -> None:
    http, grpc = (f"127.0.0.1:{port}" for port in free_ports(2))
    log = tmp_path / "gateway.log"
    with running_services() as (address, _):
        addresses = {f"KILN_{name}_ADDRESS": address for name in ("REGISTRY", "COMPILER", "EXECUTOR", "AUTH")}
        with running_process("gateway", grpc, log, KILN_AUTH="off", KILN_HTTP_ADDRESS=http, KILN_GRPC_ADDRESS=grpc, **addresses):
            first = json.loads(log.read_text().splitlines()[0])

    assert (first["event"], first["level"]) == ("auth_off", "warning")
    assert first["meaning"] == "everyone who reaches this process may do everything"
