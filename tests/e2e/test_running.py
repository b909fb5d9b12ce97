"""Starting and stopping all of it, as people do."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from libs.common.languages import LANGUAGES, WASM
from libs.local import ports
from tests.support.platform import Platform, running_platform
from tests.support.postgres import TestPostgres
from tests.support.processes import descendants
from tests.support.tls import Authority


@pytest.fixture
def own(home: Path, request: pytest.FixtureRequest) -> Iterator[Platform]:
    """A platform of the test's own."""
    with running_platform(home / request.node.name) as platform:
        yield platform


def second_run(**variables: str) -> subprocess.CompletedProcess[str]:
    """Another run, to its end."""
    return subprocess.run([sys.executable, "-m", "libs.local"], env=variables, capture_output=True, text=True, check=False, timeout=60)


def gone(processes: list[psutil.Process], seconds: float = 30) -> bool:
    """Whether all of them end in time."""
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def test_it_says_where_it_is_and_what_to_try(platform: Platform) -> None:
    said = "".join(platform.output)

    assert f"http://{platform.http_address}" in said
    assert f"grpcurl -plaintext {platform.grpc_address} list" in said
    assert f"curl -s http://{platform.http_address}/functions" in said


def test_health_tells_of_every_service(platform: Platform) -> None:
    answer = platform.http.get("/health")

    assert (answer.status_code, answer.json()["status"]) == (200, "UP")
    assert answer.json()["services"] == {name: {"status": "UP"} for name in ("registry", "compiler", "executor", "auth")}


def test_the_languages_are_listed_with_starters_that_run(platform: Platform) -> None:
    languages = platform.http.get("/languages").json()["languages"]
    there = [one for one in languages if one["available"] and one["id"] != WASM]

    for language in there:
        platform.create(f"starter-{language['id']}", language["starter"], language=language["id"])

    assert [one["id"] for one in languages] == sorted(LANGUAGES)
    assert {"assemblyscript", "c", "cpp", "go", "zig"} <= {one["id"] for one in there}
    assert all(one["available"] != bool(one["installHint"]) for one in languages)
    for language in there:
        assert platform.settled(f"starter-{language['id']}")["status"] == "READY"
        assert platform.execute(f"starter-{language['id']}", {"name": "Ada"})["output"] == {"message": "Hello, Ada!"}


def test_the_page_at_the_root_is_for_browsers_and_programs(platform: Platform) -> None:
    page, listed = platform.http.get("/", headers={"accept": "text/html"}), platform.http.get("/")

    assert "<h1>Kiln</h1>" in page.text
    assert f"curl {platform.http_address}/functions" in page.text
    assert f"grpcurl -plaintext {platform.grpc_address} list" in page.text
    assert listed.json()["links"]["functions"] == "/functions"


def test_the_page_at_the_root_is_not_written_by_who_asks_for_it(platform: Platform) -> None:
    page = platform.http.get("/", headers={"accept": "text/html", "host": "<script>alert(1)</script>"})

    assert "alert(1)" in page.text
    assert "<script>alert" not in page.text


def test_a_second_run_on_the_same_home_says_so_and_stops(platform: Platform) -> None:
    second = second_run(**platform.environment())

    assert second.returncode == 1
    assert f"in use by another run (process {platform.pid})" in second.stdout
    assert platform.http.get("/health").status_code == 200


