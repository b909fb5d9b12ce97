"""Who is kept out for having killed workers, and for how long."""

from hypothesis import given
from hypothesis import strategies as st

from services.executor.sandbox.quarantine import Quarantine

SECONDS = 60.0


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_module_is_kept_out_at_its_third_death_in_a_row_until_its_time_is_over() -> None:
    clock = Clock()
    quarantine = Quarantine(SECONDS, clock)

    left = []
    for _ in range(3):
        quarantine.blame("bad")
        left.append(quarantine.seconds_left("bad"))
    clock.now += SECONDS - 1
    left.append(quarantine.seconds_left("bad"))
    clock.now += 1

    assert left == [0, 0, SECONDS, 1]
    assert quarantine.seconds_left("bad") == 0
    assert quarantine.seconds_left("good") == 0


def test_a_run_that_ends_clears_what_was_before() -> None:
    quarantine = Quarantine(SECONDS, Clock())
    quarantine.blame("unlucky")
    quarantine.blame("unlucky")

    quarantine.clear("unlucky")
    quarantine.blame("unlucky")
    quarantine.blame("unlucky")

    assert quarantine.seconds_left("unlucky") == 0


def test_who_tries_again_and_kills_again_is_out_at_once_and_who_ends_well_is_not_suspected_any_more() -> None:
    clock = Clock()
    quarantine = Quarantine(SECONDS, clock)
    for module in ("worse", "better"):
        for _ in range(3):
            quarantine.blame(module)
    clock.now += SECONDS

    quarantine.blame("worse")
    quarantine.clear("better")
    quarantine.blame("better")

    assert quarantine.seconds_left("worse") == SECONDS
    assert quarantine.seconds_left("better") == 0


def test_deaths_long_ago_do_not_count() -> None:
    clock = Clock()
    quarantine = Quarantine(SECONDS, clock)
    quarantine.blame("seldom")
    quarantine.blame("seldom")
    clock.now += SECONDS

    quarantine.blame("seldom")

    assert quarantine.seconds_left("seldom") == 0


@given(st.lists(st.sampled_from(["a dies", "b dies", "a ends", "b ends"])))
def test_one_module_is_not_judged_by_another(events: list[str]) -> None:
    both, alone = Quarantine(SECONDS, Clock()), Quarantine(SECONDS, Clock())

    for event in events:
        module, what = event.split()
        for quarantine in (both, alone) if module == "a" else (both,):
            (quarantine.blame if what == "dies" else quarantine.clear)(module)

    assert both.seconds_left("a") == alone.seconds_left("a")
