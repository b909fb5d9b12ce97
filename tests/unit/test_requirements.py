"""What is installed is pinned, and what is pinned is what the project declares."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
FILES: Final = sorted((ROOT / "requirements").glob("*.txt"))
GROUPS: Final = sorted(PROJECT["dependency-groups"])


def declared(group: str) -> Iterator[Requirement]:
    """What a group asks for, with the groups it includes."""
    for one in PROJECT["dependency-groups"][group]:
        if isinstance(one, str):
            yield Requirement(one)
        else:
            yield from declared(one["include-group"])


def pins(file: Path) -> dict[str, str]:
    """Package → version of a requirements file."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", file.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def test_every_group_has_its_pins_and_no_pins_are_left_over() -> None:
    assert {file.stem for file in FILES} == {*GROUPS, "uv"}


@pytest.mark.parametrize("group", GROUPS)
def test_what_a_group_declares_is_pinned_within_its_bounds(group: str) -> None:
    pinned = pins(ROOT / "requirements" / f"{group}.txt")

    for wanted in [*map(Requirement, PROJECT["project"]["dependencies"]), *declared(group)]:
        assert pinned[canonicalize_name(wanted.name)] in wanted.specifier, f"{wanted}: run `make lock`"


@pytest.mark.parametrize("group", GROUPS)
def test_an_image_installs_what_was_tested(group: str) -> None:
    tested = pins(ROOT / "requirements" / "dev.txt")

    assert pins(ROOT / "requirements" / f"{group}.txt").items() <= tested.items()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_pin_has_its_hash_and_no_address(file: Path) -> None:
    text = file.read_text()

    requirements = [part for part in re.split(r"\n(?=\S)", text.strip()) if not part.startswith("#")]

    assert all("--hash=sha256:" in requirement for requirement in requirements)
    assert "://" not in text
    assert "--index" not in text


def test_the_packages_of_the_compilers_have_their_digest_and_no_address() -> None:
    for lock in (ROOT / "services" / "compiler" / "languages").glob("*/package-lock.json"):
        text = lock.read_text()
        assert '"integrity": "sha512-' in text
        assert '"resolved"' not in text
