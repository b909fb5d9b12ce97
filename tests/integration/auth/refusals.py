"""Errors as tests look at them."""

from typing import Any

import pytest

from libs.common.errors import InvalidArgument, KilnError


async def refusal(kind: type[KilnError], call: Any) -> KilnError:
    """The error that a call ends with."""
    with pytest.raises(kind) as caught:
        await call
    assert type(caught.value) is kind
    return caught.value


async def reason(kind: type[KilnError], call: Any) -> str:
    """Its reason."""
    return (await refusal(kind, call)).reason


async def bad_field(call: Any) -> str:
    """The field that a call's error names."""
    error = await refusal(InvalidArgument, call)
    assert isinstance(error, InvalidArgument)
    (one,) = error.violations
    return one.field
