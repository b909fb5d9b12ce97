"""Processes die and stop under load; nothing that was answered is lost, and nothing hangs."""

from pathlib import Path

import pytest

from tests.support.build_faults import Building, check_builds, kill_builds
from tests.support.faults import kill_again_and_again, run_rounds
from tests.support.load import check, load_on
from tests.support.platform import running_platform

ROUNDS = 4


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [20_260])
def test_a_few_faults_under_load_lose_and_hang_nothing(home: Path, seed: int) -> None:
    with running_platform(home / "faults") as platform:
        with load_on(platform, seed) as load:
            run_rounds(platform, seed, ROUNDS, print)

        check(platform, load.log, seconds=120)

    assert len(load.log.executions) > ROUNDS


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [20_262])
def test_an_executor_that_is_killed_a_few_times_under_load_loses_nothing_that_it_answered(home: Path, seed: int) -> None:
    with running_platform(home / "journal") as platform:
        with load_on(platform, seed) as load:
            kill_again_and_again(platform, "executor", seed, ROUNDS, print)

        check(platform, load.log, seconds=120)

    assert len(load.log.executions) > ROUNDS


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [20_261])
def test_builds_whose_compiler_is_killed_a_few_times_all_end_once_and_well(home: Path, seed: int) -> None:
    with running_platform(home / "builds") as platform:
        with Building(platform, seed) as building:
            kill_builds(platform, seed, 2 * ROUNDS, print)

        check_builds(platform, building, seconds=180)

    assert building.accepted.total() > len(building.names)
