"""The catalog is the folder: a file there is an operator, found by its name and imported only when something asks for it."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from kofagent.operators import types
from kofagent.operators.catalog import OPERATORS
from kofagent.operators.operator import Operator

FOLDER = Path(types.__file__).parent
FILES = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem != "__init__")


def test_every_file_is_a_type() -> None:
    assert list(OPERATORS) == FILES and len(OPERATORS) == len(FILES) > 20
    assert "noop" in OPERATORS and "nop" not in OPERATORS
    with pytest.raises(KeyError):
        OPERATORS["nop"]


def test_what_a_file_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("kofagent.operators.types.noop.OPERATOR")
    with pytest.raises(ImportError, match="end it with: OPERATOR = TheClass"):
        OPERATORS["noop"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_one_operator_and_says_what_it_does(name: str) -> None:
    module = importlib.import_module(f"kofagent.operators.types.{name}")
    classes = {value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Operator)}
    assert {c for c in classes if c.__module__ == module.__name__} == {module.OPERATOR}
    assert OPERATORS[name] is module.OPERATOR
    summary, *rest = (module.__doc__ or "").split("\n")
    assert summary.startswith(f"`{name}`: ") and summary.endswith(".") and ". " not in summary, summary
    assert not any(rest[:1]), "one sentence, then an empty line"
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    imported = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    assert not [m for m in imported if m.startswith(types.__name__)], "what operators share is in a file of its own"


def test_an_operator_that_is_not_configured_is_not_imported() -> None:
    code = (
        "import sys; from kofagent.operators.chain import validate_operators; validate_operators([{'type': 'noop'}]);"
        "print(sorted(m.rpartition('.')[2] for m in sys.modules if m.startswith('kofagent.operators.types.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['noop']"


def test_the_compiler_knows_no_operator_by_its_type() -> None:
    room = FOLDER.parent
    for path in sorted(room.glob("*.py")):
        imported = {
            n.module: [a.name for a in n.names] for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)
        }
        if path.stem != "catalog":
            assert not [m for m in imported if m and m.startswith(types.__name__)] and "types" not in imported.get(room.name, []), (
                path
            )
        if path.stem in ("generate", "compile", "lift", "stand_in", "line_formats", "emit"):
            names = imported.get("kofagent.operators.operator", []) + imported.get("kofagent.operators.parser", [])
            assert set(names) <= {"AnyOperator"}, f"{path.name} asks operators, whatever they are"
