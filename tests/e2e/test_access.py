"""Several people share one platform: who may do what, for each way in, and how soon it acts when that changes."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest

from tests.support.platform import ECHO, Platform, error_of, running_platform
from tests.support.processes import ROOT
from tests.support.waiting import within

PASSWORD: Final = "nine horses cross a frozen lake"
# How soon the end of a credential must act everywhere.
SECONDS: Final = 5
# As a browser says of a page of Kiln's own.
OWN_PAGE: Final = {"sec-fetch-site": "same-origin"}


@pytest.fixture(scope="module")
def own(home: Path) -> Iterator[Platform]:
    """A platform of these tests' own, with a function for everyone."""
    with running_platform(home / "access") as platform:
        platform.deploy("open", ECHO)
        yield platform


@contextmanager
def client(platform: Platform, credential: str = "", **headers: str) -> Iterator[httpx.Client]:
    """Somebody who calls."""
    bearer = {"authorization": f"Bearer {credential}"} if credential else {}
    with httpx.Client(base_url=f"http://{platform.http_address}", headers=bearer | headers, timeout=30, trust_env=False) as opened:
        yield opened


def user(platform: Platform, name: str, **fields: Any) -> dict[str, Any]:
    return platform.made("/users", **{"name": name, "password": PASSWORD, **fields})


def key_of(platform: Platform, name: str, **fields: Any) -> str:
    key: str = platform.made("/api-keys", **{"name": "a key", "user": name, **fields})["key"]
    return key


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, error_of(answer)["details"][0]["reason"]


def test_nobody_is_told_how_to_become_somebody_and_gets_nothing(own: Platform) -> None:
    with client(own) as nobody:
        refused = nobody.get("/functions")

        assert refusal(refused) == (401, "NO_CREDENTIAL")
        assert "authorization: Bearer kiln_" in error_of(refused)["message"]
        assert refused.headers["www-authenticate"].startswith("Bearer")
        for path in ("/languages", "/functions/open", "/users", "/api-keys", "/auth/whoami"):
            assert nobody.get(path).status_code == 401
        assert nobody.post("/functions/open/execute", json={}).status_code == 401
        for path in ("/health", "/openapi.json", "/", "/.well-known/jwks.json"):
            assert nobody.get(path).status_code == 200


def test_a_dev_runs_and_reads_what_is_open_and_changes_nothing(own: Platform) -> None:
    identity = user(own, "dora")["id"]
    with client(own, key_of(own, "dora")) as dora:
        ran = dora.post("/functions/open/execute", json={"input": 1}).json()

        assert (ran["status"], ran["createdBy"]) == ("COMPLETED", identity)
        assert dora.get(f"/executions/{ran['id']}").json()["createdBy"] == identity
        assert dora.get("/auth/whoami").json()["name"] == "dora"
        for method, path, body in (
            ("POST", "/functions", {"name": "mine", "language": "assemblyscript", "source": ECHO}),
            ("PUT", "/functions/open", {"description": "mine"}),
            ("DELETE", "/functions/open", None),
            ("POST", "/functions/open/rollback", {"version": 1}),
            ("POST", "/users", {"name": "mallory"}),
            ("PUT", "/users/dora", {"role": "ADMIN"}),
            ("GET", "/users", None),
        ):
            assert refusal(dora.request(method, path, json=body)) == (403, "ADMIN_NEEDED")


def test_a_function_with_lists_is_theirs_whom_they_name_from_the_next_call_on(own: Platform) -> None:
    ann, bob = user(own, "ann"), user(own, "bob")
    crew = own.made("/groups", name="crew")
    own.http.post("/groups/crew/members", json={"user": "bob"}).raise_for_status()
    own.deploy("secret", ECHO, allowedUsers=[ann["id"]])
    run = own.execute("secret", 1)
    with client(own, key_of(own, "ann")) as as_ann, client(own, key_of(own, "bob")) as as_bob:

        def reaches(who: httpx.Client) -> set[bool]:
            """What each way to the function says."""
            answers = [
                who.get("/functions/secret"),
                who.get("/functions/secret/versions"),
                who.get("/functions/secret/executions"),
                who.get(f"/executions/{run['id']}"),
                who.post("/functions/secret/execute", json={}),
                who.post("/functions/secret/executeBatch", json={"inputs": [1]}),
            ]
            assert {answer.status_code for answer in answers} <= {200, 404}
            listed = "secret" in [one["name"] for one in who.get("/functions").json()["functions"]]
            return {listed, *(answer.status_code == 200 for answer in answers)}

        assert (reaches(as_ann), reaches(as_bob)) == ({True}, {False})
        absent = as_bob.get("/functions/nobody")
        assert error_of(as_bob.get("/functions/secret"))["message"] == error_of(absent)["message"].replace("nobody", "secret")

        own.update("secret", allowedUsers=[], allowedGroups=[crew["id"]])
        assert (reaches(as_ann), reaches(as_bob)) == ({False}, {True})

        own.http.delete(f"/groups/crew/members/{bob['id']}").raise_for_status()
        within(SECONDS, lambda: reaches(as_bob) == {False})

        # A group that is gone leaves its id behind, so that nothing is everyone's by accident.
        own.http.delete("/groups/crew").raise_for_status()
        assert own.http.get("/functions/secret").json()["allowedGroups"] == [crew["id"]]
        assert reaches(as_ann) == {False}
        own.update("secret", allowedGroups=[])
        assert reaches(as_ann) == {True}


