"""What callers of an executor were answered, to hold the database against."""

from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
from kiln.executor.v1 import executor_pb2 as pb

from tests.support.waiting import until


@dataclass
class Answers:
    """The log of some callers.

    Attributes:
        given: Input by id of each answered call.
        answered: The answers, by the same.
        failures: What other calls met.
    """

    given: dict[str, bytes] = field(default_factory=dict)
    answered: dict[str, pb.Execution] = field(default_factory=dict)
    failures: list[Exception] = field(default_factory=list)

    def add(self, answer: pb.Execution, given: bytes) -> None:
        """A call was answered."""
        self.given[answer.id], self.answered[answer.id] = given, answer


async def check_answers(url: str, answers: Answers, seconds: float = 30) -> None:
    """Waits until the database has every answered call, and holds each against the log; nothing may be left unfinished.

    Raises:
        AssertionError: one is lost, changed or there twice, or a run never ended.
    """
    connection = await asyncpg.connect(url)
    try:
        await until(lambda: _is_complete(connection, answers), seconds)
        rows = await connection.fetch("SELECT id, input, output, status FROM executor.executions")
    finally:
        await connection.close()
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["status"] for row in rows} <= {"COMPLETED", "FAILED"}
    by_id = {str(row["id"]): row for row in rows}
    for identity, given in answers.given.items():
        row, answer = by_id[identity], answers.answered[identity]
        assert (row["input"], row["output"], row["status"]) == (given, answer.output_text, pb.Execution.Status.Name(answer.status))


async def _is_complete(connection: "asyncpg.Connection[asyncpg.Record]", answers: Answers) -> bool:
    ids = [UUID(identity) for identity in answers.given]
    there: int = await connection.fetchval("SELECT count(*) FROM executor.executions WHERE id = ANY($1) AND completed_at IS NOT NULL", ids)
    unfinished: int = await connection.fetchval("SELECT count(*) FROM executor.executions WHERE completed_at IS NULL")
    return (there, unfinished) == (len(ids), 0)
