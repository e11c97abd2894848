"""Which mutants of a room are run, and with which test files."""

from __future__ import annotations

import ast
import random
from functools import cache
from pathlib import Path

from tests import rooms
from tests.mutate.changes import Mutant, mutants

LAWS = ("tests/test_contract.py", "tests/test_ledger_exporters.py", "tests/test_ledger_pipeline.py")
OTHERS = 4
"""How many test files of other rooms are looked at, of those that import the module themselves, and of how many components."""


def chosen(room: str, count: int, seed: int) -> list[Mutant]:
    """Some mutants of a room, at most one a line: always the same ones for the same source, count and seed."""
    folder = rooms.ROOT / room
    paths = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    every = [m for path in paths for m in mutants(str(path.relative_to(rooms.PROJECT)), path.read_text())]
    chance = random.Random(f"{seed} {room}")
    chance.shuffle(every)
    lines: dict[tuple[str, int], Mutant] = {}
    for mutant in every:
        lines.setdefault((mutant.file, mutant.line), mutant)
    return list(lines.values())[:count]


@cache
def importers() -> dict[str, set[Path]]:
    """Every module of the product -> the test files that import it themselves."""
    found: dict[str, set[Path]] = {}
    for path in sorted((rooms.PROJECT / "tests").rglob("test_*.py")):
        for node in ast.walk(rooms.tree_of(path)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kofagent."):
                for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                    found.setdefault(name, set()).add(path)
    return found


def suite(room: str, file: str = "") -> list[str]:
    """The test files of a room: those that import the module of `file` first.

    Components know nothing of each other, so that the tests of the component are enough.
    """
    top, _, rest = room.partition("/")
    if top in rooms.COMPONENT_ROOMS and not rest and file:
        narrow = suite(f"{top}/{Path(file).parts[2].removesuffix('.py')}", file)
        return narrow or suite(f"{top}/", file)
    folder = rooms.PROJECT / "tests" / top
    if rest:
        mine = {*folder.glob(f"{rest}/**/test_*.py"), *folder.glob(f"test_{rest}*.py")}
    else:
        mine = set(folder.rglob("test_*.py"))
    near = _near(file) if file else set()
    return [str(p.relative_to(rooms.PROJECT)) for p in (*sorted(mine & near), *sorted(mine - near))]


def _near(file: str) -> set[Path]:
    return importers().get(rooms.module_of(rooms.PROJECT / file, rooms.ROOT), set())


def _users(file: str) -> list[str]:
    """The test files of some components that are made of a module."""
    module = rooms.module_of(rooms.PROJECT / file, rooms.ROOT)
    users = {}
    for path in rooms.files(rooms.ROOT):
        of, *rest = path.relative_to(rooms.ROOT).parts
        if of in rooms.COMPONENT_ROOMS and module in {name for name, _, _ in rooms.imports(path, rooms.ROOT)}:
            users[f"{of}/{rest[0].removesuffix('.py')}"] = None
    return [test for user in list(users)[:OTHERS] for test in suite(user)]


def units(room: str, file: str) -> list[tuple[tuple[str, ...], list[str]]]:
    """Where tests of a file are looked for, until one fails: (folders or files that are run together, the files asked among them).

    The room's own, then the laws that hold for every component if it is about components, then a few of other rooms: those that
    import it, and those of components that do.
    """
    top = Path(file).parts[1].removesuffix(".py")
    own = f"tests/{top}"
    found: list[tuple[tuple[str, ...], list[str]]] = [((own,), [own])] if (rooms.PROJECT / own).is_dir() else []
    if top in (*rooms.COMPONENT_ROOMS, "component"):
        found.append((LAWS, list(LAWS)))
    near = sorted(str(p.relative_to(rooms.PROJECT)) for p in _near(file))
    elsewhere = [path for path in near if path not in LAWS and not path.startswith((f"{own}/", "tests/e2e", "tests/helm"))]
    others: dict[str, list[str]] = {}
    for path in dict.fromkeys([*elsewhere[:OTHERS], *([] if top in rooms.COMPONENT_ROOMS else _users(file))]):
        others.setdefault("/".join(Path(path).parts[:2]), []).append(path)
    return [*found, *(((unit,), files) for unit, files in others.items())]
