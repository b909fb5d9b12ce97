"""The function that is called, a new one for each turn, and its history held against what was counted."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx
from kiln.executor.v1 import executor_pb2 as pb

from bench.platform import create, rest, settle

INPUT: Final = {"a": 5, "b": 3}
INPUT_TEXT: Final = b'{"a":5,"b":3}'
BODY: Final = '{"input":{"a":5,"b":3}}'
_SOURCE: Final = "export function handle(input: string): string { return input; }"
# What a call may come to whose client left before the answer.
_CUT_OFF: Final = frozenset({"PENDING", "RUNNING", "COMPLETED", "CANCELLED"})

_numbers = itertools.count(1)


def deploy(client: httpx.Client) -> str:
    """The name of an echo that nobody has called; the platform is at rest."""
    name = f"serving-{next(_numbers)}"
    create(client, name, _SOURCE)
    settle(client, name)
    rest()
    return name


def check_echo(url: str, headers: Mapping[str, str] | None = None) -> None:
    """Calls a function, or what stands for one, once.

    Args:
        url: Where it is.
        headers: What the caller proves itself by.

    Raises:
        SystemExit: it does not answer with its input.
    """
    answer = httpx.post(url, content=BODY, headers={"content-type": "application/json", **(headers or {})}, timeout=60).raise_for_status()
    if answer.json()["output"] != INPUT:
        raise SystemExit(f"not an echo: {answer.text}")


def check_execution(execution: pb.Execution) -> None:
    """Looks at an answer of gRPC.

    Raises:
        SystemExit: it did not come to its input.
    """
    if execution.status != pb.Execution.COMPLETED or execution.output_text != INPUT_TEXT:
        raise SystemExit(f"not an echo: {execution}")


def completed(client: httpx.Client, name: str, *, answered: int, cut_off: int = 0) -> int:
    """How many executions the history has, page by page, as its readers see it.

    Args:
        client: Of the platform.
        name: Of the function.
        answered: How many calls were answered.
        cut_off: How many more may have been under way when the load ended.

    Raises:
        SystemExit: one is missing or too many, or one did not end as an echo does.
    """
    kinds: Counter[str] = Counter()
    for execution in _history(client, name):
        kinds[_kind(execution)] += 1
    if set(kinds) - _CUT_OFF or kinds.total() > answered + cut_off or kinds["COMPLETED"] < answered:
        raise SystemExit(f"{answered} calls of {name} were answered and at most {cut_off} cut off, and its history has {dict(kinds)}")
    return kinds["COMPLETED"]


def _kind(execution: Mapping[str, Any]) -> str:
    """How it stands, or the kind of its error."""
    if execution["status"] == "COMPLETED" and not execution["input"] == execution["output"] == INPUT:
        return f"an echo of {execution['input']} that is {execution['output']}"
    return str(execution["error"]["type"] if "error" in execution else execution["status"])


def _history(client: httpx.Client, name: str) -> Iterator[Mapping[str, Any]]:
    token = ""
    while True:
        answer = client.get(f"/functions/{name}/executions", params={"pageSize": 1000, "pageToken": token})
        page = answer.raise_for_status().json()
        yield from page["executions"]
        token = page["nextPageToken"]
        if not token:
            return
