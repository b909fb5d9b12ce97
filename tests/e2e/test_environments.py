"""Environments as people use them: what a function reads when it runs, who may look, and where a secret never shows."""

import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.e2e.functions import _HANDLE
from tests.support.platform import ECHO, Platform, error_of

READERS: Final[Mapping[str, tuple[str, str]]] = {
    "by-assemblyscript": (
        "assemblyscript",
        f'{_HANDLE} {{ return JSON.stringify(process.env.has("WHO") ? process.env.get("WHO") : "nobody"); }}',
    ),
    "by-c": (
        "c",
        "#include <json.h>\nchar *handle(const char *input) {\n"
        '  const char *who = kiln_env("WHO"), *same = getenv("WHO");\n'
        '  return json_write(json_from_string(who && same && strcmp(who, same) == 0 ? who : "nobody"));\n}\n',
    ),
    "by-go": (
        "go",
        'package main\n\nimport (\n\t"cmp"\n\t"encoding/json"\n\t"os"\n)\n\n'
        'func Handle(input []byte) ([]byte, error) { return json.Marshal(cmp.Or(os.Getenv("WHO"), "nobody")) }\n',
    ),
}
PASSWORD: Final = "seven geese walk over warm ice"


@pytest.fixture(scope="module")
def readers(platform: Platform) -> Platform:
    """The platform with a function in three languages that says who its environment names."""
    for name, (language, source) in READERS.items():
        platform.create(name, source, language=language)
    for name in READERS:
        assert platform.settled(name)["status"] == "READY"
    return platform


@pytest.fixture(scope="module")
def ada(platform: Platform) -> Iterator[httpx.Client]:
    """A user of the role DEV, who calls with a key."""
    user = platform.made("/users", name="environments-ada", password=PASSWORD)
    key = platform.made("/api-keys", name="a key", user=user["id"])["key"]
    with platform.client(30) as client:
        client.headers["authorization"] = f"Bearer {key}"
        yield client


def set_variables(platform: Platform, name: str, **fields: Any) -> httpx.Response:
    answer = platform.http.put(f"/environments/{name}", json=fields)
    assert answer.status_code == 200, answer.text
    return answer


def test_every_language_reads_what_is_set_and_a_change_acts_on_the_next_call_without_a_version(readers: Platform) -> None:
    assert [readers.execute(name)["output"] for name in READERS] == ["nobody"] * 3
    readers.made("/environments", name="who", variables={"WHO": "the world"})
    for name in READERS:
        readers.update(name, environments=["who"])

    for value in ("Ada", "J\u00f6rg \U0001f525", "", "x" * 60_000):
        set_variables(readers, "who", variables={"WHO": value})
        # In Go's `cmp.Or` an empty one is none.
        assert [readers.execute(name)["output"] for name in list(READERS)[:2]] == [value] * 2
        assert readers.execute("by-go")["output"] == (value or "nobody")
    set_variables(readers, "who", secrets={"WHO": "a secret one"})
    assert [readers.execute(name)["output"] for name in READERS] == ["a secret one"] * 3
    set_variables(readers, "who", removed=["WHO"])
    assert [readers.execute(name)["output"] for name in READERS] == ["nobody"] * 3

    assert {readers.http.get(f"/functions/{name}").json()["latestVersion"] for name in READERS} == {1}


def test_the_later_of_two_environments_is_read_and_batches_and_old_versions_read_as_well(readers: Platform) -> None:
    readers.made("/environments", name="base", variables={"WHO": "base"})
    readers.made("/environments", name="over", secrets={"WHO": "over"})
    readers.deploy("two-versions", READERS["by-assemblyscript"][1], environments=["base", "over"])
    readers.update("two-versions", source=READERS["by-assemblyscript"][1] + "\n// another\n")
    readers.settled("two-versions")

    many = readers.http.post("/functions/two-versions/executeBatch", json={"inputs": [1, 2, 3]}).json()["executions"]
    assert [one["output"] for one in many] == ["over"] * 3
    assert [readers.execute("two-versions", version=version)["output"] for version in (1, 2)] == ["over"] * 2
    turned = readers.update("two-versions", environments=["over", "base"])
    assert turned["environments"] == ["over", "base"]
    assert [readers.execute("two-versions", version=version)["output"] for version in (1, 2)] == ["base"] * 2
    assert readers.update("two-versions", environments=[])["environments"] == []
    assert readers.execute("two-versions")["output"] == "nobody"