@pytest.mark.parametrize(("variable", "address"), [("KILN_HTTP_ADDRESS", "http_address"), ("KILN_GRPC_ADDRESS", "grpc_address")])
def test_a_second_run_on_the_same_port_says_so_and_stops(platform: Platform, home: Path, variable: str, address: str) -> None:
    free = {"KILN_HTTP_ADDRESS": "127.0.0.1:0", "KILN_GRPC_ADDRESS": "127.0.0.1:0"}
    taken = {**free, variable: getattr(platform, address)}

    second = second_run(**{**platform.environment(), **taken, "KILN_HOME": str(home / f"second-{variable}")})

    assert second.returncode == 1
    assert f"cannot listen on {getattr(platform, address)}" in second.stdout
    assert variable in second.stdout


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("KILN_HTTP_ADRESS", "127.0.0.1:1", "did you mean KILN_HTTP_ADDRESS?"),
        ("KILN_LOG_LEVEL", "loud", "KILN_LOG_LEVEL"),
        ("KILN_REGISTRY_MAX_MEMORY_MB", "lots", "KILN_REGISTRY_MAX_MEMORY_MB"),
        ("KILN_EXECUTOR_WORKERZ", "2", "did you mean KILN_EXECUTOR_WORKERS?"),
        ("KILN_TLS_CERT_FILE", "cert.pem", "KILN_TLS_KEY_FILE: is missing"),
    ],
)
def test_a_bad_setting_stops_the_start_and_is_named(platform: Platform, home: Path, variable: str, value: str, said: str) -> None:
    free = {"KILN_HTTP_ADDRESS": "127.0.0.1:0", "KILN_GRPC_ADDRESS": "127.0.0.1:0", "KILN_HOME": str(home / "bad-setting")}

    run = second_run(**{**platform.environment(), **free, variable: value})

    assert run.returncode == 1
    assert said in run.stdout


def test_a_home_that_is_closed_to_others_will_do(home: Path, request: pytest.FixtureRequest) -> None:
    closed = home / request.node.name
    closed.mkdir(mode=0o700)

    with running_platform(closed) as platform:
        assert platform.http.get("/health").json()["status"] == "UP"

    assert closed.stat().st_mode & 0o777 == 0o700


def test_a_postgresql_of_ones_own_is_used_where_one_is_named(home: Path, postgres: TestPostgres) -> None:
    url_file = home / "database-url"
    url_file.write_text(asyncio.run(postgres.new_database()))

    with running_platform(home / "own-database", KILN_DATABASE_URL_FILE=str(url_file)) as platform:
        platform.deploy("elsewhere")
        assert platform.execute("elsewhere", 1)["output"] == 1

    assert not (home / "own-database" / "postgres").exists()


def test_a_certificate_is_passed_on_and_what_is_said_to_try_speaks_tls(home: Path) -> None:
    authority, cert, key = Authority(), home / "cert.pem", home / "key.pem"
    for file, content in zip((cert, key), authority.issue(), strict=True):
        file.write_bytes(content)

    with running_platform(home / "tls", KILN_TLS_CERT_FILE=str(cert), KILN_TLS_KEY_FILE=str(key)) as platform:
        said, place = "".join(platform.output), f"https://{platform.http_address}"
        answer = httpx.get(f"{place}/functions", headers=platform.headers, verify=authority.context(), trust_env=False, timeout=20)

    assert answer.status_code == 200
    assert f"curl -s {place}/functions" in said
    assert f"(grpcurl {platform.grpc_address} list)" in said


def test_ctrl_c_stops_all_of_it_and_the_data_stays(own: Platform) -> None:
    own.deploy("kept")
    execution = own.execute("kept", [1, 2])
    processes = descendants(own.pid)

    assert own.stop() == 0

    assert gone(list(processes))
    own.start()
    assert own.http.get(f"/executions/{execution['id']}").json()["output"] == [1, 2]
    assert own.execute("kept", 3)["output"] == 3


def test_the_death_of_the_runner_stops_all_of_it(own: Platform) -> None:
    processes = descendants(own.pid)

    own.kill()

    assert gone(list(processes))
    own.start()
    assert own.http.get("/health").status_code == 200


def test_calls_in_flight_end_before_it_stops(own: Platform) -> None:
    own.deploy("counting", "export function handle(input: string): string { while (Date.now() < <i64>parseFloat(input)) {} return input; }")
    client = subprocess.Popen(
        [
            "curl",
            "-s",
            f"http://{own.http_address}/functions/counting/execute",
            "-H",
            "content-type: application/json",
            "-H",
            f"authorization: Bearer {own.key}",
            "-d",
            f'{{"input": {int(time.time() * 1000) + 2000}}}',
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    while not own.http.get("/functions/counting/executions?status=RUNNING").json()["executions"]:
        pass

    own.stop()

    assert '"status":"COMPLETED"' in client.communicate(timeout=20)[0]
    own.start()


def test_ports_for_the_inner_services_are_none_that_the_gateway_is_to_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_ALL", range(10_000, 10_040))
    kept = range(10_000, 10_030)

    assert not set(ports.free_ports(3, kept=kept)) & set(kept)
