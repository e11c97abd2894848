"""The script that takes lines out or over: what it changes, and that it finds out what tests miss."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import mutate, rooms
from tests.mutate import Mutant, mutants

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
    first = mutate.chosen("wire", 20, 1)
    assert first == mutate.chosen("wire", 20, 1) and len(first) == 20
    assert len({(m.file, m.line) for m in first}) == 20
    assert first != mutate.chosen("wire", 20, 2)


def test_the_tests_of_a_room() -> None:
    found = mutate.suite("wire", "kofagent/wire/json_value.py")
    assert found[0] == "tests/wire/test_json_value.py"
    assert "tests/wire/test_otlp.py" in found
    assert mutate.suite("exporters", "kofagent/exporters/nop.py") == ["tests/exporters/test_nop.py"]
    assert mutate.laws("kofagent/receivers/filelog/tail.py")[-1] == "filelog" and not mutate.laws("kofagent/wire/otlp.py")
    assert all(p.startswith("tests/receivers/") and "filelog" in p for p in mutate.suite("receivers/filelog"))


@pytest.mark.slow
def test_killed_and_survived_and_no_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    (project / "kofagent" / "room").mkdir(parents=True)
    (project / "tests" / "room").mkdir(parents=True)
    (project / "kofagent" / "__init__.py").write_text("")
    (project / "kofagent" / "room" / "a.py").write_text("def f(x):\n    return x > 1\n\ndef g(x):\n    return x < 1\n")
    (project / "tests" / "room" / "test_a.py").write_text(
        "from kofagent.room.a import f, g\n\ndef test_f():\n    assert f(2) and not f(1)\n\ndef test_g():\n    assert g(0)\n"
    )
    for module in (mutate, rooms):
        monkeypatch.setattr(module, "PROJECT", project)
    monkeypatch.setattr(rooms, "ROOT", project / "kofagent")
    monkeypatch.setattr(mutate, "importers", dict)
    results = tmp_path / "results"
    (tmp_path / "copy").mkdir()
    todo = mutate.chosen("room", 20, 1)
    mutate.run_room("room", todo, mutate.Copy(tmp_path / "copy"), results)
    found = {m.line: r.state for m, r in mutate.known(results).items()}
    assert found == {2: "killed", 5: "survived"}
    assert [m for m in todo if m not in mutate.known(results)] == []
    text = mutate.report(list(mutate.known(results).values()))
    assert "kofagent/room/a.py:5: < -> <=  (comparison)\n    return x < 1" in text
    assert text.endswith("| room | 2 | 1 | 1 |")
    assert Mutant("f", 1, 0, "a", "b", "k") not in mutate.known(results)
