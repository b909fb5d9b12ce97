"""What the documents say of the code is so."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from docs.generate import REFERENCE, pages
from libs.common.settings import SHARED, variables_of
from libs.local.settings import Settings as Local
from services.auth.settings import Settings as Auth
from services.compiler.settings import Settings as Compiler
from services.executor.settings import Settings as Executor
from services.gateway import descriptors
from services.gateway.settings import Settings as Gateway
from services.registry.settings import Settings as Registry

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODELS: Final = (Gateway, Registry, Compiler, Executor, Auth, Local)
VARIABLE: Final = re.compile(r"\bKILN_[A-Z_]+[A-Z]\b")
# Of functions in C, whose constants have the prefix too.
HEADER: Final = ROOT / "services/compiler/languages/c/include/kiln.h"
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize(("path", "text"), [pytest.param(path, text, id=path.name) for path, text in pages()])
def test_the_reference_is_fresh(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, "run `make docs`"


def test_the_reference_has_no_page_that_nothing_makes() -> None:
    assert set(REFERENCE.iterdir()) == {path for path, _ in pages()}


def test_the_table_has_every_setting_and_no_other() -> None:
    table = (REFERENCE / "configuration.md").read_text()

    listed = re.findall(r"^\| `(KILN_[A-Z_]+)` \|", table, re.MULTILINE)

    assert sorted(listed) == sorted({name for model in MODELS for name in variables_of(model)})


def test_every_shared_setting_is_one_that_somebody_reads() -> None:
    assert {name for model in MODELS for name in variables_of(model)} >= SHARED


def test_documents_name_only_settings_that_exist() -> None:
    known = {name for model in MODELS for name in variables_of(model)}

    named = {name for document in DOCUMENTS for name in VARIABLE.findall(document.read_text())}

    assert {name if name in known else name.removesuffix("_FILE") for name in named} <= known | set(VARIABLE.findall(HEADER.read_text()))


def links() -> Iterator[tuple[Path, str]]:
    for document in DOCUMENTS:
        for target in LINK.findall(document.read_text(encoding="utf-8")):
            if "://" not in target:
                yield document, target


@pytest.mark.parametrize(("document", "target"), [pytest.param(*link, id=f"{link[0].name}-{link[1]}") for link in dict.fromkeys(links())])
def test_a_link_leads_somewhere(document: Path, target: str) -> None:
    name, _, anchor = target.partition("#")

    file = (document.parent / name).resolve() if name else document

    assert file.exists()
    assert not anchor or anchor in anchors_of(file.read_text())


def anchors_of(text: str) -> set[str]:
    """As Markdown renderers make them of headings: of those with the same letters, the second has a 1."""
    seen: Counter[str] = Counter()
    anchors = set()
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        anchors.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return anchors


def test_headings_of_the_same_letters_are_told_apart() -> None:
    assert anchors_of("# On C\n## C\n## C++\ntext\n## A-b") == {"on-c", "c", "c-1", "a-b"}


def test_the_readmes_map_has_every_call_and_no_other() -> None:
    table = (ROOT / "README.md").read_text().split("## The calls")[1].split("##")[0]

    mapped = {re.sub(r"\{n\}", "{version}", call) for call in calls_in(table)}

    annotated = {f"{rule.method} {rule.template}" for method in descriptors.public_methods() if (rule := descriptors.http_rule(method))}
    assert mapped == annotated | {"GET /health", "GET /openapi.json"}


def calls_in(table: str) -> Iterator[str]:
    """The calls of a table whose second path in a cell may begin with an ellipsis for the one before."""
    for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE):
        first, *more = re.findall(r"`([^`]+)`", row)
        yield first
        for call in more:
            yield first.replace("/versions", call.replace("…", "")) if call.startswith("…") else call