def test_what_was_changed_acts_though_the_executor_was_away_or_begins_anew(readers: Platform) -> None:
    readers.made("/environments", name="kept", variables={"WHO": "before"})
    readers.deploy("keeps", READERS["by-assemblyscript"][1], environments=["kept"])
    executor = readers.process("executor")
    executor.kill()
    executor.wait(10)
    set_variables(readers, "kept", variables={"WHO": "after"})

    give_up = time.monotonic() + 60
    while (answer := readers.http.post("/functions/keeps/execute", json={})).status_code != 200:
        assert (answer.status_code, time.monotonic() < give_up) == (503, True), answer.text
        time.sleep(0.1)
    assert answer.json()["output"] == "after"


def test_one_who_may_not_see_an_environment_may_run_a_function_that_reads_it(readers: Platform, ada: httpx.Client) -> None:
    other = readers.made("/users", name="environments-bob", password=PASSWORD)
    hidden = readers.made("/environments", name="hidden", secrets={"WHO": "behind"}, allowedUsers=[other["id"]])
    shown = readers.made("/environments", name="shown", variables={"SHOWN": "yes"}, secrets={"TOKEN": "hush"})
    readers.deploy("runs-hidden", READERS["by-assemblyscript"][1], environments=["hidden", "shown"])

    assert ada.post("/functions/runs-hidden/execute", json={}).json()["output"] == "behind"
    assert ada.get("/functions/runs-hidden").json()["environments"] == ["shown"]
    listed = [one["name"] for one in ada.get("/environments?pageSize=1000").json()["environments"]]
    assert ("shown" in listed, "hidden" in listed) == (True, False)
    for reference in ("hidden", hidden["id"]):
        absent = ada.get(f"/environments/{reference}")
        never = ada.get("/environments/never-was")
        assert (absent.status_code, error_of(absent)["message"]) == (404, error_of(never)["message"].replace("never-was", reference))
    seen = ada.get("/environments/shown").json()
    assert (seen["variables"], seen["secretNames"], seen["id"]) == ({"SHOWN": "yes"}, ["TOKEN"], shown["id"])
    for method, path in (("POST", "/environments"), ("PUT", "/environments/shown"), ("DELETE", "/environments/shown")):
        assert ada.request(method, path, json=None if method == "DELETE" else {}).status_code == 403


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, "name"),
        ({"name": "Bad Name"}, 400, "name"),
        ({"name": "bad", "variables": {"A": 1}}, 400, "variables.A"),
        ({"name": "bad", "variables": []}, 400, "variables"),
        ({"name": "bad", "variables": {"no name": "x"}}, 400, "variables"),
        ({"name": "bad", "secrets": {"A": None}}, 400, "secrets.A"),
        ({"name": "bad", "secretNames": ["A"]}, 400, "secretNames"),
        ({"name": "bad", "createdBy": "me"}, 400, "createdBy"),
        ({"name": "bad", "allowedUsers": ["me"]}, 400, "allowedUsers"),
    ],
)
def test_a_mistake_names_its_field(platform: Platform, body: Mapping[str, Any], status: int, field: str) -> None:
    answer = platform.http.post("/environments", json=body)

    assert answer.status_code == status, answer.text
    violations = [one["field"] for detail in error_of(answer)["details"] for one in detail.get("fieldViolations", ())]
    assert violations == [field]
    assert platform.http.get("/environments/bad").status_code == 404


def test_an_environment_that_is_read_is_kept_and_its_headers_are_those_of_an_etag(readers: Platform) -> None:
    created = readers.http.post("/environments", json={"name": "tagged"})
    readers.deploy("reads-tagged", ECHO, environments=["tagged"])

    stale = readers.http.put("/environments/tagged", json={"description": "x"}, headers={"if-match": '"other"'})
    changed = readers.http.put("/environments/tagged", json={"description": "x"}, headers={"if-match": created.headers["etag"]})
    used = readers.http.delete("/environments/tagged")
    readers.update("reads-tagged", environments=[])
    gone = readers.http.delete("/environments/tagged")

    assert (stale.status_code, changed.status_code, used.status_code, gone.status_code) == (412, 200, 400, 204)
    assert "reads-tagged" in error_of(used)["message"]


