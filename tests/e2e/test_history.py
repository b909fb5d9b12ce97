"""The history: order, pages, filters, and exactness."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.platform import Platform


def pages(platform: Platform, name: str, **filters: Any) -> list[dict[str, Any]]:
    """All executions of a list, page by page."""
    seen: list[dict[str, Any]] = []
    token = ""
    while True:
        page = platform.http.get(f"/functions/{name}/executions", params={"pageSize": 7, "pageToken": token, **filters}).json()
        seen += page["executions"]
        token = page["nextPageToken"]
        if not token:
            return seen


def test_history_is_newest_first_and_complete(functions: Platform) -> None:
    functions.deploy("ordered")
    made = [functions.execute("ordered", number)["id"] for number in range(20)]

    assert [one["id"] for one in pages(functions, "ordered")] == made[::-1]
    assert [one["input"] for one in pages(functions, "ordered")] == list(range(19, -1, -1))


def test_pages_neither_repeat_nor_skip_while_calls_go_on(functions: Platform) -> None:
    functions.deploy("growing")
    before = {functions.execute("growing", number)["id"] for number in range(30)}
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            functions.execute("growing")

    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(call)
        seen = [one["id"] for one in pages(functions, "growing")]
        stop.set()

    assert len(seen) == len(set(seen))
    assert before <= set(seen)
    assert seen == sorted(seen, reverse=True)


def test_history_is_filtered(functions: Platform) -> None:
    functions.deploy("mixed", "export function handle(input: string): string { return input; }")
    good = [functions.execute("mixed", 1) for _ in range(3)]
    functions.update("mixed", source="export function handle(input: string): string { throw new Error('no'); }")
    functions.settled("mixed")
    bad = [functions.execute("mixed", 1) for _ in range(2)]

    assert {one["id"] for one in pages(functions, "mixed", status="COMPLETED")} == {one["id"] for one in good}
    assert {one["id"] for one in pages(functions, "mixed", errorType="ABORT")} == {one["id"] for one in bad}
    assert {one["id"] for one in pages(functions, "mixed", version=2)} == {one["id"] for one in bad}
    assert pages(functions, "mixed", errorType="TIMEOUT") == []
    middle = bad[0]["startedAt"]
    assert {one["id"] for one in pages(functions, "mixed", startedBefore=middle)} == {one["id"] for one in good}
    assert {one["id"] for one in pages(functions, "mixed", startedAfter=middle)} == {one["id"] for one in bad}


def test_a_page_of_large_records_ends_early_and_loses_none(functions: Platform) -> None:
    functions.deploy("heavy", limits={"memoryMb": 256})
    made = [functions.execute("heavy", "x" * 900_000)["id"] for _ in range(5)]

    first = functions.http.get("/functions/heavy/executions").json()

    assert 0 < len(first["executions"]) < 5
    assert [one["id"] for one in pages(functions, "heavy")] == made[::-1]


def test_a_running_call_is_visible(functions: Platform) -> None:
    functions.deploy(
        "visible", "export function handle(input: string): string { while (true) {} return input; }", limits={"timeoutMs": 3000}
    )
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(functions.execute, "visible")
        seen: list[dict[str, Any]] = []
        while not seen:
            seen = pages(functions, "visible", status="RUNNING")

        assert "completedAt" not in seen[0]
        assert call.result()["id"] == seen[0]["id"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("pageSize=-1", "pageSize"),
        ("pageSize=x", "pageSize"),
        ("pageToken=garbage", "pageToken"),
        ("status=DONE", "status"),
        ("errorType=OOPS", "errorType"),
        ("version=one", "version"),
        ("startedAfter=yesterday", "startedAfter"),
        ("colour=red", "colour"),
    ],
)
def test_a_bad_filter_is_refused_by_name(functions: Platform, query: str, field: str) -> None:
    answer = functions.http.get(f"/functions/echo/executions?{query}")

    assert answer.status_code == 400
    assert field in answer.text


def test_a_token_of_another_list_is_refused(functions: Platform) -> None:
    functions.execute("echo")
    functions.execute("echo")
    token = functions.http.get("/functions/echo/executions?pageSize=1").json()["nextPageToken"]

    assert functions.http.get("/functions/echo/executions", params={"pageToken": token, "status": "FAILED"}).status_code == 400
    assert functions.http.get("/functions/sum/executions", params={"pageToken": token}).status_code == 400
