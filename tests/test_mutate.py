"""The script that takes lines out or over: what it changes, and that it finds out what tests miss."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import rooms
from tests.mutate import choice, runs
from tests.mutate.changes import Mutant, mutants
from tests.mutate.copies import Copy
from tests.mutate.reach import statement

SOURCE = '''\
LIMIT = 1 << 20
CHARS = "abc"

def f(items, log):
    """Docs < are kept."""
    if len(items) > LIMIT and items:
        raise Refused("too many")
    log.info("a > %s", 1 > 2)
    total = 0
    for item in sorted(items):
        if item is not None:
            total += item
        self.release(item)
    if not total: return True
    return f"{total}" + CHARS
'''


def test_what_is_changed() -> None:
    found = {(m.line, m.old, m.new, m.kind) for m in mutants("x.py", SOURCE)}
    assert found == {
        (1, "1 << 20", "(1 << 20) * 1000", "bound"),
        (6, ">", ">=", "comparison"),
        (6, "and", "or", "boolean operator"),
        (7, 'raise Refused("too many")', "pass", "way out"),
        (7, '"too many"', "'too many_mutant'", "reason"),
        (10, "sorted", "list", "order"),
        (11, "is not", "is", "comparison"),
        (12, "total += item", "pass", "count"),
        (13, "self.release(item)", "pass", "call"),
        (14, "not total", "(total)", "boolean operator"),
        (14, "return True", "pass", "way out"),
        (14, "return True", "return False", "return"),
    }


@pytest.mark.parametrize("room", ["memory", "telemetry"])
def test_every_change_can_be_read_by_python(room: str) -> None:
    for path in (rooms.ROOT / room).rglob("*.py"):
        for mutant in mutants(path.name, path.read_text()):
            ast.parse(mutant.apply(path.read_text()))


def test_a_source_that_changed_is_not_changed_wrongly() -> None:
    mutant = mutants("x.py", SOURCE)[0]
    with pytest.raises(ValueError, match="not what it was"):
        mutant.apply("# a line\n" + SOURCE)


def test_the_same_ones_again_and_others_for_another_seed() -> None:
    first = choice.chosen("wire", 20, 1)
    assert first == choice.chosen("wire", 20, 1) and len(first) == 20
    assert len({(m.file, m.line) for m in first}) == 20
    assert first != choice.chosen("wire", 20, 2)


def test_the_tests_of_a_room() -> None:
    assert choice.suite("wire", "kofagent/wire/json_value.py")[0] == "tests/wire/test_json_value.py"
    assert choice.suite("exporters", "kofagent/exporters/nop.py") == ["tests/exporters/test_nop.py"]
    assert all(p.startswith("tests/receivers/") and "filelog" in p for p in choice.suite("receivers/filelog"))


def test_where_tests_are_looked_for() -> None:
    own, *others = choice.units("wire", "kofagent/wire/json_value.py")
    assert own == (("tests/wire",), ["tests/wire"]) and len(others) <= choice.OTHERS
    assert (choice.LAWS, [*choice.LAWS]) not in others
    assert choice.units("receivers", "kofagent/receivers/filelog/tail.py")[1][0] == choice.LAWS
    users = dict(choice.units("component", "kofagent/component/parts.py"))
    assert users[("tests/processors",)] == ["tests/processors/test_batch.py"]


LINES = """\
A = 1                  # 1
@deco(A)               # 2
def f(a, b=A,          # 3
      c=2):            # 4
    if (a and          # 5
            b):        # 6
        return c       # 7
    try:               # 8
        g()            # 9
    except E:          # 10
        g(a,           # 11
          b)           # 12
    if a: return b     # 13
"""


@pytest.mark.parametrize(
    "line, first, last, later",
    [
        *[(1, 1, 1, False), (2, 2, 2, False), (4, 3, 4, False), (6, 5, 6, True), (7, 7, 7, True)],
        *[(9, 9, 9, True), (10, 10, 10, True), (12, 11, 12, True), (13, 13, 13, True)],
    ],
)
def test_the_statement_at_a_line(line: int, first: int, last: int, later: bool) -> None:
    assert statement(LINES, line) == (range(first, last + 1), later)


PRODUCT = """\
import subprocess, sys

def f(x):
    return x > 1

def g(x):
    return x < 1

def h(x):
    return x < 1

def main():
    print(h(1))

def child():
    return subprocess.check_output([sys.executable, "-c", "from kofagent.room.a import main; main()"], text=True)

LIMIT = 5
"""
TESTS = """\
from kofagent.room import a

def test_f():
    assert a.f(2) and not a.f(1)

def test_g():
    assert a.g(0)

def test_h_in_another_process():
    assert a.child() == "False\\n"

def test_no_line_of_it():
    assert a.LIMIT == 5

def test_red():
    assert not a.f(2)
"""


@pytest.mark.slow
def test_killed_and_survived_and_no_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    (project / "kofagent" / "room").mkdir(parents=True)
    (project / "tests" / "room").mkdir(parents=True)
    (project / "kofagent" / "__init__.py").write_text("")
    (project / "kofagent" / "room" / "a.py").write_text(PRODUCT)
    (project / "tests" / "room" / "test_a.py").write_text(TESTS)
    (project / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers = ['slow']\n")
    monkeypatch.setattr(rooms, "PROJECT", project)
    monkeypatch.setattr(rooms, "ROOT", project / "kofagent")
    monkeypatch.setattr(choice, "importers", dict)
    results = tmp_path / "results.jsonl"
    (tmp_path / "copy").mkdir()
    todo = choice.chosen("room", 20, 1)
    with Copy(tmp_path / "copy") as copy:
        runs.run_room("room", todo, copy, results)
    printed = capsys.readouterr().out
    found = {m.line: (r.state, r.by) for m, r in runs.known(results).items()}
    name = "tests/room/test_a.py::test_"
    assert found.pop(7)[0] == "survived"
    assert found == {
        4: ("killed", f"{name}f"),
        10: ("killed", f"{name}h_in_another_process"),
        18: ("killed", f"{name}no_line_of_it"),
    }
    assert f"left out, red without any change: {name}red" in printed
    assert len(list(results.with_suffix(".reach").iterdir())) == 1
    assert [m for m in todo if m not in runs.known(results)] == []
    text = runs.report(list(runs.known(results).values()))
    assert "kofagent/room/a.py:7: < -> <=  (comparison)\n    return x < 1" in text
    assert text.endswith("| room | 4 | 3 | 1 |")
    assert Mutant("f", 1, 0, "a", "b", "k") not in runs.known(results)