# Where a secret never shows

SECRETS: Final = {
    "environment": "canary-environment-5e1f0c",
    "plain": "canary-variable-8a44d1",
    "password": "canary password of nine geese 77b2",
    "changed": "canary password of ten geese 31c9",
    "typed": "canary typed instead of it 0d6e",
}


def test_no_secret_is_in_any_log_answer_file_or_table(readers: Platform) -> None:
    heard: list[str] = []
    with readers.client(60) as client:
        client.event_hooks["response"].append(lambda answer: heard.append(answer.read().decode(errors="replace")))
        secrets = {**SECRETS, **_leave_secrets_everywhere(readers, client, heard)}

    # What the journal has is in PostgreSQL soon, and what PostgreSQL has in its files.
    readers.http.get("/functions/canary/executions").raise_for_status()
    shown = "\n".join(heard)
    assert len(re.findall("canary", shown)) > 10
    assert _files_with(readers.home, {b"reads a canary"}) != []
    for what, secret in secrets.items():
        assert what == "plain" or secret not in shown, what
        encoded = {secret.encode(), secret.encode("utf-16-le"), secret.encode().hex().encode()}
        assert _files_with(readers.home, encoded) == [], what
        assert not any(secret in line for line in readers.output), what


def _leave_secrets_everywhere(platform: Platform, client: httpx.Client, heard: list[str]) -> dict[str, str]:
    """Uses each of `SECRETS` as it is meant and otherwise; returns those that Kiln made."""
    environment = {"name": "canary", "secrets": {"KEY": SECRETS["environment"]}, "variables": {"PLAIN": SECRETS["plain"]}}
    source = f'{_HANDLE} {{ const key = process.env.get("KEY"); if (input == "1") unreachable(); return key.length.toString(); }}'
    assert client.post("/environments", json=environment).status_code == 201
    assert client.post("/environments", json={**environment, "secrets": {"KEY": SECRETS["environment"] + "\0"}}).status_code == 400
    assert client.post("/environments", json=environment).status_code == 409
    client.get("/environments/canary")
    client.put("/environments/canary", json={"secrets": {"KEY": SECRETS["environment"]}})
    platform.deploy("canary", source, environments=["canary"], description="reads a canary")
    client.post("/functions", json={"name": "canary-broken", "language": "assemblyscript", "source": "nope", "environments": ["canary"]})
    for value in (None, 1):
        client.post("/functions/canary/execute", json={"input": value})
    client.post("/functions/canary/executeBatch", json={"inputs": [1, 2, 3]})

    client.post("/users", json={"name": "canary", "password": SECRETS["password"]})
    client.post("/users", json={"name": "canary", "password": SECRETS["password"]})
    key = platform.http.post("/api-keys", json={"name": "canary", "user": "canary"}).json()["key"]
    own_page = {"sec-fetch-site": "same-origin"}
    with httpx.Client(base_url=client.base_url, headers=own_page, trust_env=False) as browser:
        for password in (SECRETS["typed"], SECRETS["password"]):
            answer = browser.post("/auth/login", json={"name": "canary", "password": password})
            heard.append(answer.text)
        session = next(iter(browser.cookies.values()))
        change = {"currentPassword": SECRETS["password"], "newPassword": SECRETS["changed"]}
        heard.append(browser.post("/auth/password", json={**change, "currentPassword": SECRETS["typed"]}).text)
        heard.append(browser.post("/auth/password", json=change).text)
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    for credential in (key, wrong, key + "x"):
        heard.append(client.get("/functions/canary", headers={"authorization": f"Bearer {credential}"}).text)
        heard.append(client.get("/auth/whoami", headers={"cookie": f"kiln_session={session}"}).text)
    return {"key": key.split("_")[-1], "session": session}


def _files_with(folder: Path, wanted: set[bytes]) -> list[str]:
    """The files below a folder in which one of some texts is."""

    def has(file: Path) -> bool:
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            # The platform runs, and its files come and go.
            return False
        return any(one in data for one in wanted)

    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.is_symlink()]
    assert len(files) > 100
    with ThreadPoolExecutor(2) as pool:
        return [str(file) for file, found in zip(files, pool.map(has, files), strict=True) if found]
