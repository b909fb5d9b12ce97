"""A path leads to one endpoint or to none, however it is spelled."""

import pytest

from libs.common.errors import NotFound, Unimplemented
from services.gateway.routes import Routes


@pytest.fixture
def routes() -> Routes[str]:
    """A table like Kiln's own."""
    table: Routes[str] = Routes()
    table.add("GET", "/", "index")
    table.add("GET", "/functions", "list")
    table.add("POST", "/functions", "create")
    table.add("GET", "/functions/{id}", "get")
    table.add("POST", "/functions/{id}/versions/{version}/build", "build")
    table.add("GET", "/functions/recent", "recent")
    return table


@pytest.mark.parametrize(
    ("method", "path", "target", "variables"),
    [
        ("GET", "/", "index", {}),
        ("GET", "/functions", "list", {}),
        ("POST", "/functions", "create", {}),
        ("GET", "/functions/greet", "get", {"id": "greet"}),
        ("HEAD", "/functions/greet", "get", {"id": "greet"}),
        ("GET", "/functions/recent", "recent", {}),
        ("POST", "/functions/recent/versions/2/build", "build", {"id": "recent", "version": "2"}),
        ("GET", "/functions/a%2Fb", "get", {"id": "a/b"}),
        ("GET", "/functions/%C3%A9", "get", {"id": "é"}),
        ("GET", "/functions/a%20b", "get", {"id": "a b"}),
        ("GET", "/functions/a+b", "get", {"id": "a+b"}),
        ("GET", "/functions/%252e", "get", {"id": "%2e"}),
    ],
)
def test_a_path_leads_to_its_endpoint(routes: Routes[str], method: str, path: str, target: str, variables: dict[str, str]) -> None:
    match = routes.find(method, path)

    assert (match.target, match.variables) == (target, variables)


@pytest.mark.parametrize(
    "path",
    [
        "/Functions",
        "/functions/",
        "//functions",
        "/functions//",
        "/functions/./greet",
        "/functions/../functions",
        "/functions/%2e%2e",
        "/functions/%2E",
        "/functions/greet;v=1",
        "/functions;",
        "/functions/greet/",
        "/functions/%00",
        "/functions/%0d%0a",
        "/functions/%ff",
        "/functions/greet/versions",
        "functions",
        "*",
        "",
    ],
)
def test_any_other_path_leads_nowhere(routes: Routes[str], path: str) -> None:
    with pytest.raises(NotFound):
        routes.find("GET", path)


def test_a_known_path_tells_its_methods(routes: Routes[str]) -> None:
    with pytest.raises(Unimplemented) as caught:
        routes.find("PATCH", "/functions")

    assert caught.value.metadata == {"allow": "GET, HEAD, OPTIONS, POST"}
    assert routes.methods("/functions/greet") == ["GET", "HEAD", "OPTIONS"]


def test_two_routes_for_one_call_are_a_mistake(routes: Routes[str]) -> None:
    with pytest.raises(ValueError, match="two routes"):
        routes.add("GET", "/functions/{name}", "other")


@pytest.mark.parametrize("template", ["functions", "/functions/*", "/functions/{id=**}", "/functions/{id}:run"])
def test_a_template_of_another_form_is_a_mistake(routes: Routes[str], template: str) -> None:
    with pytest.raises(ValueError, match="path"):
        routes.add("GET", template, "other")
