"""The generated reference names every option of every component with its default."""

from __future__ import annotations

from pathlib import Path

from kofagent.component import registry
from kofagent.config.base import spellings
from kofagent.config.model import SECTIONS
from kofagent.config.reference import component_page, write_reference
from tests.config import fake


def test_a_page() -> None:
    page = component_page(fake, "receivers", "in")
    assert page.startswith("# in (receiver)\n")
    assert "| `interval` | duration | `10s` | How often. |" in page
    assert "| `count` | whole number | `3` | How many. (at least 0) |" in page
    assert "### `nested`" in page and "### `many[]`" in page and "### `by_name.*`" in page
    assert "| `level` | `low`, `high` | `low` |  |" in page
    assert "Also written `out_old`." in component_page(fake, "exporters", "out")
    assert "It has no options." in component_page(fake, "connectors", "forward")


def test_every_component_has_a_page_with_all_options(tmp_path: Path) -> None:
    names = write_reference(registry, str(tmp_path))
    index = (tmp_path / "README.md").read_text()
    for kind in SECTIONS:
        for type in registry.TYPES[kind]:
            assert f"{kind}/{type}.md" in names and f"({kind}/{type}.md)" in index
            page = (tmp_path / kind / f"{type}.md").read_text()
            config = registry.load(kind, type).Config
            for name, field in config.model_fields.items():
                shown = [f"`{spelled}`" for spelled in spellings(name, field)]
                assert any(each in page for each in shown), (kind, type, name)
            assert "**********" not in page
