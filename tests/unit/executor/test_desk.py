"""A worker's end of the socket: what it is asked comes in order, and what waits behind a long guest goes back."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from services.executor.sandbox import Call, ErrorType, Outcome
from services.executor.sandbox.desk import Desk
from services.executor.sandbox.framing import Decoder, framed
from services.executor.sandbox.watch import SupervisorGone
from services.executor.sandbox.wire import Answer, Cancel, Load, Ran, Request, Run, Stalled, answer_of, encode

CALL = Call("d", "assemblyscript", b"1")
DONE = Outcome(b"1", None)


@dataclass
class Supervisor:
    """The other end."""

    stream: socket.socket
    desk: Desk

    def ask(self, *requests: Request) -> None:
        self.stream.sendall(framed(map(encode, requests)))

    def heard(self) -> list[Answer]:
        """What has been sent by now."""
        try:
            data = self.stream.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        return [answer_of(message) for message in Decoder(1 << 20).feed(data)]


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Supervisor(ours, Desk(theirs, 1 << 20))


def test_requests_are_taken_in_their_order_and_answers_travel_together(supervisor: Supervisor) -> None:
    supervisor.ask(Run(1, CALL), Load(2, "d", "assemblyscript", b"code"), Run(3, CALL))

    taken = [supervisor.desk.take().number]
    supervisor.desk.leave(Ran(1, DONE))
    taken += [supervisor.desk.take().number for _ in range(2)]
    assert supervisor.heard() == []
    supervisor.desk.leave(Ran(3, DONE))
    supervisor.ask(Run(4, CALL))

    assert [*taken, supervisor.desk.take().number] == [1, 2, 3, 4]
    assert supervisor.heard() == [Ran(1, DONE), Ran(3, DONE)]


def test_a_cancel_stops_the_run_under_work_alone(supervisor: Supervisor) -> None:
    supervisor.ask(Run(1, CALL), Run(2, CALL))
    supervisor.desk.take()
    supervisor.ask(Cancel(1))

    assert supervisor.desk.look()
    supervisor.desk.take()
    assert not supervisor.desk.look()


def test_a_cancelled_run_that_was_not_begun_is_answered_and_not_taken(supervisor: Supervisor) -> None:
    supervisor.ask(Run(1, CALL), Run(2, CALL), Run(3, CALL), Cancel(2), Cancel(9))

    assert [supervisor.desk.take().number, supervisor.desk.take().number] == [1, 3]
    supervisor.desk.give_back()
    cancelled, _ = supervisor.heard()

    assert isinstance(cancelled, Ran)
    assert cancelled.number == 2
    assert cancelled.outcome.error
    assert cancelled.outcome.error.type is ErrorType.CANCELLED


def test_what_waits_behind_a_long_run_goes_back_with_what_is_done(supervisor: Supervisor) -> None:
    supervisor.ask(Run(1, CALL), Run(2, CALL), Run(3, CALL), Load(4, "d", "assemblyscript", b"code"))
    supervisor.desk.take()
    supervisor.desk.leave(Ran(1, DONE))
    supervisor.desk.take()

    supervisor.desk.give_back()
    supervisor.desk.give_back()
    supervisor.ask(Run(5, CALL))
    supervisor.desk.look()
    supervisor.desk.give_back()

    assert supervisor.heard() == [Ran(1, DONE), Stalled(2, [3]), Stalled(2, [5])]
    assert supervisor.desk.take().number == 4


def test_a_run_that_is_cancelled_behind_a_long_one_is_answered_before_that_has_ended(supervisor: Supervisor) -> None:
    supervisor.ask(Run(1, CALL))
    supervisor.desk.take()
    supervisor.desk.give_back()
    supervisor.heard()

    supervisor.ask(Run(2, CALL), Cancel(2))
    supervisor.desk.look()
    supervisor.desk.give_back()

    assert [answer.number for answer in supervisor.heard() if isinstance(answer, Ran)] == [2]


def test_whoever_waits_for_a_supervisor_that_is_gone_is_told(supervisor: Supervisor) -> None:
    supervisor.stream.close()

    with pytest.raises(SupervisorGone):
        supervisor.desk.take()
    with pytest.raises(SupervisorGone):
        supervisor.desk.look()
