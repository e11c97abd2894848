"""The generated pages under docs/ are those the code makes today."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kofagent.cli.components import write_pages
from kofagent.component import registry
from kofagent.config.schema import json_schema

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REMEDY = "run: nox -s docs, or kofagent components --docs docs/components; kofagent components --schema > docs/config.schema.json"


def test_the_component_reference_is_up_to_date(tmp_path: Path) -> None:
    names = write_pages(str(tmp_path))
    assert names
    made = {p.relative_to(tmp_path): p.read_text() for p in tmp_path.rglob("*.md")}
    kept = {p.relative_to(DOCS / "components"): p.read_text() for p in (DOCS / "components").rglob("*.md")}
    assert sorted(made) == sorted(kept), REMEDY
    assert [str(p) for p in made if made[p] != kept[p]] == [], REMEDY


def test_the_schema_is_up_to_date() -> None:
    assert json.loads((DOCS / "config.schema.json").read_text()) == json_schema(registry), REMEDY


@pytest.mark.parametrize(
    "page", sorted(p for p in ROOT.rglob("*.md") if not {".venv", ".nox"} & set(p.parts)), ids=lambda p: str(p.relative_to(ROOT))
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md", "docs/architecture.md"])
def test_files_that_pages_name_are_there(page: str) -> None:
    names = re.findall(r"`((?:kofagent|tests|docs|bench|configs)/[\w./-]+)`", (ROOT / page).read_text())
    assert [name for name in names if "TYPE" not in name and not (ROOT / name).exists()] == []


def test_tasks_that_pages_name_are_there() -> None:
    tasks = set(re.findall(r"^def (\w+)\(session: nox.Session\)", (ROOT / "noxfile.py").read_text(), re.MULTILINE))
    named = {name for page in ("CONTRIBUTING.md", "README.md") for name in re.findall(r"nox -s (\w+)", (ROOT / page).read_text())}
    assert {"check", "docs", "lock"} <= named <= tasks
