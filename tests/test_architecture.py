"""The rooms and who may open which door, held against the imports in the code, and the page that shows them."""

import ast
from pathlib import Path

import pytest

from tests import rooms


@pytest.mark.parametrize("path", rooms.files(), ids=lambda p: str(p.relative_to(rooms.ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    assert not rooms.violations(path)


def test_no_files_import_each_other_in_a_circle() -> None:
    assert rooms.circles() == []


def test_every_room_has_a_place_in_the_order() -> None:
    there = {p.name for p in rooms.ROOT.iterdir() if p.is_dir() and list(p.glob("*.py"))}
    assert there == set(rooms.FLOOR)


def test_exceptions_are_needed_and_argued_for() -> None:
    used = {(rooms.room(rooms.module_of(p)), rooms.room(name)) for p in rooms.files() for name, _, _ in rooms.imports(p)}
    assert set(rooms.EXCEPTIONS) <= used
    assert all(len(why) > 10 for why in rooms.EXCEPTIONS.values())


def test_the_page_shows_the_rooms_as_they_are() -> None:
    assert rooms.PAGE.read_text() == rooms.page(), "python -m tests.rooms --write"


@pytest.mark.parametrize(
    ("place", "text", "wrong"),
    [
        ("wire/a.py", "from kofagent.config.base import X\n", "wire imports config"),
        ("wire/a.py", "def f():\n    import kofagent.cli.run\n", "wire imports cli"),
        ("net/a.py", "from kofagent.transform import actions\n", "net imports transform"),
        ("receivers/a.py", "from kofagent.processors.batch import X\n", "receivers imports processors"),
        ("receivers/a.py", "from kofagent.receivers import b\n", "component kofagent.receivers.a imports component"),
        ("receivers/a/x.py", "from kofagent.receivers.b.y import X\n", "component kofagent.receivers.a.x imports component"),
        ("receivers/a/x.py", "from kofagent.receivers.a.y import X\n", None),
        ("cli/a.py", "from kofagent.wire import varint\n", None),
    ],
)
def test_the_rule_can_fail(tmp_path: Path, place: str, text: str, wrong: str | None) -> None:
    root = tmp_path / "kofagent"
    path = root / place
    path.parent.mkdir(parents=True)
    path.write_text(text)
    for name in ("transform/actions.py", "receivers/b.py", "wire/varint.py"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("")
    found = rooms.violations(path, root)
    assert [wrong in line for line in found] == [True] if wrong else found == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    root = tmp_path / "kofagent"
    (root / "net").mkdir(parents=True)
    (root / "net" / "a.py").write_text("from kofagent.net.b import x\n")
    (root / "net" / "b.py").write_text("def f():\n    from kofagent.net import c\n")
    (root / "net" / "c.py").write_text("import kofagent.net.a\n")
    (root / "net" / "d.py").write_text("import kofagent.net.a\n")
    assert rooms.circles(root) == [["kofagent.net.a", "kofagent.net.b", "kofagent.net.c"]]


@pytest.mark.parametrize("path", rooms.files(), ids=lambda p: str(p.relative_to(rooms.ROOT)))
def test_sources_are_ascii_and_say_what_they_hold(path: Path) -> None:
    text = path.read_text()
    assert text.isascii(), "source is ASCII"
    if text.strip():
        assert ast.get_docstring(rooms.tree_of(path)), "a module says what it holds"
