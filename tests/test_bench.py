"""The benchmarks: marks of hot paths name cases that exist, and every case has a configuration that is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.cases import CASES, Ports, dump
from kofagent.cli.validate import validate_text
from kofagent.component import registry

ROOT = Path(__file__).parents[1]


def test_every_mark_of_a_hot_path_names_a_case_and_a_figure() -> None:
    wrong = []
    marks = 0
    for file in sorted((ROOT / "kofagent").rglob("*.py")):
        for n, line in enumerate(file.read_text().splitlines(), 1):
            if "# hot:" in line:
                marks += 1
                name = re.match(r"([a-z0-9_]+), ", line.partition("# hot:")[2].lstrip())
                if name is None or name[1] not in CASES:
                    wrong.append(f"{file.relative_to(ROOT)}:{n}: {line.strip()}")
    assert wrong == []
    assert marks > 10


@pytest.mark.parametrize("name", CASES)
def test_the_agent_takes_the_configuration_of_a_case(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in CASES[name].env.items():
        monkeypatch.setenv(key, value)
    file = tmp_path / "config.yaml"
    file.write_text(dump(CASES[name].config(Ports(1, 2, 3, 4, 5), tmp_path)))
    good, text = validate_text(registry, config=[str(file)])
    assert good, text


def test_every_case_is_in_the_readme() -> None:
    readme = (ROOT / "bench" / "README.md").read_text()
    assert [name for name in CASES if f"`{name}`" not in readme] == []
