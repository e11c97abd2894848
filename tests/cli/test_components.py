"""`kofagent components`: the list, a reference, all pages, the schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kofagent.cli.main import main


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["components"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  otlphttp (also otlp_http)" in lines
    assert "  severity_parser" in lines[lines.index("operators:") :], "operators are a kind of their own"


def test_one_component_and_unknown_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["components", "otlp"]) == 0
    page = capsys.readouterr().out
    assert "# otlp (receiver)" in page and "# otlp (exporter)" in page
    assert main(["components", "exporters/otlp_http"]) == 0
    assert "# otlphttp (exporter)" in capsys.readouterr().out
    assert main(["components", "move"]) == 0
    assert "# move (operator)" in capsys.readouterr().out
    assert main(["components", "otlphtp"]) == 1
    assert "did you mean 'otlphttp'?" in capsys.readouterr().err


def test_schema_and_pages(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["components", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$defs"]["exporters.otlphttp"]["properties"]["logs_endpoint"]
    assert main(["components", "--docs", str(tmp_path)]) == 0
    assert (tmp_path / "operators" / "regex_parser.md").exists() and (tmp_path / "README.md").exists()
