"""Limits have defaults and ceilings, and a patch changes what it names."""

from dataclasses import asdict, fields
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import InvalidArgument
from services.executor.settings import Settings as ExecutorSettings
from services.registry.__main__ import limits_policy
from services.registry.limits import Limits, LimitsPatch, LimitsPolicy
from services.registry.settings import Settings
from tests.support.processes import SEALING_KEY

POLICY = LimitsPolicy(defaults=Limits(10, 20, 30, 40, 50), ceilings=Limits(100, 200, 300, 400, 500))
NAMES = [field.name for field in fields(Limits)]
CEILINGS = asdict(POLICY.ceilings)
PATCHES = st.builds(LimitsPatch, *(st.none() | st.integers(1, CEILINGS[name]) for name in NAMES))


def test_limits_that_are_not_set_are_the_defaults() -> None:
    assert POLICY.complete(LimitsPatch()) == POLICY.defaults


@given(PATCHES, PATCHES)
def test_a_patch_changes_what_it_names_and_nothing_else(first: LimitsPatch, second: LimitsPatch) -> None:
    before = POLICY.complete(first)

    after = POLICY.patch(before, second)

    for name in NAMES:
        wanted = getattr(second, name)
        assert getattr(after, name) == (getattr(before, name) if wanted is None else wanted)


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_may_reach_its_ceiling_and_not_pass_it(name: str) -> None:
    ceiling = CEILINGS[name]

    assert getattr(POLICY.complete(LimitsPatch(**{name: ceiling})), name) == ceiling
    with pytest.raises(InvalidArgument) as caught:
        POLICY.complete(LimitsPatch(**{name: ceiling + 1}))

    assert [one.field for one in caught.value.violations] == [f"limits.{name}"]
    assert str(ceiling) in caught.value.message


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, -1, -(2**31)])
def test_only_logs_may_be_limited_to_nothing(name: str, value: int) -> None:
    patch = LimitsPatch(**{name: value})

    if (name, value) == ("max_log_bytes", 0):
        assert POLICY.complete(patch).max_log_bytes == 0
    else:
        with pytest.raises(InvalidArgument, match=name):
            POLICY.complete(patch)


def test_a_limit_above_a_ceiling_that_was_lowered_since_stays_until_it_is_changed() -> None:
    old = Limits(1000, 20, 30, 40, 50)

    assert POLICY.patch(old, LimitsPatch(memory_mb=50)) == Limits(1000, 50, 30, 40, 50)


# What every registry must be told.
SETTINGS: Final = {"database_url": "postgresql://localhost", "auth": "off", "sealing_key": SEALING_KEY}


def test_an_installation_has_the_limits_that_are_promised() -> None:
    policy = limits_policy(Settings.model_validate(SETTINGS))

    assert policy.defaults == Limits(timeout_ms=5_000, memory_mb=64, max_output_bytes=1 << 20, max_log_bytes=64 << 10, max_concurrency=256)
    assert policy.ceilings == Limits(
        timeout_ms=60_000, memory_mb=512, max_output_bytes=4 << 20, max_log_bytes=1 << 20, max_concurrency=1000
    )


def test_a_function_that_sets_no_concurrency_can_keep_an_executor_busy_and_not_fill_it() -> None:
    concurrency = limits_policy(Settings.model_validate(SETTINGS)).defaults.max_concurrency
    executor = ExecutorSettings.model_validate({**SETTINGS, "executor_journal_folder": "/journal"})

    assert executor.executor_max_workers <= concurrency < executor.executor_max_workers + executor.executor_max_waiting
