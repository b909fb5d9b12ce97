"""Faults: a random process of a platform is killed, or stopped for a while, and the next, and the next."""

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psutil

from tests.support.platform import Platform
from tests.support.processes import descendants

LONGEST_STOP_SECONDS: Final = 6.0


def run_rounds(platform: Platform, seed: int, rounds: int, say: Callable[[str], None]) -> None:
    """Hurts one process a round. The same seed makes the same choices, as far as the same processes run.

    Args:
        platform: Under load.
        seed: Of all choices.
        rounds: How many.
        say: Told of each round.
    """
    chance = random.Random(seed)
    for number in range(1, rounds + 1):
        time.sleep(chance.uniform(0.5, 3))
        name, process = _choose(platform, chance)
        if chance.random() < 0.5:
            say(f"round {number}: SIGKILL to {name}")
            _send(process, signal.SIGKILL)
        else:
            pause = chance.uniform(0.5, LONGEST_STOP_SECONDS)
            say(f"round {number}: SIGSTOP to {name} for {pause:.1f} s")
            _send(process, signal.SIGSTOP)
            time.sleep(pause)
            _send(process, signal.SIGCONT)


def kill_again_and_again(platform: Platform, name: str, seed: int, rounds: int, say: Callable[[str], None]) -> None:
    """Kills one process, and the one that takes its place, and so on.

    Args:
        platform: Under load.
        name: Whose process.
        seed: Of the pauses between.
        rounds: How many.
        say: Told of each round.
    """
    chance = random.Random(seed)
    for number in range(1, rounds + 1):
        time.sleep(chance.uniform(1, 4))
        say(f"round {number}: SIGKILL to {name}")
        _send(platform.process(name), signal.SIGKILL)


def _choose(platform: Platform, chance: random.Random) -> tuple[str, psutil.Process]:
    """A process of the platform: a service, PostgreSQL, or one that serves them."""
    while True:
        name = chance.choice(("gateway", "registry", "compiler", "executor", "postgres", "a worker", "a build", "a backend"))
        below = {"a worker": "executor", "a build": "compiler", "a backend": "postgres"}
        try:
            if name not in below:
                return name, platform.process(name)
            if helpers := descendants(platform.process(below[name]).pid):
                return name, chance.choice(helpers)
        except psutil.NoSuchProcess:
            continue


def _send(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
