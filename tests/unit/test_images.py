"""The images and the compose file fit the code, though no engine builds them here."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from pydantic_settings import BaseSettings

from libs.common.settings import variables_of
from services.auth.settings import Settings as Auth
from services.compiler.settings import Settings as Compiler
from services.executor.settings import Settings as Executor
from services.gateway.settings import Settings as Gateway
from services.registry.settings import Settings as Registry

ROOT: Final = Path(__file__).parents[2]
MODELS: Final[dict[str, type[BaseSettings]]] = {
    "gateway": Gateway,
    "auth": Auth,
    "registry": Registry,
    "compiler": Compiler,
    "executor": Executor,
}
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
EACH: Final = pytest.mark.parametrize("service", MODELS)
# Where the design has each service listen in its container.
PORTS: Final = {"gateway": {8080, 9090}, "registry": {50051}, "auth": {50052}, "compiler": {50053}, "executor": {50054}}


def instructions(service: str, name: str) -> list[str]:
    text = (ROOT / "services" / service / "Dockerfile").read_text()
    return [line.removeprefix(f"{name} ") for line in text.splitlines() if line.startswith(f"{name} ")]


def copied(service: str) -> set[Path]:
    return {ROOT / source for line in instructions(service, "COPY") for source in line.split()[:-1]}


def image_environment(service: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for line in instructions(service, "ENV") for pair in line.split())


def container_environment(service: str) -> dict[str, str]:
    environment: dict[str, str] = COMPOSE["services"][service]["environment"]
    return image_environment(service) | environment


def imported(service: str) -> Iterator[Path]:
    """The files of the project that a service's modules import, by the folders they lie in."""
    waiting, seen = sorted((ROOT / "services" / service).rglob("*.py")), set[Path]()
    while waiting:
        file = waiting.pop()
        if file in seen or "node_modules" in file.parts:
            continue
        seen.add(file)
        yield file
        for module in modules_in(file):
            path = ROOT.joinpath(*module.split("."))
            generated = ROOT.joinpath("libs", "gen", *module.split("."))
            waiting += [one for base in (path, generated) for one in (base.with_suffix(".py"), base / "__init__.py") if one.is_file()]


def modules_in(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_the_compose_file_is_one_that_compose_takes() -> None:
    checker = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.compose-spec"]

    checked = subprocess.run([*checker, str(ROOT / "docker-compose.yml")], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout


def test_every_service_has_an_image_in_the_compose_file() -> None:
    built = {name: service["build"]["dockerfile"] for name, service in COMPOSE["services"].items() if "build" in service}

    assert built == {name: f"services/{name}/Dockerfile" for name in MODELS}


@EACH
def test_an_image_starts_the_service(service: str) -> None:
    assert instructions(service, "CMD") == [f'["python", "-m", "services.{service}"]']
    assert (ROOT / "services" / service / "__main__.py").is_file()


@EACH
def test_an_image_installs_the_pins_of_its_service(service: str) -> None:
    assert f"pip install --no-cache-dir --require-hashes -r requirements/{service}.txt" in instructions(service, "RUN")
    assert ROOT / "requirements" / f"{service}.txt" in copied(service)


@EACH
def test_what_an_image_copies_exists_and_is_in_the_build_context(service: str) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line.removeprefix("!") for line in ignored if line.startswith("!")]

    for path in copied(service):
        assert path.exists(), path
        assert any(path.match(pattern) or path.is_relative_to(ROOT / pattern) for pattern in allowed), path


@EACH
def test_an_image_has_all_that_its_service_imports(service: str) -> None:
    missing = {file for file in imported(service) if not any(file == path or path in file.parents for path in copied(service))}

    assert missing == set()


@EACH
def test_no_image_holds_another_service(service: str) -> None:
    others = {ROOT / "services" / other for other in MODELS if other != service}

    assert copied(service).isdisjoint(others)


@EACH
def test_containers_set_only_settings_that_their_service_reads(service: str) -> None:
    set_here = {name for name in container_environment(service) if name.startswith("KILN_")}

    assert set_here <= set(variables_of(MODELS[service]))


@EACH
def test_containers_set_all_that_their_service_needs(service: str) -> None:
    model = MODELS[service]
    required = {name for name, field in variables_of(model).items() if model.model_fields[field].is_required()}

    assert required <= set(container_environment(service))


@EACH
def test_a_service_listens_beyond_its_container_at_its_port(service: str) -> None:
    listening = {value for name, value in image_environment(service).items() if name.endswith("_ADDRESS")}

    exposed = {int(port) for line in instructions(service, "EXPOSE") for port in line.split()}

    assert listening == {f"0.0.0.0:{port}" for port in PORTS[service]}
    assert exposed == PORTS[service]


@EACH
def test_services_find_each_other_at_their_ports(service: str) -> None:
    asked = {name: value for name, value in COMPOSE["services"][service]["environment"].items() if name.endswith("_ADDRESS")}

    for name, address in asked.items():
        host, port = address.split(":")
        assert name == f"KILN_{host.upper()}_ADDRESS"
        assert {int(port)} == PORTS[host]


@EACH
def test_no_service_runs_as_root(service: str) -> None:
    assert instructions(service, "USER") == ["nobody"]


def test_only_the_gateway_is_published_and_only_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}

    assert published == {"gateway": ["127.0.0.1:8080:8080", "127.0.0.1:9090:9090"]}


def test_no_password_or_key_is_written_down() -> None:
    text = (ROOT / "docker-compose.yml").read_text()

    assert re.findall(r"PASSWORD: (\S+)", text) == ["${KILN_POSTGRES_PASSWORD:?set"]
    assert set(re.findall(r"KEY: (\S+)", text)) == {"${KILN_SEALING_KEY:?set"}
    assert re.findall(r"postgresql://kiln:(.*?)@", text) == ["${KILN_POSTGRES_PASSWORD:?set it to a password of your own}"]
