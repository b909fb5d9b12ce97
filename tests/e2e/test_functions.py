"""The life of functions: create, read, list, update, delete; builds, edits and rollbacks."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.platform import ECHO, Platform, error_of

BROKEN = "export function handle(input: string): string {\n  const n: i32 = input;\n  return input;\n}"


def answering(value: str) -> str:
    """A function that answers with a text of its own."""
    return f"export function handle(input: string): string {{ return '\"{value}\"'; }}"


def test_a_new_function_is_pending_then_ready_and_serves(platform: Platform) -> None:
    created = platform.create("newborn", description="says what it hears")

    assert (created["status"], created["latestVersion"]) == ("PENDING", 1)
    assert "liveVersion" not in created
    ready = platform.settled("newborn")
    assert (ready["status"], ready["liveVersion"], ready["compileError"], ready["diagnostics"]) == ("READY", 1, "", [])
    assert (ready["source"], ready["description"]) == (ECHO, "says what it hears")
    assert ready["limits"] == {"timeoutMs": 5000, "memoryMb": 64, "maxOutputBytes": 1048576, "maxLogBytes": 65536, "maxConcurrency": 256}


def test_a_function_that_does_not_compile_fails_with_line_and_column(platform: Platform) -> None:
    platform.create("broken", BROKEN)

    function = platform.settled("broken")

    assert function["status"] == "FAILED"
    finding = function["diagnostics"][0]
    assert (finding["severity"], finding["line"], finding["column"]) == ("ERROR", 2, 18)
    assert finding["excerpt"] == "  const n: i32 = input;"
    assert "2:18" in function["compileError"]
    answer = platform.http.post("/functions/broken/execute", json={})
    assert (answer.status_code, error_of(answer)["status"]) == (400, "FAILED_PRECONDITION")


def test_a_failed_edit_leaves_the_old_version_serving(platform: Platform) -> None:
    platform.deploy("edited", answering("one"))

    platform.update("edited", source=BROKEN)
    function = platform.settled("edited")

    assert (function["status"], function["liveVersion"], function["latestVersion"]) == ("FAILED", 1, 2)
    assert function["compileError"]
    assert platform.execute("edited")["output"] == "one"


def test_an_edit_during_load_fails_no_call(platform: Platform) -> None:
    platform.deploy("loaded", answering("old"))
    done, outputs = threading.Event(), []

    def call() -> None:
        while not done.is_set():
            outputs.append(platform.execute("loaded")["output"])

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(call) for _ in range(4)]
        platform.update("loaded", source=answering("new"))
        platform.settled("loaded")
        after_ready = platform.execute("loaded")["output"]
        time.sleep(0.5)
        done.set()
        for one in calls:
            one.result()

    assert after_ready == "new"
    assert set(outputs) == {"old", "new"}
    assert outputs[-1] == "new"


def test_a_rollback_acts_on_the_next_call_and_holds_until_a_newer_version(platform: Platform) -> None:
    platform.deploy("rolled", answering("one"))
    platform.update("rolled", source=answering("two"))
    platform.settled("rolled")

    rolled = platform.http.post("/functions/rolled/rollback", json={"version": 1}).json()

    assert (rolled["liveVersion"], rolled["latestVersion"]) == (1, 2)
    assert platform.execute("rolled")["output"] == "one"
    assert platform.execute("rolled", version=2)["output"] == "two"
    platform.update("rolled", source=answering("three"))
    assert platform.settled("rolled")["liveVersion"] == 3
    assert platform.execute("rolled")["output"] == "three"


def test_a_rollback_while_a_build_waits_is_not_undone_by_it(platform: Platform) -> None:
    platform.deploy("waiting", answering("one"))
    platform.update("waiting", source=answering("two"))
    platform.settled("waiting")

    platform.update("waiting", source=answering("three"))
    platform.http.post("/functions/waiting/rollback", json={"version": 1})
    function = platform.settled("waiting")

    assert (function["status"], function["latestVersion"], function["liveVersion"]) == ("READY", 3, 1)
    assert platform.execute("waiting")["output"] == "one"


def test_a_rollback_to_what_is_not_ready_is_refused(platform: Platform) -> None:
    platform.deploy("stuck", answering("one"))
    platform.update("stuck", source=BROKEN)
    platform.settled("stuck")

    failed = platform.http.post("/functions/stuck/rollback", json={"version": 2})
    absent = platform.http.post("/functions/stuck/rollback", json={"version": 9})

    assert (failed.status_code, error_of(failed)["status"]) == (400, "FAILED_PRECONDITION")
    assert absent.status_code == 404


def test_limits_act_on_the_next_call_and_make_no_version(platform: Platform) -> None:
    platform.deploy("limited", "export function handle(input: string): string { while (true) {} return input; }")

    updated = platform.update("limited", limits={"timeoutMs": 50}, description="brief")

    assert (updated["latestVersion"], updated["limits"]["timeoutMs"], updated["description"]) == (1, 50, "brief")
    began = time.monotonic()
    assert platform.execute("limited")["error"]["type"] == "TIMEOUT"
    assert time.monotonic() - began < 4


def test_the_same_source_again_makes_no_version(platform: Platform) -> None:
    platform.deploy("same", answering("one"))

    assert platform.update("same", source=answering("one"))["latestVersion"] == 1


def test_only_the_edition_that_was_read_is_changed_when_the_caller_asks(platform: Platform) -> None:
    platform.deploy("raced")
    read = platform.http.get("/functions/raced")

    first = platform.http.put("/functions/raced", json={"description": "mine"}, headers={"if-match": read.headers["etag"]})
    second = platform.http.put("/functions/raced", json={"description": "yours"}, headers={"if-match": read.headers["etag"]})

    assert (first.status_code, second.status_code) == (200, 412)
    assert platform.http.get("/functions/raced").json()["description"] == "mine"


def test_a_failed_version_can_be_built_again_and_a_ready_one_not(platform: Platform) -> None:
    platform.create("again", BROKEN)
    platform.settled("again")

    answer = platform.http.post("/functions/again/versions/1/build", json={})

    assert (answer.status_code, answer.json()["status"], answer.json()["build"]) == (200, "PENDING", 2)
    assert platform.settled("again")["status"] == "FAILED"
    platform.deploy("fine")
    refused = platform.http.post("/functions/fine/versions/1/build", json={})
    assert (refused.status_code, error_of(refused)["status"]) == (400, "FAILED_PRECONDITION")


def test_versions_are_kept_with_their_sources(platform: Platform) -> None:
    platform.deploy("versioned", answering("one"))
    platform.update("versioned", source=answering("two"))
    platform.settled("versioned")

    listed = platform.http.get("/functions/versioned/versions").json()

    assert [one["version"] for one in listed["versions"]] == [2, 1]
    assert all("source" not in one and one["artifactDigest"].startswith("sha256:") for one in listed["versions"])
    assert platform.http.get("/functions/versioned/versions/1").json()["source"] == answering("one")
    assert platform.http.get("/functions/versioned/versions/3").status_code == 404


def test_a_deleted_function_is_gone_at_once_and_its_name_free(platform: Platform) -> None:
    deleted = platform.deploy("doomed", answering("one"))
    execution = platform.execute("doomed")

    answer = platform.http.delete("/functions/doomed")

    assert (answer.status_code, answer.content) == (204, b"")
    for path in (
        "/functions/doomed",
        f"/functions/{deleted['id']}",
        "/functions/doomed/versions",
        "/functions/doomed/executions",
        f"/executions/{execution['id']}",
    ):
        assert platform.http.get(path).status_code == 404, path
    assert platform.http.post("/functions/doomed/execute", json={}).status_code == 404
    assert platform.http.delete("/functions/doomed").status_code == 404
    platform.deploy("doomed", answering("two"))
    assert platform.execute("doomed")["output"] == "two"
    assert platform.http.get("/functions/doomed/executions").json()["executions"][0]["output"] == "two"


def test_lists_come_in_pages_newest_first_without_sources(platform: Platform) -> None:
    names = [f"listed-{number}" for number in range(5)]
    for name in names:
        platform.create(name)

    seen: list[dict[str, Any]] = []
    token = ""
    while True:
        page = platform.http.get("/functions", params={"pageSize": 2, "pageToken": token}).json()
        assert len(page["functions"]) <= 2
        seen += page["functions"]
        token = page["nextPageToken"]
        if not token:
            break

    assert [one["name"] for one in seen if one["name"].startswith("listed-")] == names[::-1]
    assert all("source" not in one for one in seen)
    assert len({one["id"] for one in seen}) == len(seen)


def test_a_taken_name_is_refused(platform: Platform) -> None:
    platform.create("taken")

    answer = platform.http.post("/functions", json={"name": "taken", "language": "assemblyscript", "source": ECHO})

    assert (answer.status_code, error_of(answer)["status"]) == (409, "ALREADY_EXISTS")


@pytest.mark.parametrize(
    "name", ["", " ", "A", "9lives", "-a", "a_b", "a b", "é", "a" * 64, "a/b", "../x", "a\u0000", "a1b2c3d4-0000-7000-8000-000000000000"]
)
def test_an_absurd_name_is_refused_by_name_of_the_field(platform: Platform, name: str) -> None:
    answer = platform.http.post("/functions", json={"name": name, "language": "assemblyscript", "source": ECHO})

    assert answer.status_code == 400
    assert "name" in error_of(answer)["message"]


@pytest.mark.parametrize(
    "source",
    [
        "// 😀 é \u2028 \u202e\r\n" + ECHO,
        "\ufeff" + ECHO,
        "/*" + "x" * 900_000 + "*/ " + ECHO,
        ECHO.replace(" ", "\t"),
    ],
    ids=["odd", "bom", "large", "tabs"],
)
def test_source_of_odd_characters_is_kept_and_built(platform: Platform, source: str) -> None:
    name = f"odd-{abs(hash(source)) % 10**9}"
    platform.create(name, source)

    function = platform.settled(name)

    assert (function["status"], function["source"]) == ("READY", source)
    assert platform.execute(name, 1)["output"] == 1


def test_a_source_that_is_too_large_is_refused(platform: Platform) -> None:
    answer = platform.http.post("/functions", json={"name": "large", "language": "assemblyscript", "source": "/" * ((1 << 20) + 1)})

    assert (answer.status_code, "source" in error_of(answer)["message"]) == (413, True)


def test_twenty_functions_at_once_all_become_ready(platform: Platform) -> None:
    names = [f"crowd-{number}" for number in range(20)]

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda name: platform.create(name, answering(name)), names))

    assert all(platform.settled(name)["status"] == "READY" for name in names)
    assert [platform.execute(name)["output"] for name in names] == names