def test_a_key_can_be_narrowed_to_kinds_of_calls_and_to_functions(own: Platform) -> None:
    user(own, "nora")
    other = own.deploy("other", ECHO)
    with client(own, key_of(own, "nora", verbs=["EXECUTE"])) as runs, client(own, key_of(own, "nora", functions=[other["id"]])) as one:
        assert runs.post("/functions/open/execute", json={}).status_code == 200
        assert refusal(runs.get("/functions/open")) == (403, "KEY_NARROWED")
        assert [function["name"] for function in one.get("/functions").json()["functions"]] == ["other"]
        assert one.post("/functions/other/execute", json={}).status_code == 200
        assert one.post("/functions/open/execute", json={}).status_code == 404
        assert refusal(one.post("/api-keys", json={"name": "wider"})) == (403, "KEY_NARROWED")


def test_a_browser_signs_in_by_a_cookie_and_is_out_after_it_signs_out(own: Platform) -> None:
    user(own, "wilma")
    with client(own, **OWN_PAGE) as browser:
        wrong = browser.post("/auth/login", json={"name": "wilma", "password": "ten horses cross a frozen lake"})
        unknown = browser.post("/auth/login", json={"name": "nobody", "password": PASSWORD})
        assert refusal(wrong) == refusal(unknown) == (401, "BAD_CREDENTIALS")

        signed_in = browser.post("/auth/login", json={"name": "wilma", "password": PASSWORD})
        cookie = signed_in.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert re.search(r"kilnsession_\w+", cookie)
        assert "kilnsession" not in signed_in.text
        assert browser.get("/auth/whoami").json()["name"] == "wilma"
        assert browser.post("/functions/open/execute", json={}).status_code == 200
        with client(own, cookie=cookie.partition(";")[0], origin="https://evil.example") as elsewhere:
            assert refusal(elsewhere.post("/functions/open/execute", json={})) == (403, "CROSS_SITE")

        assert browser.post("/auth/logout", json={}).status_code == 204
        with client(own, cookie=cookie.partition(";")[0], **OWN_PAGE) as stolen:
            within(SECONDS, lambda: stolen.get("/auth/whoami").status_code == 401)


def test_another_password_ends_the_other_sessions(own: Platform) -> None:
    user(own, "paul")
    with client(own, **OWN_PAGE) as here, client(own, **OWN_PAGE) as there:
        for browser in (here, there):
            browser.post("/auth/login", json={"name": "paul", "password": PASSWORD}).raise_for_status()

        changed = here.post("/auth/password", json={"currentPassword": PASSWORD, "newPassword": "eleven grey cats on a tin roof"})

        assert changed.status_code == 204
        within(SECONDS, lambda: there.get("/functions").status_code == 401)
        assert here.get("/functions").status_code == 200
        assert there.post("/auth/login", json={"name": "paul", "password": PASSWORD}).status_code == 401


def ended(platform: Platform, how: str, name: str) -> tuple[str, Callable[[], httpx.Response]]:
    """A key that works, of a new user, and what ends it."""
    user(platform, name)
    created = platform.made("/api-keys", name="a key", user=name)
    ends: Mapping[str, Callable[[], httpx.Response]] = {
        "revoked": lambda: platform.http.delete(f"/api-keys/{created['id']}"),
        "disabled": lambda: platform.http.put(f"/users/{name}", json={"disabled": True}),
        "deleted": lambda: platform.http.delete(f"/users/{name}"),
        "rotated": lambda: platform.http.post(f"/api-keys/{created['id']}/rotate", json={"overlapHours": 0}),
    }
    return created["key"], ends[how]


@pytest.mark.parametrize("how", ["revoked", "disabled", "deleted", "rotated"])
def test_what_has_ended_is_refused_by_every_service_within_seconds(own: Platform, how: str) -> None:
    key, end = ended(own, how, f"gone-{how}")
    # The registry, the executor, the compiler, auth.
    calls = [("GET", "/functions"), ("POST", "/functions/open/execute"), ("GET", "/languages"), ("GET", "/auth/whoami")]
    with client(own, key) as caller:

        def answers() -> set[int]:
            return {caller.request(method, path, json={} if method == "POST" else None).status_code for method, path in calls}

        assert answers() == {200}

        end().raise_for_status()

        within(SECONDS, lambda: answers() == {401})


