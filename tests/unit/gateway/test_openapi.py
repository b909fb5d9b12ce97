"""`/openapi.json` is a valid description of the calls there are."""

from typing import Any, Final

from openapi_spec_validator import OpenAPIV31SpecValidator

from services.gateway import descriptors
from services.gateway.openapi import document
from services.gateway.transcoder import success_status

DOCUMENT: Final[dict[str, Any]] = document()
OPERATIONS: Final[dict[str, dict[str, Any]]] = {
    operation["operationId"]: operation for path in DOCUMENT["paths"].values() for operation in path.values()
}


def schema_of_body(rpc: str) -> dict[str, Any]:
    schema: dict[str, Any] = OPERATIONS[rpc]["requestBody"]["content"]["application/json"]["schema"]
    return schema


def test_it_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_it_has_every_call_of_rest_with_its_success() -> None:
    for method in descriptors.public_methods():
        if descriptors.http_rule(method):
            assert str(success_status(method)) in OPERATIONS[method.name]["responses"]


def test_payloads_of_a_list_are_a_list_of_anything() -> None:
    body = schema_of_body("ExecuteBatch")

    assert sorted(body["properties"]) == ["durability", "inputs", "version"]
    assert (body["required"], body["properties"]["inputs"]["items"]) == (["inputs"], {})


def test_an_error_is_described_once_wherever_it_stands() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    places = [schemas["Error"]["properties"]["error"], schemas["Execution"]["properties"]["refusal"]]

    assert {place["$ref"] for place in places} == {"#/components/schemas/Status"}


def test_it_names_the_fields_as_rest_knows_them() -> None:
    body = schema_of_body("ExecuteFunction")

    assert sorted(body["properties"]) == ["durability", "input", "version"]
    assert body["additionalProperties"] is False


def test_what_must_be_given_is_required() -> None:
    assert sorted(schema_of_body("CreateFunction")["required"]) == ["language", "name"]


def test_a_field_that_travels_as_a_header_is_a_header() -> None:
    headers = [one["name"] for one in OPERATIONS["UpdateFunction"]["parameters"] if one["in"] == "header"]

    assert headers == ["If-Match"]
    assert "etag" not in schema_of_body("UpdateFunction")["properties"]


def test_enums_are_bare_words_without_the_unspecified_one() -> None:
    status = DOCUMENT["components"]["schemas"]["Function"]["properties"]["status"]

    assert status["enum"] == ["PENDING", "COMPILING", "READY", "FAILED"]


def test_every_operation_and_every_field_is_described() -> None:
    assert all(operation["summary"].strip(".") for operation in OPERATIONS.values())
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for field, property_ in schema.get("properties", {}).items():
            assert name == "Error" or property_.get("description"), f"{name}.{field}"
