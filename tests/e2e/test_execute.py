"""Running functions: by id, name and version; every kind of fault; exactness and isolation."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import psutil
import pytest

from tests.support.platform import Platform


def test_a_function_runs_by_name_by_id_and_by_version(functions: Platform) -> None:
    function = functions.http.get("/functions/sum").json()

    outputs = [
        functions.execute("sum", {"a": 2, "b": 40})["output"],
        functions.execute(function["id"], {"a": 2, "b": 40})["output"],
        functions.execute("sum", {"a": 2, "b": 40}, version=1)["output"],
    ]

    assert outputs == [42, 42, 42]


def test_an_execution_tells_what_ran_and_how_long(functions: Platform) -> None:
    execution = functions.execute("echo", {"a": 1})

    function = functions.http.get("/functions/echo").json()
    assert execution["functionId"] == function["id"]
    assert (execution["functionName"], execution["functionVersion"], execution["status"]) == ("echo", 1, "COMPLETED")
    assert execution["durationUs"] > 0
    assert execution["memoryPeakBytes"] >= 65536
    created, started, completed = (datetime.fromisoformat(execution[name]) for name in ("createdAt", "startedAt", "completedAt"))
    assert created <= started <= completed
    assert "error" not in execution


@pytest.mark.parametrize("durability", ["JOURNAL", "COMMIT"])
def test_a_call_may_say_what_must_have_its_record(functions: Platform, durability: str) -> None:
    answer = functions.http.post("/functions/echo/execute", json={"input": 1, "durability": durability})

    assert (answer.status_code, answer.json()["output"]) == (200, 1)
    assert functions.http.get(f"/executions/{answer.json()['id']}").json()["output"] == 1


@pytest.mark.parametrize("durability", ["FOREVER", 7, True, "", []])
def test_a_durability_that_there_is_not_is_refused_by_its_name(functions: Platform, durability: Any) -> None:
    answer = functions.http.post("/functions/echo/execute", json={"input": 1, "durability": durability})

    assert answer.status_code == 400, answer.text
    assert "durability" in answer.json()["error"]["message"]


def test_the_record_has_the_input_and_output_of_the_call(functions: Platform) -> None:
    execution = functions.execute("echo", {"a": 1})

    record = functions.http.get(f"/executions/{execution['id']}").json()

    assert record["input"] == record["output"] == {"a": 1}
    assert {key: value for key, value in record.items() if key != "input"} == execution


def test_an_absent_input_is_an_empty_object(functions: Platform) -> None:
    assert functions.execute("echo")["output"] == {}


def test_a_deployed_function_is_ready_before_its_first_call(functions: Platform) -> None:
    functions.deploy("fresh-one")

    # Longer than the making of its native code takes; nobody has called it meanwhile.
    time.sleep(2)
    assert functions.execute("fresh-one")["coldStart"] is False


def test_every_call_starts_with_fresh_memory(functions: Platform) -> None:
    assert [functions.execute("counter")["output"] for _ in range(5)] == [1] * 5


@pytest.mark.parametrize(
    ("name", "value", "kind", "message"),
    [
        ("thrower", 7, "ABORT", "no such customer: 7"),
        ("trap", None, "TRAP", "unreachable"),
        ("divide", 0, "TRAP", "divi"),
        ("endless", None, "TIMEOUT", "300"),
        ("recursive", None, "STACK_OVERFLOW", "too deep"),
        ("hog", None, "OUT_OF_MEMORY", "16"),
        ("huge", None, "OUTPUT_TOO_LARGE", "1048576"),
        ("surrogate", None, "INVALID_OUTPUT", "surrogate"),
        ("plain", None, "INVALID_OUTPUT", "JSON"),
        ("quits", None, "EXIT", "3"),
    ],
)
def test_a_fault_of_the_function_is_an_answer_with_its_type(functions: Platform, name: str, value: Any, kind: str, message: str) -> None:
    execution = functions.execute(name, value)

    assert execution["status"] == "FAILED"
    assert (execution["error"]["type"], "output" in execution) == (kind, False)
    assert message.lower() in execution["errorMessage"].lower()
    assert execution["errorMessage"] == execution["error"]["message"]


def test_an_abort_names_the_users_line(functions: Platform) -> None:
    frame = functions.execute("thrower", 1)["error"]["stack"][0]

    assert (frame["file"], frame["line"]) == ("function.ts", 2)


def test_a_caller_that_goes_away_stops_its_run(functions: Platform) -> None:
    with pytest.raises(Exception, match="timed out"):
        functions.http.post("/functions/slow/execute", json={"input": 15_000}, timeout=1)

    for _ in range(100):
        record = functions.http.get("/functions/slow/executions").json()["executions"][0]
        if record["status"] == "FAILED":
            break
    assert record["error"]["type"] == "CANCELLED"


def is_busy(process: psutil.Process) -> bool:
    try:
        return process.cpu_percent(0.2) > 50
    except psutil.NoSuchProcess:  # a spare that was not needed any more
        return False


def test_a_worker_that_dies_takes_only_its_own_call(functions: Platform) -> None:
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(functions.execute, "slow", 5_000)
        busy = None
        while busy is None:
            busy = next(filter(is_busy, functions.workers()), None)
        busy.kill()

        assert functions.execute("echo", 1)["output"] == 1
        assert call.result()["error"]["type"] == "PLATFORM"


def test_endless_loops_do_not_stop_others(functions: Platform) -> None:
    with ThreadPoolExecutor(8) as pool:
        loops = [pool.submit(functions.execute, "endless") for _ in range(8)]

        assert functions.execute("echo", 1)["output"] == 1
        assert {loop.result()["error"]["type"] for loop in loops} == {"TIMEOUT"}


@pytest.mark.parametrize(
    "text",
    [
        '{"b":1,"a":2}',
        "9223372036854775807",
        "18446744073709551616",
        "-123456789012345678901234567890",
        "1.10",
        "1e400",
        "-0",
        '"\\u0000"',
        '"\\ud83d\\ude00"',
        '"😀 é \\/ \\u00e9"',
        '{"a":1,"a":2}',
        "[" * 512 + "]" * 512,
        "null",
        "false",
        '""',
        '{"deep" : [ 1 ,\t2 ] }',
    ],
)
def test_json_passes_through_untouched(functions: Platform, text: str) -> None:
    answer = functions.execute_text("echo", text)

    assert f'"output":{text}' in answer.replace('"output": ', '"output":')
    record = functions.http.get(f"/executions/{json.loads(answer)['id']}").text.replace(": ", ":")
    assert f'"input":{text}'.replace(": ", ":") in record
    assert f'"output":{text}'.replace(": ", ":") in record


def test_an_input_of_almost_a_mebibyte_passes(functions: Platform) -> None:
    text = json.dumps("x" * (1 << 20))[:-3] + '"'

    assert json.loads(functions.execute_text("echo", text))["output"] == json.loads(text)


def test_what_a_function_prints_is_in_its_record(functions: Platform) -> None:
    execution = functions.execute("chatty")

    assert [(line["level"], line["message"]) for line in execution["logs"]] == [
        ("INFO", "started"),
        ("WARN", "careful"),
        ("ERROR", "line one\nline two"),
        ("DEBUG", "numbers 1.5, 2.5"),
    ]
    assert execution["logsTruncated"] is False


def test_a_flood_of_logs_is_cut(functions: Platform) -> None:
    execution = functions.execute("flood")

    assert (execution["status"], len(execution["logs"]), execution["logsTruncated"]) == ("COMPLETED", 256, True)


def test_the_request_id_of_the_caller_is_in_the_answer_and_in_the_record(functions: Platform) -> None:
    answer = functions.http.post("/functions/echo/execute", json={}, headers={"x-request-id": "order-17"})

    assert answer.headers["x-request-id"] == "order-17"
    assert functions.http.get(f"/executions/{answer.json()['id']}").json()["requestId"] == "order-17"
