"""The generated pages under docs/ are those the code makes today."""

from __future__ import annotations

import json
from pathlib import Path

from kofagent.cli.components import write_pages
from kofagent.component import registry
from kofagent.config.schema import json_schema

DOCS = Path(__file__).parents[1] / "docs"
REMEDY = "run: kofagent components --docs docs/components; kofagent components --schema > docs/config.schema.json"


def test_the_component_reference_is_up_to_date(tmp_path: Path) -> None:
    names = write_pages(str(tmp_path))
    assert names
    made = {p.relative_to(tmp_path): p.read_text() for p in tmp_path.rglob("*.md")}
    kept = {p.relative_to(DOCS / "components"): p.read_text() for p in (DOCS / "components").rglob("*.md")}
    assert sorted(made) == sorted(kept), REMEDY
    assert [str(p) for p in made if made[p] != kept[p]] == [], REMEDY


def test_the_schema_is_up_to_date() -> None:
    assert json.loads((DOCS / "config.schema.json").read_text()) == json_schema(registry), REMEDY