def test_callers_that_were_seen_go_on_while_auth_is_killed_and_started_again(own: Platform) -> None:
    user(own, "max")
    failed: list[str] = []
    stop = threading.Event()

    def call(key: str) -> None:
        with client(own, key) as caller:
            while not stop.is_set():
                answer = caller.post("/functions/open/execute", json={})
                if answer.status_code != 200:
                    failed.append(answer.text)

    keys = [key_of(own, "max") for _ in range(3)]
    for key in keys:
        with client(own, key) as caller:
            caller.post("/functions/open/execute", json={}).raise_for_status()
    threads = [threading.Thread(target=call, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            # Calls are made without it, and once it is back.
            own.process("auth").send_signal(signal.SIGKILL)
            time.sleep(0.5)
            within(30, lambda: own.http.get("/health").json()["services"]["auth"]["status"] == "UP")
            time.sleep(0.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert failed == []


def test_a_revocation_acts_also_on_a_service_that_has_just_started_again(own: Platform) -> None:
    key, end = ended(own, "revoked", "gone-meanwhile")
    with client(own, key) as caller:
        # Whoever was not seen before is served once every service hears auth, which was killed before.
        within(SECONDS, lambda: caller.post("/functions/open/execute", json={}).status_code == 200)
        own.process("executor").send_signal(signal.SIGKILL)
        end().raise_for_status()

        within(30, lambda: own.http.post("/functions/open/execute", json={}).status_code == 200)

        assert caller.post("/functions/open/execute", json={}).status_code == 401


def test_a_lost_key_is_replaced_by_make_admin_key_while_it_runs(own: Platform) -> None:
    before = own.key

    command = [sys.executable, "-m", "libs.local.admin_key"]
    ran = subprocess.run(command, env=own.environment(), cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)

    assert str(own.home / "admin.key") in ran.stdout
    assert own.key != before
    assert own.key not in ran.stdout
    with client(own, own.key) as admin, client(own, before) as replaced:
        assert admin.get("/auth/whoami").json()["role"] == "ADMIN"
        within(SECONDS, lambda: replaced.get("/auth/whoami").status_code == 401)
    own.http.headers.update(own.headers)
    assert (own.home / "admin.key").stat().st_mode & 0o777 == 0o600


def test_an_administrator_finds_who_did_what_to_a_function(own: Platform) -> None:
    eve = user(own, "eve")
    function = own.made("/functions", name="audited", language="assemblyscript", source=ECHO)
    with client(own, key_of(own, "eve")) as hers:
        assert hers.delete("/functions/audited").status_code == 403
    assert own.http.delete("/functions/audited").status_code == 204

    def told(**filters: str) -> list[tuple[str, str, str]]:
        answer = own.http.get("/audit-events", params={"entityKind": "function", **filters})
        assert answer.status_code == 200, answer.text
        return [(one["action"], one["outcome"], one["address"]) for one in reversed(answer.json()["auditEvents"])]

    expected = [("CreateFunction", "OK", "127.0.0.1"), ("DeleteFunction", "OK", "127.0.0.1")]
    within(SECONDS, lambda: told(entityId=function["id"]) == expected)
    assert told(actor=eve["id"]) == told(actor="eve", action="DeleteFunction") == [("DeleteFunction", "PERMISSION_DENIED", "127.0.0.1")]


def test_no_secret_of_any_kind_is_in_a_log(own: Platform) -> None:
    secrets = [own.key, PASSWORD, *((own.home / name).read_text() for name in ("service.secret", "sealing.key", "postgres.password"))]

    for file in (own.home / "logs").glob("*.log"):
        text = file.read_text(errors="replace")
        assert not [secret for secret in secrets if secret in text], file
        assert "kilnsession_" not in text
        assert not re.search(r"kiln_[0-9A-Za-z]{22}_", text)


def test_without_auth_everyone_may_do_everything_on_loopback_alone(home: Path) -> None:
    with running_platform(home / "auth-off", KILN_AUTH="off") as platform, client(platform) as anyone:
        assert "KILN_AUTH is off" in "".join(platform.output)
        created = anyone.post("/functions", json={"name": "echo", "language": "assemblyscript", "source": ECHO})
        assert created.status_code == 201
        platform.settled("echo")
        assert anyone.post("/functions/echo/execute", json={"input": 1}).json()["output"] == 1
        assert anyone.post("/users", json={"name": "ann"}).status_code == 201
        assert platform.log_lines("auth_off")
        listening = {one.laddr.ip for process in psutil.Process(platform.pid).children(recursive=True) for one in _listening(process)}
        # gRPC's servers listen by IPv6, for IPv4.
        assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}


def _listening(process: psutil.Process) -> list[Any]:
    try:
        return [one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    except psutil.Error:
        return []
