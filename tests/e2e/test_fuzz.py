"""Requests made at random from the platform's own description, impossible ones among them: each is answered as the description says."""

from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from services.gateway.openapi import document
from tests.support.platform import Platform

EXAMPLES: Final = 40
CHECKS: Final = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
OPERATIONS: Final = [found.ok() for found in schemathesis.openapi.from_dict(document()).get_all_operations() if isinstance(found, Ok)]
# Where all that is asked for is a text in the path, nothing that is sent can be of the wrong form.
WAYS: Final = [
    pytest.param(operation, mode, id=f"{operation.label}-{mode.value}")
    for operation in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or operation.body or operation.query
]


@pytest.mark.parametrize(("operation", "mode"), WAYS)
def test_no_request_breaks_the_platform(functions: Platform, operation: Any, mode: GenerationMode) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def request(case: Any) -> None:
        case.call_and_validate(base_url=f"http://{functions.http_address}", checks=CHECKS, headers=functions.headers, timeout=60)

    request()
