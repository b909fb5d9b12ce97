"""What takes long: many faults under load, and many functions at once. `SOAK_ROUNDS` and `SOAK_SEED` choose how many and which."""

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.build_faults import Building, check_builds, kill_builds
from tests.support.faults import kill_again_and_again, run_rounds
from tests.support.load import check, load_on, source_of
from tests.support.platform import running_platform


def test_many_faults_under_load_lose_and_hang_nothing(home: Path) -> None:
    seed, rounds = int(os.environ.get("SOAK_SEED", random.randrange(10**6))), int(os.environ.get("SOAK_ROUNDS", "50"))
    print(f"\nSOAK_SEED={seed} SOAK_ROUNDS={rounds}")

    with running_platform(home / "soak") as platform:
        with load_on(platform, seed) as load:
            run_rounds(platform, seed, rounds, print)

        print(f"{len(load.log.executions)} runs and {len(load.log.versions)} versions answered; not answered: {dict(load.log.unanswered)}")
        check(platform, load.log, seconds=180)


def test_an_executor_that_is_killed_many_times_under_load_loses_nothing_that_it_answered(home: Path) -> None:
    seed, rounds = int(os.environ.get("SOAK_SEED", random.randrange(10**6))), int(os.environ.get("SOAK_ROUNDS", "50"))
    print(f"\nSOAK_SEED={seed} SOAK_ROUNDS={rounds}")

    with running_platform(home / "journal") as platform:
        with load_on(platform, seed) as load:
            kill_again_and_again(platform, "executor", seed, rounds, print)

        print(f"{len(load.log.executions)} runs answered; not answered: {dict(load.log.unanswered)}")
        check(platform, load.log, seconds=180)


def test_builds_whose_compiler_is_killed_all_end_once_and_well(home: Path) -> None:
    seed, rounds = int(os.environ.get("SOAK_SEED", random.randrange(10**6))), int(os.environ.get("SOAK_ROUNDS", "50"))
    print(f"\nSOAK_SEED={seed} SOAK_ROUNDS={rounds}")

    with running_platform(home / "builds") as platform:
        with Building(platform, seed) as building:
            kill_builds(platform, seed, rounds, print)

        print(f"{building.accepted.total()} versions accepted")
        check_builds(platform, building, seconds=180)


def test_two_hundred_functions_at_once_all_become_ready(home: Path) -> None:
    names = [f"many-{number}" for number in range(200)]

    with running_platform(home / "many") as platform:
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(lambda number: platform.create(names[number], source_of(number)), range(len(names))))

        assert {platform.settled(name, seconds=900)["status"] for name in names} == {"READY"}
        assert set(platform.queue_lengths().values()) == {0}
        assert [platform.execute(name, 1)["output"]["number"] for name in names] == list(range(200))
